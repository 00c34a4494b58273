//! `--serve`: an echo service in the process that has ten million parked coroutines.
//!
//! The load comes from a process of its own, which is this program again. It is put on
//! the service alone, beside the parked ones, and alone again, so that a machine that
//! becomes slower or faster meanwhile shows.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crore::Runtime;
use crore::sync::Barrier;

use crate::args::{Args, Client};
use crate::digits::grouped;
use crate::json::Object;
use crate::process;
use crate::report::{Progress, Report};
use crate::{deep, resume_all, spawn_all};

/// Descriptors for what is not a connection.
const OTHER_FILES: u64 = 100;

/// What a load has shown.
#[derive(Clone, Copy, Default)]
struct Load {
    per_second: f64,
    p99_ms: f64,
    /// Microseconds of the service's processor a request.
    cpu: f64,
}

/// What is printed at the end.
pub(crate) struct Served {
    parked: u64,
    connections: usize,
    alone: Vec<Load>,
    beside: Vec<Load>,
    /// Bytes of the process with all parked, under load.
    memory: u64,
    pub(crate) verified: bool,
}

/// As many connections as are asked for, or as the open files allow.
pub(crate) fn connections_allowed(wanted: usize) -> io::Result<usize> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if wanted > most {
        eprintln!("ten_million: {files} open files are allowed: {most} connections");
    }
    Ok(wanted.min(most))
}

/// The whole measurement, in the main coroutine.
pub(crate) fn serve(args: &Args) -> io::Result<Served> {
    let connections = connections_allowed(args.connections)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let acceptor = crore::spawn_local(move || accept(&listener));
    let load = |what: &str| {
        eprintln!("ten_million: {connections} connections, {what}");
        (0..args.rounds)
            .map(|_| measure(addr, connections, args.seconds))
            .collect::<io::Result<Vec<_>>>()
    };

    let mut alone = load("alone")?;
    deep::begin(args.depth);
    let mut report = Report::new(args, process::resident()?);
    let ids = spawn_all(args, &mut report);
    let mut verified = deep::Tally::take().is_all(ids.len());
    let beside = load("beside the parked ones")?;
    let memory = process::resident()?;
    let progress = Progress::new("look at every value, return and end".into(), ids.len());
    resume_all(&ids, &mut verified);
    deep::end_all();
    resume_all(&ids, &mut verified);
    verified &= deep::returned() == ids.len() as u64;
    progress.finish();
    let parked = ids.len() as u64;
    drop(ids);
    alone.extend(load("alone again")?);
    acceptor.cancel();
    Ok(Served {
        parked,
        connections,
        alone,
        beside,
        memory,
        verified,
    })
}

/// Accepts until it is cancelled, each connection on a shared stack.
fn accept(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        // SAFETY: the coroutine owns its stream, and hands out no reference to its frames.
        drop(unsafe { crore::spawn_shared(move || echo(stream)) });
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// One load, from a process of its own.
fn measure(addr: SocketAddr, connections: usize, seconds: u64) -> io::Result<Load> {
    let before = process::busy()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--client", &addr.to_string()])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let busy = process::busy()? - before;
    let said = String::from_utf8_lossy(&output.stdout);
    let mut numbers = said.split_whitespace().map(|word| word.parse::<f64>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(requests), Some(p99_us)) if output.status.success() && requests > 0.0 => Ok(Load {
            per_second: requests / seconds as f64,
            p99_ms: p99_us / 1_000.0,
            cpu: busy.as_secs_f64() * 1e6 / requests,
        }),
        _ => Err(io::Error::other(format!("the client says {said:?}"))),
    }
}

/// The other process: each connection sends a message and waits for it, over and over.
pub(crate) fn load(client: Client, connections: usize, seconds: u64) -> io::Result<()> {
    connections_allowed(connections)?;
    let runtime = Runtime::builder().shared_stacks(8, 1 << 20).build()?;
    let latencies = runtime.run(|| talk(client.addr, connections, seconds))??;
    println!("{} {}", latencies.len(), latencies.value_at_quantile(0.99));
    Ok(())
}

fn talk(addr: SocketAddr, connections: usize, seconds: u64) -> io::Result<Histogram<u64>> {
    // Microseconds, up to a minute.
    let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
    let shared = Rc::new((RefCell::new(latencies), Barrier::new(connections)));
    let all: Vec<_> = (0..connections)
        .map(|_| {
            let shared = Rc::clone(&shared);
            // SAFETY: the coroutine owns what it uses; what is shared is on the heap.
            unsafe { crore::spawn_shared(move || talk_on(addr, &shared, seconds)) }
        })
        .collect();
    for one in all {
        one.join().map_err(io::Error::from)??;
    }
    let shared = Rc::into_inner(shared).expect("all have ended");
    Ok(shared.0.into_inner())
}

/// All begin when all are connected.
fn talk_on(
    addr: SocketAddr,
    (latencies, begin): &(RefCell<Histogram<u64>>, Barrier),
    seconds: u64,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    begin.wait();
    let mut sent = Instant::now();
    let end = sent + Duration::from_secs(seconds);
    let mut message = [7; 32];
    while sent < end {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        let now = Instant::now();
        let micros = (now - sent).as_micros() as u64;
        latencies.borrow_mut().saturating_record(micros);
        sent = now;
    }
    if message == [7; 32] {
        Ok(())
    } else {
        Err(io::Error::other("another message came back"))
    }
}

impl Served {
    pub(crate) fn print(&self, json: bool) {
        let [alone, beside] = [&self.alone, &self.beside].map(|loads| median(loads));
        println!(
            "an echo service on one thread, {} connections\n",
            grouped(self.connections as u64)
        );
        println!("                              requests/s   p99 ms   µs of processor a request");
        let parked = format!("beside {} parked", grouped(self.parked));
        for (what, load) in [("alone", alone), (&parked, beside)] {
            println!(
                "{what:28} {:12.0} {:8.1} {:12.2}",
                load.per_second, load.p99_ms, load.cpu
            );
        }
        println!(
            "{:28} {:12.3} {:8.2} {:12.3}\n",
            "ratio",
            beside.per_second / alone.per_second,
            beside.p99_ms / alone.p99_ms,
            beside.cpu / alone.cpu
        );
        println!("memory of the process, in all: {} MiB", self.memory >> 20);
        let verified = if self.verified { "yes" } else { "NO" };
        println!("every value right in every parked coroutine: {verified}");
        if json {
            println!("{}", self.json(alone, beside));
        }
    }

    fn json(&self, alone: Load, beside: Load) -> Object<10> {
        Object([
            ("parked", self.parked.into()),
            ("connections", self.connections.into()),
            ("requests_alone", alone.per_second.into()),
            ("requests_beside", beside.per_second.into()),
            ("ratio", (beside.per_second / alone.per_second).into()),
            ("p99_alone_ms", alone.p99_ms.into()),
            ("p99_beside_ms", beside.p99_ms.into()),
            ("cpu_ratio", (beside.cpu / alone.cpu).into()),
            ("rss_bytes", self.memory.into()),
            ("verified", self.verified.into()),
        ])
    }
}

/// Of each figure on its own.
fn median(loads: &[Load]) -> Load {
    let of = |figure: fn(&Load) -> f64| {
        let mut all: Vec<f64> = loads.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Load {
        per_second: of(|load| load.per_second),
        p99_ms: of(|load| load.p99_ms),
        cpu: of(|load| load.cpu),
    }
}
