//! Promise: the locks of `std::sync` park coroutines, not threads: between
//! coroutines of one worker and of several, on stacks of their own and on
//! shared ones, and plain threads among them.
//!
//! Whoever holds a lock here lets others run, so on one worker a wait that
//! blocked the thread would never end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, TryLockError};
use std::time::{Duration, Instant};

use crate::locks_common::{Who, others};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(2);

fn mutex_counts(who: Who) {
    let mutex = Arc::new(Mutex::new(0));
    let theirs = mutex.clone();
    who.fan(6, move |_| {
        for i in 0..500 {
            let mut n = theirs.lock().unwrap();
            let before = *n;
            if i % 16 == 0 {
                others();
            }
            *n = before + 1;
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 3_000);
}

fn mutex_is_held_across_a_sleep(who: Who) {
    let mutex = Arc::new(Mutex::new(0));
    let theirs = mutex.clone();
    who.fan(8, move |_| {
        for _ in 0..3 {
            let mut n = theirs.lock().unwrap();
            let before = *n;
            std::thread::sleep(Duration::from_millis(1));
            *n = before + 1;
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 24);
}

/// One that always holds it, but for the moment between two holds, does not
/// keep the others out for ever.
fn mutex_serves_all_who_wait(who: Who) {
    let mutex = Arc::new(Mutex::new(false));
    let greedy = {
        let mutex = mutex.clone();
        who.go(0, move || {
            loop {
                let done = mutex.lock().unwrap();
                if *done {
                    return;
                }
                others();
            }
        })
    };
    let theirs = mutex.clone();
    who.fan(4, move |_| {
        (0..5).for_each(|_| drop(theirs.lock().unwrap()))
    });
    *mutex.lock().unwrap() = true;
    greedy.join().unwrap();
}

fn mutex_poisons(who: Who) {
    let mutex = Arc::new(Mutex::new(1));
    let theirs = mutex.clone();
    let holder = who.go(0, move || {
        let _held = theirs.lock().unwrap();
        others();
        panic!("expected: poisons the mutex");
    });
    while !mutex.is_poisoned() {
        others();
    }
    let theirs = mutex.clone();
    let next = who.go(1, move || theirs.lock().is_err());
    assert!(holder.join().is_none() && next.join().unwrap());
    mutex.clear_poison();
    assert_eq!(*mutex.lock().unwrap(), 1);
}

fn try_lock_while_held(who: Who) {
    let mutex = Arc::new(Mutex::new(()));
    let held = mutex.lock().unwrap();
    let theirs = mutex.clone();
    let failed = who.go(0, move || {
        matches!(theirs.try_lock(), Err(TryLockError::WouldBlock))
    });
    assert!(failed.join().unwrap());
    drop(held);
    assert!(mutex.try_lock().is_ok());
}

fn condvar_ping_pong(who: Who) {
    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = pair.clone();
    who.fan(2, move |me| {
        let (turn, changed) = &*theirs;
        for _ in 0..300 {
            let mut turn = turn.lock().unwrap();
            while *turn % 2 != me {
                turn = changed.wait(turn).unwrap();
            }
            *turn += 1;
            changed.notify_one();
        }
    });
    assert_eq!(*pair.0.lock().unwrap(), 600);
}

fn condvar_wakes_all(who: Who) {
    let pair = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let waiters: Vec<_> = (0..8)
        .map(|i| {
            let pair = pair.clone();
            who.go(i, move || {
                let (state, changed) = &*pair;
                let mut state = state.lock().unwrap();
                state.0 += 1;
                while !state.1 {
                    state = changed.wait(state).unwrap();
                }
            })
        })
        .collect();
    let (state, changed) = &*pair;
    while state.lock().unwrap().0 < 8 {
        others();
    }
    state.lock().unwrap().1 = true;
    changed.notify_all();
    waiters.into_iter().for_each(|w| w.join().unwrap());
}

fn condvar_times_out(who: Who) {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = pair.clone();
    who.fan(3, move |_| {
        let begin = Instant::now();
        let (state, changed) = &*theirs;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), SHORT, |done| !*done);
        assert!(waited.unwrap().1.timed_out() && begin.elapsed() >= SHORT);
    });
    let theirs = pair.clone();
    let waiter = who.go(1, move || {
        let (state, changed) = &*theirs;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), LONG, |done| !*done);
        !waited.unwrap().1.timed_out()
    });
    others();
    *pair.0.lock().unwrap() = true;
    pair.1.notify_one();
    assert!(waiter.join().unwrap());
}

fn rwlock_has_readers_together(who: Who) {
    let lock = Arc::new((RwLock::new(()), AtomicUsize::new(0)));
    let theirs = lock.clone();
    who.fan(4, move |_| {
        let _reading = theirs.0.read().unwrap();
        theirs.1.fetch_add(1, Ordering::SeqCst);
        // All four are inside before any leaves.
        while theirs.1.load(Ordering::SeqCst) < 4 {
            others();
        }
    });
}

fn rwlock_excludes(who: Who) {
    let lock = Arc::new(RwLock::new((0, 0)));
    let theirs = lock.clone();
    who.fan(6, move |i| {
        for _ in 0..100 {
            if i < 2 {
                let mut pair = theirs.write().unwrap();
                pair.0 += 1;
                others();
                pair.1 += 1;
            } else {
                let pair = theirs.read().unwrap();
                others();
                assert_eq!(pair.0, pair.1);
            }
        }
    });
    assert_eq!(*lock.read().unwrap(), (200, 200));
}

fn rwlock_writer_waits_for_readers(who: Who) {
    let lock = Arc::new(RwLock::new(0));
    let reading = lock.read().unwrap();
    let writers: Vec<_> = (0..3)
        .map(|i| {
            let lock = lock.clone();
            who.go(i, move || *lock.write().unwrap() += 1)
        })
        .collect();
    for _ in 0..10 {
        others();
        assert_eq!(*reading, 0);
    }
    drop(reading);
    writers.into_iter().for_each(|w| w.join().unwrap());
    assert_eq!(*lock.read().unwrap(), 3);
}

fn barrier_has_one_leader_a_round(who: Who) {
    let barrier = Arc::new(Barrier::new(5));
    let leaders = who.fan(5, move |_| {
        (0..20).filter(|_| barrier.wait().is_leader()).count()
    });
    assert_eq!(leaders.into_iter().sum::<usize>(), 20);
}

fn once_runs_once(who: Who) {
    let once = Arc::new((Once::new(), AtomicUsize::new(0)));
    let theirs = once.clone();
    who.fan(6, move |_| {
        theirs.0.call_once(|| {
            // The others come and wait.
            (0..3).for_each(|_| others());
            std::thread::sleep(Duration::from_millis(1));
            theirs.1.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(theirs.1.load(Ordering::SeqCst), 1);
    });
}

fn once_lock_and_lazy_lock_are_made_once(who: Who) {
    let lock = Arc::new(OnceLock::new());
    let lazy = Arc::new(LazyLock::new(|| {
        others();
        7
    }));
    let made = Arc::new(AtomicUsize::new(0));
    let (lock, count) = (lock, made.clone());
    let values = who.fan(6, move |i| {
        let make = || {
            others();
            count.fetch_add(1, Ordering::SeqCst);
            i
        };
        (*lock.get_or_init(make), **lazy)
    });
    assert!(values.iter().all(|&pair| pair == (values[0].0, 7)));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

/// Many locks, many who wait, everything at once.
fn a_crowd_moves_tokens(who: Who) {
    const LOCKS: usize = 8;
    let banks: Arc<Vec<_>> = Arc::new((0..LOCKS).map(|_| Mutex::new(1_000_i64)).collect());
    let theirs = banks.clone();
    who.fan(24, move |i| {
        let mut random = 0x9e37_79b9_u64 + i as u64;
        for round in 0..100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (a, b) = (random as usize % LOCKS, (random >> 20) as usize % LOCKS);
            if a == b {
                continue;
            }
            // In order, so that nobody waits in a circle.
            let mut first = theirs[a.min(b)].lock().unwrap();
            if round % 8 == 0 {
                others();
            }
            let mut second = theirs[a.max(b)].lock().unwrap();
            *first -= 1;
            *second += 1;
        }
    });
    let sum: i64 = banks.iter().map(|bank| *bank.lock().unwrap()).sum();
    assert_eq!(sum, 8_000);
}

locks!(
    mutex_counts,
    mutex_is_held_across_a_sleep,
    mutex_serves_all_who_wait,
    mutex_poisons,
    try_lock_while_held,
    condvar_ping_pong,
    condvar_wakes_all,
    condvar_times_out,
    rwlock_has_readers_together,
    rwlock_excludes,
    rwlock_writer_waits_for_readers,
    barrier_has_one_leader_a_round,
    once_runs_once,
    once_lock_and_lazy_lock_are_made_once,
    a_crowd_moves_tokens,
);
