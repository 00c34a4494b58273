//! Load generator of the push service: holds connections, publishes, and checks every
//! message that every subscriber gets.
//!
//! - `options` has the command line; `client` is a connection that comes back;
//! - `subscriber` and `publisher` are the two kinds of clients, a coroutine each;
//! - `latency` counts times, `process` looks at the service's process.

mod client;
mod latency;
mod options;
mod process;
mod publisher;
mod subscriber;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crore::sync::Semaphore;
use crore::{CancelToken, JoinSet, Runtime};
use serde_json::json;

use latency::Latency;
use options::{HELP, Options};
use process::Process;

/// What all clients share.
pub struct Load {
    options: Options,
    /// Times are counted from here.
    begun: Instant,
    /// Clients that are where they have to be before the next step.
    ready: AtomicUsize,
    /// Publishers begin.
    publish: AtomicBool,
    /// Publishers end.
    stop: AtomicBool,
    /// The offset of the last message that was acknowledged, by channel.
    acknowledged: Vec<AtomicU64>,
    /// The offset of the last message that came, by subscriber.
    reached: Vec<AtomicU64>,
    /// So many clients connect at a time.
    connecting: Semaphore,
    latency: Latency,
    deliveries: AtomicU64,
    published: AtomicU64,
    reconnects: AtomicU64,
    /// The first few faults, in words.
    faults: Mutex<Vec<String>>,
    /// Subscribers read until this.
    end: CancelToken,
}

impl Load {
    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap();
        if faults.len() < 20 {
            faults.push(what);
        }
    }
}

/// What a subscriber has seen that must not be.
#[derive(Clone, Copy, Default)]
struct Seen {
    lost: u64,
    twice: u64,
    disordered: u64,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was right.
fn run(options: Options) -> io::Result<bool> {
    let runtime = Runtime::builder().workers(options.workers).build()?;
    let load = Arc::new(Load {
        begun: Instant::now(),
        ready: AtomicUsize::new(0),
        publish: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        acknowledged: (0..options.channels).map(|_| AtomicU64::new(0)).collect(),
        reached: (0..options.connections)
            .map(|_| AtomicU64::new(0))
            .collect(),
        connecting: Semaphore::new(64),
        latency: Latency::default(),
        deliveries: AtomicU64::new(0),
        published: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
        faults: Mutex::default(),
        end: CancelToken::new(),
        options,
    });
    runtime.run(|| drive(&load))?
}

fn drive(load: &Arc<Load>) -> io::Result<bool> {
    let options = &load.options;
    let process = options.pid.map(Process);
    let before = process.map(Process::resident).transpose()?;

    let mut subscribers = JoinSet::new();
    for number in 0..options.connections {
        let load = load.clone();
        subscribers.spawn(move || subscriber::run(&load, number));
    }
    await_all(load, options.connections, "connected")?;
    crore::sleep(options.settle);
    let bytes = process.map(Process::resident).transpose()?;
    let bytes = bytes.zip(before).map(|(after, before)| {
        after.saturating_sub(before) as f64 / options.connections.max(1) as f64
    });

    load.ready.store(0, Ordering::Relaxed);
    let mut publishers = JoinSet::new();
    if !options.seconds.is_zero() {
        for channel in 0..options.channels {
            let load = load.clone();
            publishers.spawn(move || publisher::run(&load, channel));
        }
        await_all(load, options.channels, "publishers")?;
    }
    let cpu = process.map(Process::processor_time).transpose()?;
    let begun = Instant::now();
    load.publish.store(true, Ordering::Relaxed);
    if options.stdin {
        let end = crore::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
        // Either end is one.
        let _ = end.join_timeout(options.seconds);
    } else {
        crore::sleep(options.seconds);
    }
    let deliveries = load.deliveries.load(Ordering::Relaxed);
    let took = begun.elapsed();
    let cpu_after = process.map(Process::processor_time).transpose()?;
    load.stop.store(true, Ordering::Relaxed);
    for result in publishers.join_all() {
        result.map_err(|_| io::Error::other("a publisher failed"))?;
    }
    let late = await_goals(load);
    load.end.cancel();
    let mut sum = Seen {
        lost: late,
        ..Seen::default()
    };
    for result in subscribers.join_all() {
        let seen = result.map_err(|_| io::Error::other("a subscriber failed"))?;
        sum.lost += seen.lost;
        sum.twice += seen.twice;
        sum.disordered += seen.disordered;
    }
    let faults = load.faults.lock().unwrap();
    let right = sum.lost + sum.twice + sum.disordered == 0 && faults.is_empty();
    let cpu = cpu
        .zip(cpu_after)
        .map(|(before, after)| (after - before).as_secs_f64() * 1e6 / deliveries.max(1) as f64);
    println!(
        "{}",
        json!({
            "connections": options.connections,
            "channels": options.channels,
            "published": load.published.load(Ordering::Relaxed),
            "deliveries": load.deliveries.load(Ordering::Relaxed),
            "lost": sum.lost,
            "twice": sum.twice,
            "disordered": sum.disordered,
            "reconnects": load.reconnects.load(Ordering::Relaxed),
            "seconds": took.as_secs_f64(),
            "deliveries_per_second": (deliveries as f64 / took.as_secs_f64()).round(),
            "p50_us": load.latency.quantile(0.5).map(|time| time.as_micros() as u64),
            "p99_us": load.latency.quantile(0.99).map(|time| time.as_micros() as u64),
            "user_bytes_per_connection": bytes.map(f64::round),
            "server_cpu_us_per_delivery": cpu,
            "faults": *faults,
        })
    );
    Ok(right)
}

/// How long the service may take for what it has to do.
const PATIENCE: Duration = Duration::from_secs(120);

fn await_all(load: &Load, count: usize, what: &str) -> io::Result<()> {
    let begun = Instant::now();
    while load.ready.load(Ordering::Relaxed) < count {
        if begun.elapsed() > PATIENCE {
            let ready = load.ready.load(Ordering::Relaxed);
            let faults = load.faults.lock().unwrap().join("; ");
            let why = format!("only {ready} of {count} {what}: {faults}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        crore::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits until every subscriber has what was acknowledged. How many messages are missing.
fn await_goals(load: &Load) -> u64 {
    let begun = Instant::now();
    loop {
        let missing = (0..load.options.connections).map(|number| {
            let goal = &load.acknowledged[number % load.options.channels];
            let goal = goal.load(Ordering::Relaxed);
            goal.saturating_sub(load.reached[number].load(Ordering::Relaxed))
        });
        let missing = missing.sum();
        if missing == 0 || begun.elapsed() > PATIENCE {
            return missing;
        }
        crore::sleep(Duration::from_millis(5));
    }
}
