//! The workloads on tokio: its current_thread runtime, or the multi-threaded
//! one with so many workers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::yield_now;
use tokio::{spawn, time};

use crate::clock::{Gate, now, processor_time};
use crate::process::memory;
use crate::subject::Outcome::{Bytes, Took};
use crate::subject::{Work, Workload};
use crate::{NAP, NEVER, WARM_UPS, deadline, late, messages};

fn run<T: Send + 'static>(workers: usize, f: impl Future<Output = T> + Send + 'static) -> T {
    use tokio::runtime::Builder;
    if workers == 1 {
        let runtime = Builder::new_current_thread().enable_time().build();
        return runtime.expect("this thread can run tasks").block_on(f);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .build()
        .expect("threads can be had");
    // On a worker, not on this thread.
    runtime.block_on(async { spawn(f).await.expect("the workload is right") })
}

/// `tasks` that each yield `rounds` times, taking turns.
pub fn yields(workers: usize, tasks: u64, rounds: u64) -> Duration {
    run(workers, async move {
        let gate = Arc::new(Gate::new(tasks));
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                let gate = Arc::clone(&gate);
                spawn(async move {
                    gate.begin();
                    while !gate.is_open() {
                        yield_now().await;
                    }
                    for _ in 1..rounds {
                        yield_now().await;
                    }
                    gate.end();
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        gate.time()
    })
}

/// One after the other.
pub fn spawn_join(workers: usize, n: u64) -> Duration {
    run(workers, async move {
        assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
        let start = now();
        let mut sum = 0;
        for i in 0..n {
            sum += spawn(async move { i }).await.unwrap();
        }
        let time = now() - start;
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// Batch by batch.
pub fn spawn_join_batch(workers: usize, size: u64, batches: u64) -> Duration {
    run(workers, async move {
        let mut all = Vec::with_capacity(size as usize);
        let mut start = now();
        let mut sum = 0;
        for batch in 0..=batches {
            if batch == 1 {
                (start, sum) = (now(), 0); // the first one was for warmth
            }
            all.extend((0..size).map(|i| spawn(async move { i })));
            for task in all.drain(..) {
                sum += task.await.unwrap();
            }
        }
        let time = now() - start;
        assert_eq!(sum, batches * (size * (size - 1) / 2));
        time
    })
}

/// Of those that have ended.
pub fn joins(workers: usize, n: u64) -> Duration {
    run(workers, async move {
        let all: Vec<_> = (0..n).map(|i| spawn(async move { i })).collect();
        while !all.iter().all(|task| task.is_finished()) {
            yield_now().await;
        }
        let start = now();
        let mut sum = 0;
        for task in all {
            sum += task.await.unwrap();
        }
        let time = now() - start;
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

async fn there_and_back<W: Future<Output = ()> + Send + 'static>(
    n: u64,
    wait: impl Fn(Arc<Notify>) -> W + Copy + Send + 'static,
) -> Duration {
    let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (for_ping, for_pong) = (Arc::clone(&ping), Arc::clone(&pong));
    let pong_task = spawn({
        let (ping, pong) = (Arc::clone(&ping), Arc::clone(&pong));
        async move {
            let mut count = 0;
            for _ in 0..n {
                wait(Arc::clone(&pong)).await;
                count += 1;
                ping.notify_one();
            }
            count
        }
    });
    let ping_task = spawn(async move {
        let mut count = 0;
        for _ in 0..n {
            for_pong.notify_one();
            wait(Arc::clone(&for_ping)).await;
            count += 1;
        }
        count
    });
    let start = now();
    let counts = (ping_task.await.unwrap(), pong_task.await.unwrap());
    let time = now() - start;
    assert_eq!(counts, (n, n));
    time
}

/// Wake-ups without timers.
pub fn ping_pong(workers: usize, n: u64) -> Duration {
    run(
        workers,
        there_and_back(n, |notify| async move { notify.notified().await }),
    )
}

/// Each wait sets a timer and takes it back.
pub fn timer_cancel(workers: usize, n: u64) -> Duration {
    run(
        workers,
        there_and_back(n, |notify| async move {
            time::timeout(NEVER, notify.notified())
                .await
                .expect("an hour has not passed");
        }),
    )
}

/// Processor time.
pub fn sleepers(workers: usize, n: u64) -> Duration {
    burst(workers, n, deadline)
}

pub fn naps(workers: usize, n: u64) -> Duration {
    burst(workers, n, |_, _| Instant::now() + NAP)
}

fn burst(workers: usize, n: u64, until: fn(Instant, u64) -> Instant) -> Duration {
    async fn once(n: u64, until: fn(Instant, u64) -> Instant) {
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|i| {
                spawn(async move {
                    let at = until(begin, i);
                    time::sleep_until(at.into()).await;
                    u64::from(Instant::now() >= at)
                })
            })
            .collect();
        let mut awake = 0;
        for task in all {
            awake += task.await.unwrap();
        }
        assert_eq!(awake, n);
    }
    run(workers, async move {
        for _ in 0..WARM_UPS {
            once(n, until).await;
        }
        let start = processor_time();
        once(n, until).await;
        processor_time() - start
    })
}

/// `n` that go to sleep at one time, until later than all have.
pub fn timers_set(workers: usize, n: u64) -> Duration {
    run(workers, async move {
        let gate = Arc::new(Gate::new(n));
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|_| {
                let gate = Arc::clone(&gate);
                spawn(async move {
                    gate.begin();
                    while !gate.is_open() {
                        yield_now().await;
                    }
                    gate.end();
                    time::sleep_until(late(begin, gate.tasks()).into()).await;
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        gate.time()
    })
}

/// A lock that `tasks` take `n` times in all, and hold across a wait.
pub fn mutex(workers: usize, tasks: u64, n: u64) -> Duration {
    run(workers, async move {
        let lock = Arc::new(Mutex::new(0_u64));
        let start = now();
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                let lock = Arc::clone(&lock);
                spawn(async move {
                    for _ in 0..n / tasks {
                        let mut held = lock.lock().await;
                        *held += 1;
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in all {
            task.await.unwrap();
        }
        assert_eq!(*lock.lock().await, n / tasks * tasks);
        now() - start
    })
}

/// Bytes of `n` that wait for something that may come.
pub fn parked(workers: usize, n: u64) -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    run(workers, async move {
        let mut senders = Vec::with_capacity(n as usize);
        let before = memory();
        for _ in 0..n {
            let (sender, receiver) = oneshot::channel::<()>();
            senders.push(sender);
            drop(spawn(async {
                STARTED.fetch_add(1, Relaxed);
                let _ = receiver.await;
            }));
        }
        while STARTED.load(Relaxed) < n {
            yield_now().await;
        }
        memory() - before
    })
}

/// The workloads on so many workers.
pub fn work<const WORKERS: usize>(work: Work) -> Option<Workload> {
    Some(match work {
        Work::Yield => |tasks, n| Took(yields(WORKERS, tasks, n / tasks)),
        Work::SpawnJoin => |_, n| Took(spawn_join(WORKERS, n)),
        Work::SpawnBatch => |size, n| Took(spawn_join_batch(WORKERS, size, n / size)),
        Work::Wake => |_, n| Took(ping_pong(WORKERS, n)),
        Work::PingPong => |_, n| Took(messages::on_tokio::ping_pong(WORKERS, n / 2)),
        Work::Stream => |_, n| Took(messages::on_tokio::stream(WORKERS, n)),
        Work::TimerCancel => |_, n| Took(timer_cancel(WORKERS, n)),
        Work::Sleep => |_, n| Took(sleepers(WORKERS, n)),
        Work::Parked => |n, _| Bytes(parked(WORKERS, n)),
    })
}
