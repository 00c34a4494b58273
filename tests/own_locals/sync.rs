//! Locks, parkers and channels that know threads, unmodified, between
//! coroutines with thread-locals of their own: on one worker, on several, and
//! with plain threads.
#![cfg(all(feature = "hook", target_os = "linux", target_env = "gnu"))]

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::time::Duration;

use crore::{Builder, JoinHandle};

const MANY: u32 = 16;
const ROUNDS: u32 = 50;

fn own<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().own_thread_locals(true).spawn(f).unwrap()
}

/// Runs `f` with one worker and with two.
fn on_workers(f: fn()) {
    for workers in [1, 2] {
        let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
        runtime.run(f).unwrap();
    }
}

fn all<T: Send + 'static>(f: impl Fn(u32) -> T + Send + Sync + 'static) -> Vec<T> {
    let f = Arc::new(f);
    let spawned: Vec<_> = (0..MANY)
        .map(|i| {
            let f = Arc::clone(&f);
            own(move || f(i))
        })
        .collect();
    spawned.into_iter().map(|one| one.join().unwrap()).collect()
}

#[test]
fn std_mutex_held_while_parked() {
    on_workers(|| {
        let sum = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&sum);
        all(move |_| {
            for _ in 0..ROUNDS {
                let mut sum = theirs.lock().unwrap();
                let before = *sum;
                crore::yield_now();
                *sum = before + 1;
            }
        });
        assert_eq!(*sum.lock().unwrap(), MANY * ROUNDS);
    });
}

#[test]
fn std_condvar_barrier_and_park() {
    on_workers(|| {
        let turn = Arc::new((Mutex::new(0), Condvar::new()));
        all(move |i| {
            for round in 0..ROUNDS {
                let (lock, changed) = &*turn;
                let mine = round * MANY + i;
                let guard = lock.lock().unwrap();
                *changed.wait_while(guard, |turn| *turn != mine).unwrap() += 1;
                changed.notify_all();
            }
        });
        let barrier = Arc::new(Barrier::new(MANY as usize));
        let leaders = all(move |_| (0..ROUNDS).filter(|_| barrier.wait().is_leader()).count());
        assert_eq!(leaders.into_iter().sum::<usize>(), ROUNDS as usize);
        all(|_| {
            let (me, done) = (std::thread::current(), Arc::new(AtomicU32::new(0)));
            let theirs = Arc::clone(&done);
            let other = own(move || {
                for i in 1..=ROUNDS {
                    theirs.store(i, Ordering::Release);
                    me.unpark();
                    crore::yield_now();
                }
            });
            while done.load(Ordering::Acquire) < ROUNDS {
                std::thread::park();
            }
            other.join().unwrap();
        });
    });
}

#[test]
fn std_channels() {
    on_workers(|| {
        let (sender, receiver) = mpsc::sync_channel(0);
        let sending = own(move || {
            let senders: Vec<_> = (0..MANY)
                .map(|i| {
                    let sender = sender.clone();
                    own(move || (0..ROUNDS).for_each(|round| sender.send(i * round).unwrap()))
                })
                .collect();
            drop(sender);
            senders.into_iter().for_each(|one| one.join().unwrap());
        });
        let receiving = own(move || receiver.into_iter().map(u64::from).sum::<u64>());
        sending.join().unwrap();
        let expected = (0..MANY).sum::<u32>() * (0..ROUNDS).sum::<u32>();
        assert_eq!(receiving.join().unwrap(), u64::from(expected));
        // To and from a plain thread.
        let (there, from_here) = mpsc::channel();
        let (back, from_there) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in from_here {
                back.send(number + 1).unwrap();
            }
        });
        let asking = own(move || {
            for i in 0..ROUNDS {
                there.send(i).unwrap();
                assert_eq!(from_there.recv().unwrap(), i + 1);
            }
            assert!(from_there.recv_timeout(Duration::from_millis(1)).is_err());
        });
        asking.join().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn standard_output_is_locked_by_coroutines() {
    on_workers(|| {
        all(|i| {
            let mut out = std::io::stdout().lock();
            for round in 0..3 {
                // Its own, as often as it likes; others wait.
                let mut again = std::io::stdout().lock();
                crore::yield_now();
                writeln!(again, "coroutine {i}, round {round}").unwrap();
                drop(again);
                crore::yield_now();
                out.flush().unwrap();
            }
        });
    });
}

#[test]
fn scoped_threads_and_lazy_values() {
    on_workers(|| {
        static LAZY: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
            (0..10).for_each(|_| crore::yield_now());
            7
        });
        all(|_| {
            let mut local = 0;
            std::thread::scope(|scope| {
                scope.spawn(|| local = 5);
            });
            assert_eq!(local, 5);
            assert_eq!(*LAZY, 7);
        });
    });
}
