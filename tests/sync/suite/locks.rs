//! Mutex, Condvar, RwLock, Barrier, Semaphore, Notify, OnceCell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crore::sync::*;

use super::Spawner;

/// As good as for ever, and no test waits for it.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(2);

pub(crate) fn mutex_counts<S: Spawner>(s: &S) {
    let mutex = Arc::new(Mutex::new(0));
    let theirs = mutex.clone();
    s.fan(4, move |_| {
        for i in 0..1_000 {
            let mut n = theirs.lock().unwrap();
            let before = *n;
            // Others run and find it locked.
            if i % 16 == 0 {
                S::yield_now();
            }
            *n = before + 1;
        }
    });
    assert_eq!(*mutex.lock().unwrap(), 4_000);
    assert_eq!(Arc::into_inner(mutex).unwrap().into_inner().unwrap(), 4_000);
}

/// One that locks all the time does not keep others out for ever.
pub(crate) fn mutex_serves_all_who_wait<S: Spawner>(s: &S) {
    let mutex = Arc::new(Mutex::new(false));
    let greedy = {
        let mutex = mutex.clone();
        s.spawn(move || {
            while !*mutex.lock().unwrap() {
                let _held = mutex.lock().unwrap();
                S::yield_now();
            }
        })
    };
    let theirs = mutex.clone();
    s.fan(3, move |_| {
        (0..20).for_each(|_| drop(theirs.lock().unwrap()))
    });
    *mutex.lock().unwrap() = true;
    s.join(greedy);
}

pub(crate) fn mutex_poisons<S: Spawner>(s: &S) {
    let mutex = Arc::new(Mutex::new(1));
    let theirs = mutex.clone();
    let handle = s.spawn(move || {
        let _held = theirs.lock().unwrap();
        panic!("expected: poisons the mutex");
    });
    assert!(s.try_join::<()>(handle).is_none());
    assert!(mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap_err().into_inner(), 1);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    mutex.clear_poison();
    assert_eq!(*mutex.lock().unwrap(), 1);
}

pub(crate) fn try_lock_while_held<S: Spawner>(s: &S) {
    let mutex = Arc::new(Mutex::new(()));
    let held = mutex.lock().unwrap();
    let theirs = mutex.clone();
    let failed = s.spawn(move || {
        matches!(theirs.try_lock(), Err(TryLockError::WouldBlock))
            && matches!(theirs.try_lock_for(SHORT), Err(TryLockError::WouldBlock))
    });
    assert!(s.join(failed));
    let theirs = mutex.clone();
    let waiting = s.spawn(move || theirs.try_lock_for(LONG).is_ok());
    S::yield_now();
    drop(held);
    assert!(s.join(waiting));
    assert!(mutex.try_lock().is_ok());
}

pub(crate) fn condvar_ping_pong<S: Spawner>(s: &S) {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = shared.clone();
    let results = s.fan(2, move |me| {
        let mut turns = 0;
        let mut n = theirs.0.lock().unwrap();
        while *n < 400 {
            if *n % 2 == me {
                *n += 1;
                turns += 1;
                theirs.1.notify_one();
            } else {
                n = theirs.1.wait(n).unwrap();
            }
        }
        theirs.1.notify_one();
        turns
    });
    assert_eq!(results, [200, 200]);
}

pub(crate) fn condvar_wakes_all<S: Spawner>(s: &S) {
    let shared = Arc::new((Mutex::new(0), Condvar::new(), Condvar::new()));
    let handles: Vec<_> = (0..6)
        .map(|_| {
            let shared = shared.clone();
            s.spawn(move || {
                let mut waiting = shared.0.lock().unwrap();
                *waiting += 1;
                shared.2.notify_one();
                drop(
                    shared
                        .1
                        .wait_while(waiting, |waiting| *waiting < 100)
                        .unwrap(),
                );
            })
        })
        .collect();
    let mut waiting = shared
        .2
        .wait_while(shared.0.lock().unwrap(), |n| *n < 6)
        .unwrap();
    *waiting = 100;
    drop(waiting);
    shared.1.notify_all();
    handles.into_iter().for_each(|handle| s.join(handle));
}

pub(crate) fn condvar_waits_while<S: Spawner>(s: &S) {
    let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let theirs = shared.clone();
    let producer = s.spawn(move || {
        for i in 0..50 {
            theirs.0.lock().unwrap().push(i);
            theirs.1.notify_one();
            S::yield_now();
        }
    });
    let mut got = Vec::new();
    while got.len() < 50 {
        let mut queue = shared
            .1
            .wait_while(shared.0.lock().unwrap(), |queue| queue.is_empty())
            .unwrap();
        got.append(&mut queue);
    }
    s.join(producer);
    assert!(got.into_iter().eq(0..50));
}

pub(crate) fn condvar_times_out<S: Spawner>(s: &S) {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let (guard, result) = shared
        .1
        .wait_timeout(shared.0.lock().unwrap(), SHORT)
        .unwrap();
    assert!(result.timed_out() && !*guard);
    let (guard, result) = shared
        .1
        .wait_timeout_while(guard, SHORT, |ready| !*ready)
        .unwrap();
    assert!(result.timed_out());
    let theirs = shared.clone();
    let setter = s.spawn(move || {
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_all();
    });
    let (guard, result) = shared
        .1
        .wait_timeout_while(guard, LONG, |ready| !*ready)
        .unwrap();
    assert!(!result.timed_out() && *guard);
    drop(guard);
    s.join(setter);
}

/// Ends only if all readers are in at a time.
pub(crate) fn rwlock_has_readers_together<S: Spawner>(s: &S) {
    let shared = Arc::new((RwLock::new(7), Barrier::new(4)));
    let results = s.fan(4, move |_| {
        let value = shared.0.read().unwrap();
        shared.1.wait();
        *value
    });
    assert_eq!(results, [7; 4]);
}

pub(crate) fn rwlock_excludes<S: Spawner>(s: &S) {
    let lock = Arc::new(RwLock::new((0, 0)));
    let theirs = lock.clone();
    s.fan(4, move |me| {
        for i in 0..300 {
            if (i + me) % 3 == 0 {
                let mut pair = theirs.write().unwrap();
                pair.0 += 1;
                S::yield_now();
                pair.1 += 1;
            } else {
                let pair = theirs.read().unwrap();
                assert_eq!(pair.0, pair.1);
                S::yield_now();
                assert_eq!(pair.0, pair.1);
            }
        }
    });
    assert_eq!(*lock.read().unwrap(), (400, 400));
}

/// Readers that always overlap do not keep the writer out; and a reader that
/// comes after the writer waits for it.
pub(crate) fn rwlock_lets_the_writer_in<S: Spawner>(s: &S) {
    let lock = Arc::new(RwLock::new(0));
    let first = lock.read().unwrap();
    let theirs = lock.clone();
    let writer = s.spawn(move || *theirs.write().unwrap() = 1);
    // Once the writer waits, nobody else gets in.
    while lock.try_read().is_ok() {
        S::yield_now();
    }
    let theirs = lock.clone();
    let reader = s.spawn(move || *theirs.read().unwrap());
    S::yield_now();
    assert_eq!(*first, 0);
    drop(first);
    assert_eq!(s.join(reader), 1);
    s.join(writer);
}

pub(crate) fn rwlock_poisons_on_write_only<S: Spawner>(s: &S) {
    let lock = Arc::new(RwLock::new(1));
    let theirs = lock.clone();
    let reader = s.spawn(move || {
        let _held = theirs.read().unwrap();
        panic!("expected: does not poison");
    });
    assert!(s.try_join::<()>(reader).is_none());
    assert!(lock.read().is_ok());
    let theirs = lock.clone();
    let writer = s.spawn(move || {
        let _held = theirs.write().unwrap();
        panic!("expected: poisons the lock");
    });
    assert!(s.try_join::<()>(writer).is_none());
    assert!(lock.read().is_err() && lock.write().is_err());
    lock.clear_poison();
    assert!(lock.write().is_ok());
}

pub(crate) fn rwlock_downgrades<S: Spawner>(s: &S) {
    let lock = Arc::new(RwLock::new(0));
    let mut guard = lock.write().unwrap();
    *guard = 1;
    let theirs = lock.clone();
    let writer = s.spawn(move || *theirs.write().unwrap() = 2);
    let guard = guard.downgrade();
    S::yield_now();
    assert_eq!(*guard, 1);
    assert!(lock.try_write().is_err());
    drop(guard);
    s.join(writer);
    assert_eq!(*lock.try_read_for(LONG).unwrap(), 2);
    assert_eq!(*lock.try_write_for(LONG).unwrap(), 2);
}

pub(crate) fn barrier_has_one_leader_a_round<S: Spawner>(s: &S) {
    let shared = Arc::new((Barrier::new(4), AtomicUsize::new(0)));
    let theirs = shared.clone();
    let leads = s.fan(4, move |_| {
        let mut leads = 0;
        for round in 0..100 {
            theirs.1.fetch_add(1, Ordering::SeqCst);
            leads += usize::from(theirs.0.wait().is_leader());
            assert!(theirs.1.load(Ordering::SeqCst) >= 4 * (round + 1));
            theirs.0.wait();
        }
        leads
    });
    assert_eq!(leads.iter().sum::<usize>(), 100);
}

pub(crate) fn semaphore_bounds<S: Spawner>(s: &S) {
    let shared = Arc::new((Semaphore::new(3), AtomicUsize::new(0)));
    let theirs = shared.clone();
    s.fan(6, move |i| {
        for _ in 0..100 {
            let n = 1 + i % 3;
            let _permit = theirs.0.acquire(n).unwrap();
            let inside = theirs.1.fetch_add(n, Ordering::SeqCst) + n;
            assert!(inside <= 3, "{inside} of 3 permits are out");
            S::yield_now();
            theirs.1.fetch_sub(n, Ordering::SeqCst);
        }
    });
    assert_eq!(shared.0.available_permits(), 3);
}

/// A waiter for many is not passed by those that want few.
pub(crate) fn semaphore_wakes_for_many<S: Spawner>(s: &S) {
    let semaphore = Arc::new(Semaphore::new(2));
    let one = semaphore.acquire(1).unwrap();
    let theirs = semaphore.clone();
    let many = s.spawn(move || theirs.acquire(2).unwrap().forget());
    while semaphore.try_acquire(1).is_ok() {
        S::yield_now();
    }
    assert_eq!(
        semaphore.acquire_timeout(1, SHORT).unwrap_err(),
        TryAcquireError::NoPermits
    );
    drop(one);
    s.join(many);
    assert_eq!(semaphore.available_permits(), 0);
    semaphore.add_permits(5);
    assert_eq!(semaphore.try_acquire(5).unwrap().count(), 5);
}

pub(crate) fn semaphore_closes<S: Spawner>(s: &S) {
    let semaphore = Arc::new(Semaphore::new(0));
    let handles: Vec<_> = (0..3)
        .map(|_| {
            let semaphore = semaphore.clone();
            s.spawn(move || semaphore.acquire(1).is_err())
        })
        .collect();
    S::yield_now();
    semaphore.close();
    assert!(handles.into_iter().all(|handle| s.join(handle)));
    assert_eq!(
        semaphore.try_acquire(0).unwrap_err(),
        TryAcquireError::Closed
    );
    assert!(semaphore.is_closed());
}

pub(crate) fn notify_hands_on<S: Spawner>(s: &S) {
    let shared = Arc::new((Notify::new(), Notify::new(), AtomicUsize::new(0)));
    let theirs = shared.clone();
    let other = s.spawn(move || {
        for _ in 0..200 {
            theirs.0.wait();
            theirs.2.fetch_add(1, Ordering::SeqCst);
            theirs.1.notify_one();
        }
    });
    for i in 0..200 {
        shared.0.notify_one();
        assert!(shared.1.wait_timeout(LONG));
        assert_eq!(shared.2.load(Ordering::SeqCst), i + 1);
    }
    s.join(other);
    // Permits do not add up.
    shared.0.notify_one();
    shared.0.notify_one();
    assert!(shared.0.try_wait());
    assert!(!shared.0.wait_timeout(SHORT));
}

pub(crate) fn notify_wakes_all<S: Spawner>(s: &S) {
    let notify = Arc::new(Notify::new());
    let (tx, rx) = channel::unbounded();
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let (notify, tx) = (notify.clone(), tx.clone());
            s.spawn(move || {
                // Made before the round, so the round reaches it.
                let notified = notify.notified();
                tx.send(()).unwrap();
                wait::<S>(notified);
            })
        })
        .collect();
    (0..4).for_each(|_| rx.recv().unwrap());
    notify.notify_waiters();
    handles.into_iter().for_each(|handle| s.join(handle));
    assert!(!notify.try_wait(), "no permit is left");
}

/// Polls a future to its end, yielding in between.
fn wait<S: Spawner>(future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while future.as_mut().poll(&mut cx).is_pending() {
        S::yield_now();
    }
}

pub(crate) fn once_runs_once<S: Spawner>(s: &S) {
    let shared = Arc::new((OnceCell::new(), AtomicUsize::new(0)));
    let theirs = shared.clone();
    let results = s.fan(4, move |i| {
        *theirs.0.get_or_init(|| {
            theirs.1.fetch_add(1, Ordering::SeqCst);
            S::yield_now();
            i
        })
    });
    assert!(results.iter().all(|result| Some(result) == shared.0.get()));
    assert_eq!(shared.1.load(Ordering::SeqCst), 1);
    assert_eq!(shared.0.set(9), Err(9));
}

pub(crate) fn once_retries_after_a_panic<S: Spawner>(s: &S) {
    let cell = Arc::new(OnceCell::new());
    let attempts = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let (cell, attempts) = (cell.clone(), attempts.clone());
            s.spawn(move || {
                *cell.get_or_init(|| {
                    let attempt = attempts.fetch_add(1, Ordering::SeqCst);
                    S::yield_now();
                    assert!(attempt > 0, "expected: the first attempt fails");
                    attempt
                })
            })
        })
        .collect();
    let results: Vec<_> = handles
        .into_iter()
        .map(|handle| s.try_join(handle))
        .collect();
    assert_eq!(results.iter().filter(|result| result.is_none()).count(), 1);
    assert_eq!(results.iter().flatten().filter(|n| **n == 1).count(), 3);
}

pub(crate) fn lazy_is_made_once<S: Spawner>(s: &S) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let lazy = Arc::new(LazyLock::new(move || {
        counter.fetch_add(1, Ordering::SeqCst)
    }));
    assert_eq!(made.load(Ordering::SeqCst), 0);
    let theirs = lazy.clone();
    assert_eq!(s.fan(4, move |_| **theirs), [0; 4]);
    assert_eq!(made.load(Ordering::SeqCst), 1);
}
