//! Messages through channels: coroutines of one worker and of two, beside
//! tokio's tasks, and threads with the channels of `std` and of flume.
//!
//! Two workloads. **Ping-pong**: two that answer each other through channels
//! of capacity one; nothing is ever in flight but one message, so each costs a
//! wake-up and a wait. **Stream**: one sends, one receives, with a capacity of
//! [`CAPACITY`].

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Room in a stream's channel.
pub const CAPACITY: usize = 128;

/// Sends `n` and wants each back, one more.
fn ping(n: u64, send: impl Fn(u64), receive: impl Fn() -> u64) {
    for i in 0..n {
        send(i);
        assert_eq!(receive(), i + 1);
    }
}

fn pong(n: u64, send: impl Fn(u64), receive: impl Fn() -> u64) {
    (0..n).for_each(|_| send(receive() + 1));
}

fn stream(n: u64, send: impl Fn(u64)) {
    (0..n).for_each(send);
}

fn drain(n: u64, receive: impl Fn() -> u64) {
    let sum: u64 = (0..n).map(|_| receive()).sum();
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
}

/// The time of both, the second of which runs on a thread of its own.
fn on_threads(here: impl FnOnce(), there: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let start = Instant::now();
        let there = scope.spawn(there);
        here();
        there.join().unwrap();
        start.elapsed()
    })
}

/// Coroutines.
pub mod on_crore {
    use super::*;
    use crore::sync::channel::bounded;

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

    pub fn ping_pong(workers: usize, n: u64) -> Duration {
        let (to, inbox) = bounded(1);
        let (back, outbox) = bounded(1);
        time(
            workers,
            move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
            move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
        )
    }

    pub fn stream(workers: usize, n: u64) -> Duration {
        let (to, inbox) = bounded(CAPACITY);
        time(
            workers,
            move || super::stream(n, |i| to.send(i).unwrap()),
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
}

/// Tasks: on the current_thread runtime, or on the multi-threaded one.
pub mod on_tokio {
    use super::*;
    use tokio::runtime::Builder;
    use tokio::sync::mpsc::channel;

    fn time(
        workers: usize,
        one: impl Future<Output = ()> + Send + 'static,
        other: impl Future<Output = ()> + Send + 'static,
    ) -> Duration {
        let runtime = if workers == 1 {
            Builder::new_current_thread().build()
        } else {
            Builder::new_multi_thread().worker_threads(workers).build()
        };
        let runtime = runtime.expect("threads can be had");
        runtime.block_on(async {
            let start = Instant::now();
            let (one, other) = (tokio::spawn(one), tokio::spawn(other));
            one.await.unwrap();
            other.await.unwrap();
            start.elapsed()
        })
    }

    pub fn ping_pong(workers: usize, n: u64) -> Duration {
        let (to, mut inbox) = channel(1);
        let (back, mut outbox) = channel(1);
        let ping = async move {
            for i in 0..n {
                to.send(i).await.unwrap();
                assert_eq!(outbox.recv().await, Some(i + 1));
            }
        };
        let pong = async move {
            for _ in 0..n {
                let i: u64 = inbox.recv().await.unwrap();
                back.send(i + 1).await.unwrap();
            }
        };
        time(workers, ping, pong)
    }

    pub fn stream(workers: usize, n: u64) -> Duration {
        let (to, mut inbox) = channel(CAPACITY);
        let stream = async move {
            for i in 0..n {
                to.send(i).await.unwrap();
            }
        };
        let drain = async move {
            let mut sum = 0;
            while let Some(i) = inbox.recv().await {
                sum += i;
            }
            assert_eq!(sum, n * n.saturating_sub(1) / 2);
        };
        time(workers, stream, drain)
    }
}

/// Two threads and the channel of `std`.
pub mod on_std {
    use super::*;
    use std::sync::mpsc::sync_channel;

    pub fn ping_pong(n: u64) -> Duration {
        let (to, inbox) = sync_channel(1);
        let (back, outbox) = sync_channel(1);
        on_threads(
            move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
            move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
        )
    }

    pub fn stream(n: u64) -> Duration {
        let (to, inbox) = sync_channel(CAPACITY);
        on_threads(
            move || super::stream(n, |i| to.send(i).unwrap()),
            move || drain(n, || inbox.recv().unwrap()),
        )
    }
}

/// Two threads and the channel of flume.
pub mod on_flume {
    use super::*;
    use flume::bounded;

    pub fn ping_pong(n: u64) -> Duration {
        let (to, inbox) = bounded(1);
        let (back, outbox) = bounded(1);
        on_threads(
            move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()),
            move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()),
        )
    }

    pub fn stream(n: u64) -> Duration {
        let (to, inbox) = bounded(CAPACITY);
        on_threads(
            move || super::stream(n, |i| to.send(i).unwrap()),
            move || drain(n, || inbox.recv().unwrap()),
        )
    }
}
