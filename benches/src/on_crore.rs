//! The workloads on crore.

use std::time::{Duration, Instant};

use crore::{Builder, JoinHandle, spawn};

use super::{NEVER, deadline, processor_time};

fn run(f: impl FnOnce() -> Duration) -> Duration {
    crore::run(f).expect("this thread can run coroutines")
}

fn spawn_small<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let builder = Builder::new().stack_size(32 * 1024);
    builder.spawn(f).expect("there is room")
}

/// `tasks` coroutines that each yield `rounds` times, taking turns. The last
/// one holds the clock, so that neither starts nor ends are in its time.
pub fn yields(tasks: u64, rounds: u64) -> Duration {
    run(|| {
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                spawn_small(move || {
                    crore::yield_now(); // all have started
                    let start = Instant::now();
                    let mut count = 0;
                    for _ in 0..rounds {
                        crore::yield_now();
                        count += 1;
                    }
                    (count, start.elapsed())
                })
            })
            .collect();
        let (mut done, mut time) = (0, Duration::ZERO);
        for task in all {
            let (count, elapsed) = task.join().unwrap();
            done += count;
            time = elapsed;
        }
        assert_eq!(done, tasks * rounds);
        time
    })
}

/// One after the other: spawn, wait for the end.
pub fn spawn_join(n: u64) -> Duration {
    run(|| {
        assert_eq!(spawn(|| 1u64).join().unwrap(), 1);
        let start = Instant::now();
        let sum: u64 = (0..n).map(|i| spawn(move || i).join().unwrap()).sum();
        let time = start.elapsed();
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// `size` are spawned, then joined; so many `batches` of them.
pub fn spawn_join_batch(size: u64, batches: u64) -> Duration {
    run(|| {
        let mut all = Vec::with_capacity(size as usize);
        let mut batch = || -> u64 {
            all.extend((0..size).map(|i| spawn(move || i)));
            all.drain(..).map(|task| task.join().unwrap()).sum()
        };
        batch();
        let start = Instant::now();
        let sum: u64 = (0..batches).map(|_| batch()).sum();
        let time = start.elapsed();
        assert_eq!(sum, batches * (size * (size - 1) / 2));
        time
    })
}

/// Joins alone, of those that have ended.
pub fn joins(n: u64) -> Duration {
    run(|| {
        let all: Vec<_> = (0..n).map(|i| spawn(move || i)).collect();
        crore::yield_now(); // all run to their end
        assert!(all.iter().all(JoinHandle::is_finished));
        let start = Instant::now();
        let sum: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
        let time = start.elapsed();
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// Two that wake each other in turns, `n` times there and back.
fn there_and_back(n: u64, wait: fn()) -> Duration {
    run(|| {
        let (send, receive) = std::sync::mpsc::channel::<crore::CoroutineId>();
        let pong = spawn(move || {
            let peer = receive.recv().expect("sent before the first run");
            let mut count = 0u64;
            for _ in 0..n {
                wait();
                count += 1;
                peer.unpark();
            }
            count
        });
        let peer = pong.coroutine().id();
        let ping = spawn(move || {
            let mut count = 0u64;
            for _ in 0..n {
                peer.unpark();
                wait();
                count += 1;
            }
            count
        });
        send.send(ping.coroutine().id()).expect("pong has not run");
        let start = Instant::now();
        let counts = (ping.join().unwrap(), pong.join().unwrap());
        let time = start.elapsed();
        assert_eq!(counts, (n, n));
        time
    })
}

/// Wake-ups without timers.
pub fn ping_pong(n: u64) -> Duration {
    there_and_back(n, crore::park)
}

/// Each wait sets a timer that never fires, and takes it back.
pub fn timer_cancel(n: u64) -> Duration {
    there_and_back(n, || crore::park_timeout(NEVER))
}

/// Processor time for `n` that are spawned, sleep, wake and are joined, on
/// stacks that were used before.
pub fn sleepers(n: u64) -> Duration {
    run(|| {
        let once = || {
            let begin = Instant::now();
            let all: Vec<_> = (0..n)
                .map(|i| {
                    spawn(move || {
                        let at = deadline(begin, i);
                        crore::sleep_until(at);
                        u64::from(Instant::now() >= at)
                    })
                })
                .collect();
            let awake: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
            assert_eq!(awake, n);
        };
        once();
        let start = processor_time();
        once();
        processor_time() - start
    })
}
