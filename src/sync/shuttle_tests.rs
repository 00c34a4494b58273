//! Scenarios of the locks: crowds of which some give up, by time or by dropping a future.
//!
//! Shuttle fails when all threads are blocked, so a scenario that ends has lost no
//! wake-up; what else must hold is asserted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::thread;

use super::{Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore};
use crate::block_on::block_on;
use crate::shim::Arc;
use crate::shim::atomic::{AtomicUsize, Ordering};
use crate::shim::scenario::{check, crowd, join};

mod channels;
mod tokens;

/// Over when the others have had a turn: models have no clock.
const MOMENT: Duration = Duration::from_nanos(1);

/// Begins to wait, lets others run, and gives up; what was there at once.
fn begin<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let mut noop = Context::from_waker(Waker::noop());
    match Pin::new(&mut future).poll(&mut noop) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => {
            thread::yield_now();
            None
        }
    }
}

/// How many threads have something at one time.
#[derive(Default)]
struct Inside(AtomicUsize);

impl Inside {
    fn enter(&self, number: usize, most: usize) {
        let before = self.0.fetch_add(number, Ordering::SeqCst);
        assert!(before + number <= most, "{} of {most}", before + number);
        thread::yield_now();
        self.0.fetch_sub(number, Ordering::SeqCst);
    }
}

#[test]
fn a_mutex_excludes_a_crowd_of_which_some_give_up() {
    check(|| {
        let shared = Arc::new((Mutex::new(0), Inside::default()));
        let theirs = Arc::clone(&shared);
        let counts = join(crowd(8, move |number| {
            let (mutex, inside) = &*theirs;
            let mut count = 0;
            for round in 0..3 {
                let guard = match (number + round) % 4 {
                    0 => mutex.try_lock_for(MOMENT).ok(),
                    1 => {
                        let early = begin(mutex.lock_async());
                        early.map(Result::unwrap).or_else(|| mutex.try_lock().ok())
                    }
                    2 => Some(block_on(mutex.lock_async()).unwrap()),
                    _ => Some(mutex.lock().unwrap()),
                };
                if let Some(mut guard) = guard {
                    inside.enter(1, 1);
                    *guard += 1;
                    count += 1;
                }
            }
            count
        }));
        let total = shared.0.try_lock().expect("nobody has it any more");
        assert_eq!(*total, counts.into_iter().sum::<i32>());
    });
}

#[test]
fn a_rwlock_has_readers_or_one_writer() {
    const READERS: usize = 4;
    check(|| {
        let shared = Arc::new((RwLock::new(0), Inside::default()));
        let theirs = Arc::clone(&shared);
        join(crowd(READERS + 3, move |number| {
            let (lock, inside) = &*theirs;
            // Any two of which one writes are too many.
            let (read, write) = (1, READERS);
            match number {
                0 => drop(lock.try_read_for(MOMENT)),
                1..READERS => {
                    let _reads = lock.read().unwrap();
                    inside.enter(read, READERS);
                }
                READERS => drop(lock.try_write_for(MOMENT)),
                _ => {
                    let mut writes = lock.write().unwrap();
                    *writes += 1;
                    inside.enter(write, READERS);
                    let _reads = writes.downgrade();
                    inside.enter(read, READERS);
                }
            }
        }));
        assert_eq!(*shared.0.try_write().expect("nobody has it any more"), 2);
    });
}

#[test]
fn a_semaphore_has_as_many_permits_as_before() {
    const PERMITS: usize = 3;
    check(|| {
        let shared = Arc::new((Semaphore::new(PERMITS), Inside::default()));
        let theirs = Arc::clone(&shared);
        join(crowd(7, move |number| {
            let (semaphore, inside) = &*theirs;
            let wanted = 1 + number % PERMITS;
            for round in 0..2 {
                let permit = match (number + round) % 3 {
                    0 => semaphore.acquire_timeout(wanted, MOMENT).ok(),
                    1 => begin(semaphore.acquire_async(wanted)).map(Result::unwrap),
                    _ => Some(semaphore.acquire(wanted).unwrap()),
                };
                if permit.is_some() {
                    inside.enter(wanted, PERMITS);
                }
            }
        }));
        assert_eq!(shared.0.available_permits(), PERMITS);
    });
}

#[test]
fn a_semaphore_that_is_closed_keeps_nobody() {
    check(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let theirs = Arc::clone(&semaphore);
        let crowd = crowd(6, move |number| match number {
            0 => theirs.close(),
            _ => {
                let permit = theirs.acquire(1);
                thread::yield_now();
                drop(permit);
            }
        });
        join(crowd);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// Three put and three take, by way of one place; some look again after a moment.
#[test]
fn condition_variables_lose_no_notification() {
    check(|| {
        let shared = Arc::new((Mutex::new(None), Condvar::new(), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let taken = join(crowd(6, move |number| {
            let (place, is_free, is_taken) = &*theirs;
            let mut there = place.lock().unwrap();
            let puts = number < 3;
            let mine = if puts { is_free } else { is_taken };
            while there.is_some() == puts {
                // One that gives up here has used up no notification.
                let impatient = number % 3 == 0;
                there = if impatient {
                    mine.wait_timeout(there, MOMENT).unwrap().0
                } else {
                    mine.wait(there).unwrap()
                };
            }
            if puts {
                *there = Some(number);
                is_taken.notify_one();
                return None;
            }
            is_free.notify_one();
            there.take()
        }));
        let mut taken: Vec<_> = taken.into_iter().flatten().collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
    });
}

/// Five wait, two of them give up, and three notifications come: none of the other
/// three sleeps on.
#[test]
fn notifications_pass_those_that_give_up() {
    check(|| {
        let notify = Arc::new(Notify::new());
        let all_wait = Arc::new(Barrier::new(8));
        let theirs = Arc::clone(&notify);
        join(crowd(8, move |number| {
            let mut waits = theirs.notified();
            if number < 5 {
                let mut noop = Context::from_waker(Waker::noop());
                assert!(Pin::new(&mut waits).poll(&mut noop).is_pending());
            }
            all_wait.wait();
            match number {
                0 | 2 => drop(waits),
                1 | 3 | 4 => block_on(waits),
                _ => theirs.notify_one(),
            }
        }));
    });
}

#[test]
fn all_that_wait_are_notified() {
    check(|| {
        let notify = Arc::new(Notify::new());
        let all_wait = Arc::new(Barrier::new(6));
        join(crowd(6, move |number| {
            let waits = notify.notified();
            all_wait.wait();
            match number {
                0 => notify.notify_waiters(),
                1 => drop(begin(waits)),
                _ => block_on(waits),
            }
        }));
    });
}

#[test]
fn a_barrier_has_one_leader_each_time() {
    const ROUNDS: usize = 3;
    check(|| {
        let barrier = Arc::new(Barrier::new(6));
        let leads = join(crowd(6, move |_| {
            let rounds = (0..ROUNDS).map(|_| barrier.wait().is_leader());
            rounds.filter(|leads| *leads).count()
        }));
        assert_eq!(leads.into_iter().sum::<usize>(), ROUNDS);
    });
}

/// The first two that try fail; one of the others makes the value, and all see it.
#[test]
fn a_cell_is_filled_once_though_some_fail() {
    check(|| {
        let shared = Arc::new((OnceCell::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let theirs = Arc::clone(&shared);
        join(crowd(7, move |number| {
            let (cell, tries, values) = &*theirs;
            let init = || {
                thread::yield_now();
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 | 1 => Err(()),
                    _ => Ok(values.fetch_add(1, Ordering::SeqCst)),
                }
            };
            if number == 0 {
                return assert!(matches!(cell.get(), None | Some(0)));
            }
            if let Ok(value) = cell.get_or_try_init(init) {
                assert_eq!(*value, 0);
            }
        }));
        assert_eq!(shared.2.load(Ordering::SeqCst), 1);
    });
}
