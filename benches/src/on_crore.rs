//! The workloads on crore: on stacks of their own, on shared stacks, and on
//! two workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crore::sync::channel::bounded;
use crore::{Builder, CoroutineId, JoinHandle, Runtime};
use crore_peers::clock::{Gate, now, processor_time};
use crore_peers::messages::{CAPACITY, drain, ping, pong, stream};
use crore_peers::process::memory;
use crore_peers::subject::Outcome::{Bytes, Took};
use crore_peers::subject::{Work, Workload};
use crore_peers::{NAP, NEVER, WARM_UPS, deadline, late};

/// Where the coroutines of a workload run.
pub trait Kind: 'static {
    const WORKERS: usize;

    /// Spawns with the settings of `builder`.
    fn spawn_with<T: Send + 'static>(
        builder: Builder,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T>;

    fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Self::spawn_with(Builder::new(), f)
    }

    /// On a small stack, because there are many.
    fn spawn_small<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Self::spawn_with(Builder::new().stack_size(32 * 1024), f)
    }
}

/// One worker, a stack for each.
pub struct Own;

/// One worker, shared stacks.
pub struct Shared;

/// Two workers, a stack for each.
pub struct Two;

impl Kind for Own {
    const WORKERS: usize = 1;

    fn spawn_with<T: Send + 'static>(
        builder: Builder,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        builder.spawn(f).expect("there is room")
    }
}

impl Kind for Two {
    const WORKERS: usize = 2;

    fn spawn_with<T: Send + 'static>(
        builder: Builder,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        Own::spawn_with(builder, f)
    }
}

impl Kind for Shared {
    const WORKERS: usize = 1;

    fn spawn_with<T: Send + 'static>(
        builder: Builder,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        // SAFETY: the workloads below hand numbers, handles and channels
        // around, never a reference to what lies in a frame.
        unsafe { builder.spawn_shared(f) }.expect("there is room")
    }
}

fn run<K: Kind, T>(f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().workers(K::WORKERS).build();
    let runtime = runtime.expect("workers can be had");
    runtime.run(f).expect("this thread can run coroutines")
}

/// `tasks` that each yield `rounds` times, taking turns.
pub fn yields<K: Kind>(tasks: u64, rounds: u64) -> Duration {
    run::<K, _>(|| {
        let gate = Arc::new(Gate::new(tasks));
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                let gate = Arc::clone(&gate);
                K::spawn_small(move || {
                    gate.begin();
                    while !gate.is_open() {
                        crore::yield_now();
                    }
                    for _ in 1..rounds {
                        crore::yield_now();
                    }
                    gate.end();
                })
            })
            .collect();
        all.into_iter().for_each(|task| task.join().unwrap());
        gate.time()
    })
}

/// One after the other: spawn, wait for the end.
pub fn spawn_join<K: Kind>(n: u64) -> Duration {
    run::<K, _>(|| {
        assert_eq!(K::spawn(|| 1u64).join().unwrap(), 1);
        let start = now();
        let sum: u64 = (0..n).map(|i| K::spawn(move || i).join().unwrap()).sum();
        let time = now() - start;
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// `size` are spawned, then joined; so many `batches` of them.
pub fn spawn_join_batch<K: Kind>(size: u64, batches: u64) -> Duration {
    run::<K, _>(|| {
        let mut all = Vec::with_capacity(size as usize);
        let mut batch = || -> u64 {
            all.extend((0..size).map(|i| K::spawn(move || i)));
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

/// Joins alone, of those that have ended.
pub fn joins<K: Kind>(n: u64) -> Duration {
    run::<K, _>(|| {
        let all: Vec<_> = (0..n).map(|i| K::spawn(move || i)).collect();
        crore::yield_now(); // all run to their end
        assert!(all.iter().all(JoinHandle::is_finished));
        let start = now();
        let sum: u64 = all.into_iter().map(|task| task.join().unwrap()).sum();
        let time = now() - start;
        assert_eq!(sum, n * n.saturating_sub(1) / 2);
        time
    })
}

/// Two that wake each other in turns, `n` times there and back.
fn there_and_back<K: Kind>(n: u64, wait: fn()) -> Duration {
    run::<K, _>(|| {
        let (send, receive) = std::sync::mpsc::channel::<crore::CoroutineId>();
        let pong = K::spawn(move || {
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
        let ping = K::spawn(move || {
            let mut count = 0u64;
            for _ in 0..n {
                peer.unpark();
                wait();
                count += 1;
            }
            count
        });
        send.send(ping.coroutine().id()).expect("pong has not run");
        let start = now();
        let counts = (ping.join().unwrap(), pong.join().unwrap());
        let time = now() - start;
        assert_eq!(counts, (n, n));
        time
    })
}

/// Wake-ups without timers.
pub fn ping_pong<K: Kind>(n: u64) -> Duration {
    there_and_back::<K>(n, crore::park)
}

/// Each wait sets a timer that never fires, and takes it back.
pub fn timer_cancel<K: Kind>(n: u64) -> Duration {
    there_and_back::<K>(n, || crore::park_timeout(NEVER))
}

/// Processor time for `n` that are spawned, sleep, wake and are joined, on
/// stacks that were used before.
pub fn sleepers<K: Kind>(n: u64) -> Duration {
    burst::<K>(n, deadline)
}

/// The same, where each sleeps for [`NAP`] from when it begins.
pub fn naps<K: Kind>(n: u64) -> Duration {
    burst::<K>(n, |_, _| Instant::now() + NAP)
}

fn burst<K: Kind>(n: u64, until: fn(Instant, u64) -> Instant) -> Duration {
    run::<K, _>(|| {
        let once = || {
            let begin = Instant::now();
            let all: Vec<_> = (0..n)
                .map(|i| {
                    K::spawn(move || {
                        let at = until(begin, i);
                        crore::sleep_until(at);
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
    })
}

/// `n` that go to sleep at one time, until later than all have.
pub fn timers_set<K: Kind>(n: u64) -> Duration {
    run::<K, _>(|| {
        let gate = Arc::new(Gate::new(n));
        let begin = Instant::now();
        let all: Vec<_> = (0..n)
            .map(|_| {
                let gate = Arc::clone(&gate);
                K::spawn_small(move || {
                    gate.begin();
                    while !gate.is_open() {
                        crore::yield_now();
                    }
                    gate.end();
                    crore::sleep_until(late(begin, gate.tasks()));
                })
            })
            .collect();
        all.into_iter().for_each(|task| task.join().unwrap());
        gate.time()
    })
}

/// A lock of std that `tasks` take `n` times in all, and hold across a wait.
pub fn std_mutex<K: Kind>(tasks: u64, n: u64) -> Duration {
    run::<K, _>(|| {
        let lock = Arc::new(std::sync::Mutex::new(0_u64));
        let start = now();
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                let lock = Arc::clone(&lock);
                K::spawn(move || {
                    for _ in 0..n / tasks {
                        let mut held = lock.lock().unwrap();
                        *held += 1;
                        crore::yield_now();
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), n / tasks * tasks);
        now() - start
    })
}

/// Messages in turns, `n` times there and back.
pub fn messages<K: Kind>(n: u64) -> Duration {
    run::<K, _>(|| {
        let (to, inbox) = bounded(1);
        let (back, outbox) = bounded(1);
        let start = now();
        let one = K::spawn(move || ping(n, |i| to.send(i).unwrap(), || outbox.recv().unwrap()));
        let other = K::spawn(move || pong(n, |i| back.send(i).unwrap(), || inbox.recv().unwrap()));
        one.join().unwrap();
        other.join().unwrap();
        now() - start
    })
}

/// Messages one way.
pub fn streamed<K: Kind>(n: u64) -> Duration {
    run::<K, _>(|| {
        let (to, inbox) = bounded(CAPACITY);
        let start = now();
        let one = K::spawn(move || stream(n, |i| to.send(i).unwrap()));
        let other = K::spawn(move || drain(n, || inbox.recv().unwrap()));
        one.join().unwrap();
        other.join().unwrap();
        now() - start
    })
}

/// Bytes of `n` that wait for something that may come.
pub fn parked<K: Kind>(n: u64) -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    run::<K, _>(|| {
        let mut ids: Vec<CoroutineId> = Vec::with_capacity(n as usize);
        let before = memory();
        for _ in 0..n {
            let task = K::spawn_small(|| {
                STARTED.fetch_add(1, Relaxed);
                crore::park();
            });
            ids.push(task.coroutine().id());
        }
        while STARTED.load(Relaxed) < n {
            crore::yield_now();
        }
        let bytes = memory() - before;
        ids.into_iter().for_each(CoroutineId::unpark);
        bytes
    })
}

/// The workloads on coroutines of one kind.
pub fn work<K: Kind>(work: Work) -> Option<Workload> {
    Some(match work {
        Work::Yield => |tasks, n| Took(yields::<K>(tasks, n / tasks)),
        Work::SpawnJoin => |_, n| Took(spawn_join::<K>(n)),
        Work::SpawnBatch => |size, n| Took(spawn_join_batch::<K>(size, n / size)),
        Work::Wake => |_, n| Took(ping_pong::<K>(n)),
        Work::PingPong => |_, n| Took(messages::<K>(n / 2)),
        Work::Stream => |_, n| Took(streamed::<K>(n)),
        Work::TimerCancel => |_, n| Took(timer_cancel::<K>(n)),
        Work::Sleep => |_, n| Took(sleepers::<K>(n)),
        Work::Parked => |n, _| Bytes(parked::<K>(n)),
    })
}
