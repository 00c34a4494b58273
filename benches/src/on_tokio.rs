//! The same workloads on tokio, one thread.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::{spawn, time};

use super::{NEVER, deadline, processor_time};

fn run(f: impl Future<Output = Duration>) -> Duration {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("this thread can run tasks")
        .block_on(f)
}

/// See [`on_crore`](super::on_crore::yields); and so on.
pub fn yields(tasks: u64, rounds: u64) -> Duration {
    run(async move {
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                spawn(async move {
                    yield_now().await;
                    let start = Instant::now();
                    let mut count = 0;
                    for _ in 0..rounds {
                        yield_now().await;
                        count += 1;
                    }
                    (count, start.elapsed())
                })
            })
            .collect();
        let (mut done, mut time) = (0, Duration::ZERO);
        for task in all {
            let (count, elapsed) = task.await.unwrap();
            done += count;
            time = elapsed;
        }
        assert_eq!(done, tasks * rounds);
        time
    })
}

/// One after the other.
pub fn spawn_join(n: u64) -> Duration {
    run(async move {
        assert_eq!(spawn(async { 1 }).await.unwrap(), 1);
        let start = Instant::now();
        let mut sum = 0;
        for i in 0..n {
            sum += spawn(async move { i }).await.unwrap();
        }
        let time = start.elapsed();
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// Batch by batch.
pub fn spawn_join_batch(size: u64, batches: u64) -> Duration {
    run(async move {
        let mut all = Vec::with_capacity(size as usize);
        let mut start = Instant::now();
        let mut sum = 0;
        for batch in 0..=batches {
            if batch == 1 {
                (start, sum) = (Instant::now(), 0); // the first one was for warmth
            }
            all.extend((0..size).map(|i| spawn(async move { i })));
            for task in all.drain(..) {
                sum += task.await.unwrap();
            }
        }
        let time = start.elapsed();
        assert_eq!(sum, batches * (size * (size - 1) / 2));
        time
    })
}

/// Of those that have ended.
pub fn joins(n: u64) -> Duration {
    run(async move {
        let all: Vec<_> = (0..n).map(|i| spawn(async move { i })).collect();
        while !all.iter().all(|task| task.is_finished()) {
            yield_now().await;
        }
        let start = Instant::now();
        let mut sum = 0;
        for task in all {
            sum += task.await.unwrap();
        }
        let time = start.elapsed();
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
    let start = Instant::now();
    let counts = (ping_task.await.unwrap(), pong_task.await.unwrap());
    let time = start.elapsed();
    assert_eq!(counts, (n, n));
    time
}

/// Wake-ups without timers.
pub fn ping_pong(n: u64) -> Duration {
    run(there_and_back(n, |notify| async move {
        notify.notified().await
    }))
}

/// Each wait sets a timer and takes it back.
pub fn timer_cancel(n: u64) -> Duration {
    run(there_and_back(n, |notify| async move {
        time::timeout(NEVER, notify.notified())
            .await
            .expect("an hour has not passed");
    }))
}

/// Processor time.
pub fn sleepers(n: u64) -> Duration {
    async fn once(n: u64) {
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|i| {
                spawn(async move {
                    let at = deadline(begin, i);
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
    run(async move {
        once(n).await;
        let start = processor_time();
        once(n).await;
        processor_time() - start
    })
}
