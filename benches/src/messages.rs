//! The workloads of `crore_peers::messages` on coroutines that are on two
//! workers for certain, and what a second worker adds.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crore::sync::channel::bounded;
use crore_peers::messages::{CAPACITY, drain, ping, pong};

/// The time of two coroutines on one or on two workers.
fn time(
    workers: usize,
    one: impl FnOnce() + Send + 'static,
    other: impl FnOnce() + Send + 'static,
) -> Duration {
    let runtime = crore::Runtime::builder().workers(workers).build();
    let runtime = runtime.expect("workers can be had");
    let both = move || {
        let start = Instant::now();
        let other = if workers == 1 {
            crore::spawn_local(other)
        } else {
            elsewhere(other)
        };
        let one = crore::spawn_local(one);
        one.join().unwrap();
        other.join().unwrap();
        start.elapsed()
    };
    runtime.run(both).expect("this thread can run coroutines")
}

/// Spawns, and computes until another worker has started it.
fn elsewhere(f: impl FnOnce() + Send + 'static) -> crore::JoinHandle<()> {
    let started = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&started);
    let handle = crore::spawn(move || {
        theirs.store(true, Ordering::Relaxed);
        f();
    });
    while !started.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    handle
}

/// Messages in turns, `n` times there and back.
pub fn ping_pong(workers: usize, n: u64) -> Duration {
    let (to, inbox) = bounded(1);
    let (back, outbox) = bounded(1);
    time(
        workers,
        move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
        move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
    )
}

/// Messages one way.
pub fn stream(workers: usize, n: u64) -> Duration {
    let (to, inbox) = bounded(CAPACITY);
    time(
        workers,
        move || crore_peers::messages::stream(n, |i| to.send(i).unwrap()),
        move || drain(n, || inbox.recv().unwrap()),
    )
}

/// So many coroutines that yield, spread over so many workers.
pub fn yields(workers: usize, tasks: u64, rounds: u64) -> Duration {
    let runtime = crore::Runtime::builder().workers(workers).build();
    let runtime = runtime.expect("workers can be had");
    let each = tasks / workers as u64;
    // One on each worker spawns the others there.
    let crowd = move || {
        let all: Vec<_> = (0..each)
            .map(|_| {
                crore::spawn_local(move || {
                    let mut count = 0;
                    for _ in 0..rounds {
                        crore::yield_now();
                        count += 1;
                    }
                    assert_eq!(black_box(count), rounds);
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    };
    let all = move || {
        let start = Instant::now();
        let others: Vec<_> = (1..workers).map(|_| elsewhere(crowd)).collect();
        crowd();
        others.into_iter().for_each(|one| one.join().unwrap());
        start.elapsed()
    };
    runtime.run(all).expect("this thread can run coroutines")
}
