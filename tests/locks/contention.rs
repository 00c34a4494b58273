//! The promise: where coroutines wait for locks is seen, and what is no such wait is not.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crore::{Contention, Handle, JoinHandle};

type Stop = Arc<AtomicBool>;

/// Measures until `is_enough` while the coroutines run that `start` spawns, which end once
/// they are told to.
fn measured(
    start: impl FnOnce(&Stop) -> Vec<JoinHandle<()>> + Send,
    is_enough: impl Fn(&Contention) -> bool + Send + 'static,
) -> Contention {
    let body = move || {
        let stop = Stop::default();
        let all = start(&stop);
        let handle = Handle::current().unwrap();
        let looks = crore::spawn_blocking(move || {
            loop {
                let seen = handle.contention(Duration::from_millis(20));
                if is_enough(&seen) {
                    return seen;
                }
            }
        });
        let seen = looks.join().unwrap();
        stop.store(true, Relaxed);
        all.into_iter().for_each(|one| one.join().unwrap());
        seen
    };
    crore::run(body).unwrap()
}

fn waits_at(contention: &Contention, function: &str) -> u64 {
    let places = contention.places();
    let there = places.iter().filter(|(place, _)| place.contains(function));
    there.map(|(_, one)| one.waits).sum()
}

#[inline(never)]
fn holds_ours(lock: &crore::sync::Mutex<u64>) {
    let mut guard = lock.lock().unwrap();
    crore::yield_now();
    *guard = black_box(*guard + 1);
}

#[inline(never)]
fn reads_and_writes(lock: &crore::sync::RwLock<u64>) {
    drop(black_box(lock.read().unwrap()));
    let mut guard = lock.write().unwrap();
    crore::yield_now();
    *guard = black_box(*guard + 1);
}

#[inline(never)]
fn takes_what_nobody_has(lock: &crore::sync::Mutex<u64>) {
    *lock.lock().unwrap() += 1;
}

#[inline(never)]
fn waits_for_a_turn(turn: &(Mutex<bool>, Condvar)) {
    let mut mine = turn.0.lock().unwrap();
    *mine = !*mine;
    turn.1.notify_all();
    drop(turn.1.wait_timeout(mine, Duration::from_millis(1)).unwrap());
}

#[test]
fn locks_of_ours_by_the_function_that_waits() {
    let start = |stop: &Stop| {
        let (lock, rw) = (
            Arc::new(crore::sync::Mutex::new(0)),
            Arc::new(crore::sync::RwLock::new(0)),
        );
        // Apart: one behind the other they would hardly meet at the second.
        let run = |i| {
            let (stop, lock, rw) = (Arc::clone(stop), Arc::clone(&lock), Arc::clone(&rw));
            let alone = crore::sync::Mutex::new(0);
            crore::spawn(move || {
                while !stop.load(Relaxed) {
                    match i % 2 {
                        0 => holds_ours(&lock),
                        _ => reads_and_writes(&rw),
                    }
                    takes_what_nobody_has(&alone);
                }
            })
        };
        (0..4).map(run).collect()
    };
    let named = cfg!(feature = "symbols");
    let enough = move |seen: &Contention| {
        let both = waits_at(seen, "holds_ours") > 0 && waits_at(seen, "reads_and_writes") > 0;
        both || !named && !seen.places().is_empty()
    };
    let seen = measured(start, enough);
    assert_eq!(waits_at(&seen, "takes_what_nobody_has"), 0, "{seen}");
    let text = seen.to_string();
    assert!(
        text.lines()
            .all(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().is_ok())
    );
}

#[cfg(all(feature = "futex", feature = "symbols"))]
#[test]
fn locks_of_std_and_no_condition_variables() {
    #[inline(never)]
    fn holds_stds(lock: &Mutex<u64>) {
        let mut guard = lock.lock().unwrap();
        crore::yield_now();
        *guard = black_box(*guard + 1);
    }
    let start = |stop: &Stop| {
        let (lock, turn) = (
            Arc::new(Mutex::new(0)),
            Arc::new((Mutex::new(false), Condvar::new())),
        );
        let run = |i| {
            let (stop, lock, turn) = (Arc::clone(stop), Arc::clone(&lock), Arc::clone(&turn));
            crore::spawn(move || {
                while !stop.load(Relaxed) {
                    match i {
                        0 | 1 => waits_for_a_turn(&turn),
                        _ => holds_stds(&lock),
                    }
                }
            })
        };
        (0..5).map(run).collect()
    };
    let seen = measured(start, |seen| waits_at(seen, "holds_stds") > 0);
    assert!(!seen.to_string().contains("Condvar"), "{seen}");
}

#[cfg(all(feature = "futex", feature = "symbols"))]
#[test]
fn mutexes_of_c() {
    struct InC(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex is for threads, and its memory is touched by C alone.
    unsafe impl Sync for InC {}
    // SAFETY: as above; it is not held when it is sent.
    unsafe impl Send for InC {}

    #[inline(never)]
    fn holds_cs(lock: &InC) {
        // SAFETY: an initialised mutex, unlocked by who has locked it.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(lock.0.get()), 0);
            crore::yield_now();
            assert_eq!(libc::pthread_mutex_unlock(lock.0.get()), 0);
        }
        black_box(());
    }
    let start = |stop: &Stop| {
        let lock = Arc::new(InC(libc::PTHREAD_MUTEX_INITIALIZER.into()));
        let run = |_| {
            let (stop, lock) = (Arc::clone(stop), Arc::clone(&lock));
            crore::spawn(move || {
                while !stop.load(Relaxed) {
                    holds_cs(&lock);
                }
            })
        };
        (0..3).map(run).collect()
    };
    measured(start, |seen| waits_at(seen, "holds_cs") > 0);
}

/// Nothing of another runtime, nor of what nobody measures.
#[test]
fn another_runtime_is_not_seen() {
    let other = crore::Runtime::builder().build().unwrap();
    let handle = other.handle();
    let lock = Arc::new(crore::sync::Mutex::new(0));
    let body = move || {
        let looks = crore::spawn_blocking(move || handle.contention(Duration::from_millis(20)));
        let run = |_| {
            let lock = Arc::clone(&lock);
            crore::spawn(move || (0..100).for_each(|_| holds_ours(&lock)))
        };
        let all: Vec<_> = (0..4).map(run).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        looks.join().unwrap()
    };
    assert!(crore::run(body).unwrap().places().is_empty());
}
