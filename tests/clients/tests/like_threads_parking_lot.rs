//! The locks of `parking_lot`, contended while whoever holds them is parked.
//! It queues each thread by a record in its thread-locals.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crore_clients::{each, like_threads, spread_crowd};
use parking_lot::{
    Condvar, FairMutex, Mutex, Once, ReentrantMutex, RwLock, RwLockUpgradableReadGuard,
};

const CROWD: usize = 100;

fn hold() {
    thread::sleep(Duration::from_micros(200));
}

fn on_one_and_on_three(test: fn()) {
    like_threads(1, test);
    like_threads(3, test);
}

#[test]
fn mutexes_are_held_across_waits() {
    on_one_and_on_three(|| {
        const ROUNDS: usize = 5;
        let both = Arc::new((Mutex::new(0), FairMutex::new(0)));
        let shared = Arc::clone(&both);
        spread_crowd(CROWD, move |_| {
            for _ in 0..ROUNDS {
                let mut count = shared.0.lock();
                let before = *count;
                hold();
                *count = before + 1;
                drop(count);
                let mut count = shared.1.lock();
                let before = *count;
                hold();
                *count = before + 1;
            }
        });
        assert_eq!((*both.0.lock(), *both.1.lock()), (500, 500));
    });
}

#[test]
fn a_lock_that_is_taken_is_waited_for_in_time() {
    on_one_and_on_three(|| {
        let lock = Arc::new(Mutex::new(()));
        let held = lock.lock();
        let theirs = Arc::clone(&lock);
        let (late, _) = spread_crowd(CROWD, move |_| {
            theirs.try_lock_for(Duration::from_millis(5)).is_none()
        });
        drop(held);
        each(&late, |_| true);
        assert!(lock.try_lock().is_some());
    });
}

/// It knows its holder by a thread-local's address: another coroutine of the
/// same thread is another holder.
#[test]
fn a_reentrant_lock_is_one_coroutines() {
    on_one_and_on_three(|| {
        let inside = Arc::new(ReentrantMutex::new(AtomicUsize::new(0)));
        let (most, _) = spread_crowd(CROWD, move |_| {
            let outer = inside.lock();
            let inner = inside.lock();
            let before = inner.fetch_add(1, Ordering::Relaxed);
            hold();
            outer.fetch_sub(1, Ordering::Relaxed);
            before
        });
        each(&most, |_| 0);
    });
}

#[test]
fn readers_share_and_writers_exclude() {
    on_one_and_on_three(|| {
        let (pair, all_in) = (Arc::new(RwLock::new((0, 0))), Arc::new(Barrier::new(CROWD)));
        let shared = Arc::clone(&pair);
        spread_crowd(CROWD, move |i| {
            let reader = shared.read();
            all_in.wait();
            assert_eq!(*reader, (0, 0));
            drop(reader);
            match i % 4 {
                0 => {
                    let mut pair = shared.write();
                    pair.0 += 1;
                    hold();
                    pair.1 += 1;
                }
                1 => {
                    let reader = shared.upgradable_read();
                    let before = *reader;
                    hold();
                    let mut pair = RwLockUpgradableReadGuard::upgrade(reader);
                    *pair = (before.0 + 1, before.1 + 1);
                }
                _ => {
                    let pair = shared.read();
                    let before = *pair;
                    assert_eq!(before.0, before.1, "a write half done");
                    hold();
                    assert_eq!(*pair, before, "written while it was read");
                }
            }
        });
        assert_eq!(*pair.read(), (CROWD / 2, CROWD / 2));
    });
}

/// A queue of few places, its producers and its consumers.
#[test]
fn condition_variables_wake_whom_they_should() {
    #[derive(Default)]
    struct Queue {
        items: Mutex<VecDeque<usize>>,
        not_full: Condvar,
        not_empty: Condvar,
    }
    on_one_and_on_three(|| {
        const PLACES: usize = 3;
        const EACH: usize = 20;
        let queue = Arc::new(Queue::default());
        let (sums, _) = spread_crowd(CROWD, move |i| {
            let mut sum = 0;
            for round in 0..EACH {
                let mut items = queue.items.lock();
                if i % 2 == 0 {
                    let full = |items: &mut VecDeque<_>| items.len() == PLACES;
                    queue.not_full.wait_while(&mut items, full);
                    items.push_back(i * EACH + round);
                    queue.not_empty.notify_one();
                } else {
                    let empty = |items: &mut VecDeque<_>| items.is_empty();
                    queue.not_empty.wait_while(&mut items, empty);
                    sum += items.pop_front().unwrap();
                    queue.not_full.notify_one();
                }
            }
            sum
        });
        let sent: usize = (0..CROWD)
            .step_by(2)
            .flat_map(|i| (0..EACH).map(move |round| i * EACH + round))
            .sum();
        assert_eq!(sums.iter().sum::<usize>(), sent);
    });
}

/// `notify_all` moves those who wait over to the queue of the lock.
#[test]
fn condition_variables_time_out_and_wake_all() {
    on_one_and_on_three(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = Arc::clone(&pair);
        let helper = crore::spawn(move || {
            let (count, changed) = &*theirs;
            while *count.lock() < CROWD {
                thread::sleep(Duration::from_millis(1));
            }
            let mut count = count.lock();
            *count += 1;
            changed.notify_all()
        });
        let (late, _) = spread_crowd(CROWD, move |_| {
            let (count, changed) = &*pair;
            let (own, nobody) = (Mutex::new(()), Condvar::new());
            let late = nobody.wait_for(&mut own.lock(), Duration::from_millis(5));
            let mut all = count.lock();
            *all += 1;
            changed.wait_while(&mut all, |all| *all <= CROWD);
            late.timed_out()
        });
        each(&late, |_| true);
        assert_eq!(helper.join().unwrap(), CROWD);
    });
}

#[test]
fn what_is_made_once_is_made_by_one_who_parks() {
    on_one_and_on_three(|| {
        let all = Arc::new((Once::new(), AtomicUsize::new(0)));
        let (seen, _) = spread_crowd(CROWD, move |_| {
            let (once, times) = &*all;
            once.call_once(|| {
                thread::sleep(Duration::from_millis(20));
                times.fetch_add(1, Ordering::Relaxed);
            });
            times.load(Ordering::Relaxed)
        });
        each(&seen, |_| 1);
    });
}
