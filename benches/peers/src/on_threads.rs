//! The workloads on threads of `std`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::{Gate, now, processor_time};
use crate::process::{memory, pin_to_one_processor};
use crate::subject::Outcome::{Bytes, Took};
use crate::subject::{Work, Workload};
use crate::{NEVER, WARM_UPS, deadline, messages};

/// With the smallest stack that all systems take, because there are many.
fn spawn_small<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let builder = thread::Builder::new().stack_size(64 * 1024);
    builder.spawn(f).expect("there is room")
}

/// On one processor: threads on several don't take turns.
fn yields(tasks: u64, rounds: u64) -> Duration {
    pin_to_one_processor();
    let gate = Gate::new(tasks);
    thread::scope(|scope| {
        for _ in 0..tasks {
            scope.spawn(|| {
                gate.begin();
                while !gate.is_open() {
                    thread::yield_now();
                }
                for _ in 1..rounds {
                    thread::yield_now();
                }
                gate.end();
            });
        }
    });
    gate.time()
}

fn spawn_join(n: u64) -> Duration {
    let start = now();
    let sum: u64 = (0..n).map(|i| spawn_small(move || i).join().unwrap()).sum();
    let time = now() - start;
    assert_eq!(sum, n * n.saturating_sub(1) / 2);
    time
}

fn spawn_join_batch(size: u64, batches: u64) -> Duration {
    let mut all = Vec::with_capacity(size as usize);
    let mut batch = || -> u64 {
        all.extend((0..size).map(|i| spawn_small(move || i)));
        all.drain(..).map(|task| task.join().unwrap()).sum()
    };
    let start = now();
    let sum: u64 = (0..batches).map(|_| batch()).sum();
    let time = now() - start;
    assert_eq!(sum, batches * (size * (size - 1) / 2));
    time
}

fn there_and_back(n: u64, wait: fn()) -> Duration {
    let turn = AtomicU64::new(0);
    let wait_for = |at: u64| {
        while turn.load(Relaxed) != at {
            wait();
        }
    };
    let here = thread::current();
    thread::scope(|scope| {
        let pong = scope.spawn(|| {
            for i in 0..n {
                wait_for(2 * i + 1);
                turn.store(2 * i + 2, Relaxed);
                here.unpark();
            }
        });
        let start = now();
        for i in 0..n {
            turn.store(2 * i + 1, Relaxed);
            pong.thread().unpark();
            wait_for(2 * i + 2);
        }
        now() - start
    })
}

fn sleepers(n: u64) -> Duration {
    let once = || {
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|i| {
                spawn_small(move || {
                    let at = deadline(begin, i);
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                    u64::from(Instant::now() >= at)
                })
            })
            .collect();
        let awake: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
        assert_eq!(awake, n);
    };
    (0..WARM_UPS).for_each(|_| once());
    let start = processor_time();
    once();
    processor_time() - start
}

fn parked(n: u64) -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let mut all = Vec::with_capacity(n as usize);
    let before = memory();
    all.extend((0..n).map(|_| {
        spawn_small(|| {
            STARTED.fetch_add(1, Relaxed);
            thread::park();
        })
    }));
    while STARTED.load(Relaxed) < n {
        thread::yield_now();
    }
    let bytes = memory() - before;
    for thread in all {
        thread.thread().unpark();
        thread.join().unwrap();
    }
    bytes
}

/// All of them.
pub fn work(work: Work) -> Option<Workload> {
    Some(match work {
        Work::Yield => |tasks, n| Took(yields(tasks, n / tasks)),
        Work::SpawnJoin => |_, n| Took(spawn_join(n)),
        Work::SpawnBatch => |size, n| Took(spawn_join_batch(size, n / size)),
        Work::Wake => |_, n| Took(there_and_back(n, thread::park)),
        Work::PingPong => |_, n| Took(messages::on_std::ping_pong(n / 2)),
        Work::Stream => |_, n| Took(messages::on_std::stream(n)),
        Work::TimerCancel => |_, n| Took(there_and_back(n, || thread::park_timeout(NEVER))),
        Work::Sleep => |_, n| Took(sleepers(n)),
        Work::Parked => |n, _| Bytes(parked(n)),
    })
}
