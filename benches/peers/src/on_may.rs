//! The workloads on may, with one worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use may::coroutine::{self, JoinHandle};

use crate::clock::{Gate, now, processor_time};
use crate::process::memory;
use crate::subject::Outcome::{Bytes, Took};
use crate::subject::{Work, Workload};
use crate::{NEVER, WARM_UPS, deadline, messages};

/// One worker, which the kernel may move as it may move those of the others.
pub fn configure() {
    may::config().set_workers(1).set_worker_pin(false);
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: what the workloads run uses no thread-locals of its own, and
    // little stack.
    unsafe { coroutine::spawn(f) }
}

fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    configure();
    spawn(f).join().expect("the workload is right")
}

fn yields(tasks: u64, rounds: u64) -> Duration {
    run(move || {
        let gate = Arc::new(Gate::new(tasks));
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                let gate = Arc::clone(&gate);
                spawn(move || {
                    gate.begin();
                    while !gate.is_open() {
                        coroutine::yield_now();
                    }
                    for _ in 1..rounds {
                        coroutine::yield_now();
                    }
                    gate.end();
                })
            })
            .collect();
        all.into_iter().for_each(|task| task.join().unwrap());
        gate.time()
    })
}

fn spawn_join(n: u64) -> Duration {
    run(move || {
        assert_eq!(spawn(|| 1u64).join().unwrap(), 1);
        let start = now();
        let sum: u64 = (0..n).map(|i| spawn(move || i).join().unwrap()).sum();
        let time = now() - start;
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

fn spawn_join_batch(size: u64, batches: u64) -> Duration {
    run(move || {
        let mut all = Vec::with_capacity(size as usize);
        let mut batch = || -> u64 {
            all.extend((0..size).map(|i| spawn(move || i)));
            all.drain(..).map(|task| task.join().unwrap()).sum()
        };
        batch();
        let start = now();
        let sum: u64 = (0..batches).map(|_| batch()).sum();
        let time = now() - start;
        assert_eq!(sum, batches * (size * (size - 1) / 2));
        time
    })
}

fn there_and_back(n: u64, wait: fn()) -> Duration {
    run(move || {
        let pong = spawn(move || {
            let peer = receive_peer();
            for _ in 0..n {
                wait();
                peer.unpark();
            }
        });
        let peer = pong.coroutine().clone();
        let ping = spawn(move || {
            for _ in 0..n {
                peer.unpark();
                wait();
            }
        });
        send_peer(ping.coroutine().clone());
        let start = now();
        ping.join().unwrap();
        pong.join().unwrap();
        now() - start
    })
}

static PEER: std::sync::Mutex<Option<coroutine::Coroutine>> = std::sync::Mutex::new(None);

fn send_peer(peer: coroutine::Coroutine) {
    *PEER.lock().unwrap() = Some(peer);
}

fn receive_peer() -> coroutine::Coroutine {
    loop {
        if let Some(peer) = PEER.lock().unwrap().take() {
            return peer;
        }
        coroutine::yield_now();
    }
}

fn ping_pong(n: u64) -> Duration {
    run(move || {
        let (to, inbox) = may::sync::mpsc::channel();
        let (back, outbox) = may::sync::mpsc::channel();
        let start = now();
        let one =
            spawn(move || messages::ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()));
        let other =
            spawn(move || messages::pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()));
        one.join().unwrap();
        other.join().unwrap();
        now() - start
    })
}

fn sleepers(n: u64) -> Duration {
    fn once(n: u64) {
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|i| {
                spawn(move || {
                    let at = deadline(begin, i);
                    coroutine::sleep(at.saturating_duration_since(Instant::now()));
                    u64::from(Instant::now() >= at)
                })
            })
            .collect();
        let awake: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
        assert_eq!(awake, n);
    }
    run(move || {
        (0..WARM_UPS).for_each(|_| once(n));
        let start = processor_time();
        once(n);
        processor_time() - start
    })
}

fn parked(n: u64) -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    run(move || {
        let mut all = Vec::with_capacity(n as usize);
        let before = memory();
        all.extend((0..n).map(|_| {
            let task = spawn(|| {
                STARTED.fetch_add(1, Relaxed);
                coroutine::park();
            });
            task.coroutine().clone()
        }));
        // Who yields here is run again before any that has not started.
        while STARTED.load(Relaxed) < n {
            coroutine::sleep(Duration::from_millis(1));
        }
        let bytes = memory() - before;
        all.iter().for_each(coroutine::Coroutine::unpark);
        bytes
    })
}

/// All but the stream: may's channels have no bound.
pub fn work(work: Work) -> Option<Workload> {
    Some(match work {
        Work::Yield => |tasks, n| Took(yields(tasks, n / tasks)),
        Work::SpawnJoin => |_, n| Took(spawn_join(n)),
        Work::SpawnBatch => |size, n| Took(spawn_join_batch(size, n / size)),
        Work::Wake => |_, n| Took(there_and_back(n, coroutine::park)),
        Work::PingPong => |_, n| Took(ping_pong(n / 2)),
        Work::TimerCancel => |_, n| Took(there_and_back(n, || coroutine::park_timeout(NEVER))),
        Work::Sleep => |_, n| Took(sleepers(n)),
        Work::Parked => |n, _| Bytes(parked(n)),
        Work::Stream => return None,
    })
}
