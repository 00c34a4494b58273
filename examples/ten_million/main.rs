//! Ten million coroutines in one process, each parked several calls deep.
//!
//! ```text
//! cargo run --release --example ten_million -- --coroutines 10000000
//! ```
//!
//! Spawns them on shared stacks, resumes all of them in order and in random
//! order, and looks at every value in every frame after every resume. Then it
//! lets them return through all their calls and end, and shows that the
//! memory is back. With `--serve` it serves echo beside them instead (`serve.rs`).
//! `--json` adds a last line for machines.
//!
//! Times are wall time a coroutine; where a step is repeated, of the fastest
//! round, with all rounds beside it.

mod args;
#[path = "../echo/bar.rs"]
mod bar;
mod deep;
#[path = "../echo/digits.rs"]
mod digits;
#[path = "../echo/json.rs"]
mod json;
mod process;
mod report;
mod serve;

use std::io;
use std::time::{Duration, Instant};

use crore::{CoroutineId, Handle, Runtime};

use args::Args;
use deep::Tally;
use report::{Progress, Report};

/// Spawned in one go before they run: few, so that their closures are gone
/// before the next are made.
const BATCH: usize = 1000;

/// Bytes of a level's frame at most, in builds without optimisation.
const DEEPEST_LEVEL: usize = 1024;

fn main() -> io::Result<()> {
    let Some(args) = Args::parse().map_err(io::Error::other)? else {
        return Ok(());
    };
    if let Some(client) = args.client {
        return serve::load(client, args.connections, args.seconds);
    }
    let args = args.clamp_to_memory(process::available()?);
    let runtime = Runtime::builder()
        .shared_stacks(
            args.stacks,
            (args.depth as usize * DEEPEST_LEVEL).max(1 << 20),
        )
        .max_coroutines((args.coroutines + args.connections) as u32 + 9)
        .build()?;
    if args.serve {
        let served = runtime.run(|| serve::serve(&args))??;
        served.print(args.json);
        return match served.verified {
            true => Ok(()),
            false => Err(io::Error::other("a value was lost: see above")),
        };
    }
    let handle = runtime.handle();
    let report = runtime.run(|| measure(&args, &handle))??;
    report.print(args.json);
    if report.verified && report.returned() {
        Ok(())
    } else {
        Err(io::Error::other("a value or memory was lost: see above"))
    }
}

fn measure(args: &Args, runtime: &Handle) -> io::Result<Report> {
    let mut report = Report::new(args, process::resident()?);
    deep::begin(args.depth);
    let n = args.coroutines;

    let mut ids = spawn_all(args, &mut report);
    report.verified &= Tally::take().is_all(n);
    // The counters are of the last look at the kernel.
    let turns = runtime.metrics().turns;
    while runtime.metrics().turns == turns {
        crore::sleep(Duration::from_millis(1));
    }
    let metrics = runtime.metrics();
    report.parked(process::resident()?, &metrics);

    for round in 1..=args.rounds {
        let progress = Progress::new(format!("in order, round {round}"), n);
        report.in_order.push(resume_all(&ids, &mut report.verified));
        progress.finish();
    }
    shuffle(&mut ids);
    for round in 1..=args.rounds {
        let progress = Progress::new(format!("random order, round {round}"), n);
        report.random.push(resume_all(&ids, &mut report.verified));
        progress.finish();
    }

    let progress = Progress::new("return and end".into(), n);
    deep::end_all();
    report.end = resume_all(&ids, &mut report.verified);
    report.verified &= deep::returned() == n as u64;
    progress.finish();
    drop(ids);
    // An idle worker lets go of its queue.
    let turns = runtime.metrics().turns;
    while runtime.metrics().turns == turns {
        crore::sleep(Duration::from_millis(1));
    }
    report.after = process::resident()?;
    Ok(report)
}

/// Spawns them in batches, so that "spawned" and "ran for the first time" can
/// be told apart. Of each coroutine only its id is kept.
fn spawn_all(args: &Args, report: &mut Report) -> Vec<CoroutineId> {
    let n = args.coroutines;
    let mut ids = Vec::with_capacity(n);
    let (mut spawning, mut running) = (Duration::ZERO, Duration::ZERO);
    let progress = Progress::new("spawn and first run".into(), n);
    while ids.len() < n {
        let batch = BATCH.min(n - ids.len());
        let start = Instant::now();
        for _ in 0..batch {
            let number = ids.len() as u64;
            // SAFETY: the references into its frames are used by the coroutine
            // itself only; the number is its own.
            let spawned = unsafe { crore::spawn_shared(move || deep::coroutine(number)) };
            ids.push(spawned.coroutine().id());
        }
        let spawned = Instant::now();
        crore::yield_now();
        spawning += spawned - start;
        running += spawned.elapsed();
    }
    progress.finish();
    report.spawn = spawning.as_nanos() as f64 / n as f64;
    report.first_run = running.as_nanos() as f64 / n as f64;
    ids
}

/// Unparks all, then lets them run; the time is that of the runs alone.
fn resume_all(ids: &[CoroutineId], verified: &mut bool) -> f64 {
    ids.iter().for_each(|id| id.unpark());
    let start = Instant::now();
    crore::yield_now();
    let time = start.elapsed();
    *verified &= Tally::take().is_all(ids.len());
    time.as_nanos() as f64 / ids.len() as f64
}

/// Fisher and Yates, with Marsaglia's xorshift.
fn shuffle(ids: &mut [CoroutineId]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..ids.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        ids.swap(i, (random % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of the program, small: every value is looked at, and a value that
    /// is missing is missed.
    #[test]
    fn a_few_thousand_at_several_depths() {
        for depth in [1, 2, 3, 40] {
            let args = Args {
                coroutines: 2500,
                stacks: 2,
                depth,
                rounds: 2,
                json: true,
                serve: false,
                connections: 1,
                seconds: 1,
                client: None,
            };
            let runtime = Runtime::builder()
                .shared_stacks(2, 1 << 20)
                .build()
                .unwrap();
            let handle = runtime.handle();
            let report = runtime.run(|| measure(&args, &handle)).unwrap().unwrap();
            assert!(report.verified, "depth {depth}");
            assert_eq!((report.in_order.len(), report.random.len()), (2, 2));
            report.print(true);
        }
    }

    #[test]
    fn a_shuffle_keeps_every_id_once() {
        let ids = crore::run(|| {
            let mut ids: Vec<_> = (0..100)
                .map(|_| crore::spawn(|| ()).coroutine().id())
                .collect();
            let before = ids.clone();
            shuffle(&mut ids);
            assert_ne!(ids, before);
            (ids, before)
        });
        let (mut sorted, mut before) = ids.unwrap();
        sorted.sort_unstable();
        before.sort_unstable();
        assert_eq!(sorted, before);
    }
}
