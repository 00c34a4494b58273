//! The locks of std, contended while whoever holds them is parked.
//!
//! Each test is run on one kernel thread and on three, by coroutines that share
//! the thread-locals of their thread and by such that have their own. On one
//! thread, a lock that stops it never comes back from the coroutine that has it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::Duration;

use crore_clients::{each, like_threads, on_threads, spread_crowd};

const CROWD: usize = 100;

/// What whoever holds a lock does: others run, and want it.
fn hold() {
    thread::sleep(Duration::from_micros(200));
}

fn in_all_kinds(test: fn()) {
    for workers in [1, 3] {
        on_threads(workers, test);
        like_threads(workers, test);
    }
}

#[test]
fn a_mutex_is_held_across_waits() {
    in_all_kinds(|| {
        const ROUNDS: usize = 5;
        let count = Arc::new(Mutex::new(0));
        let shared = Arc::clone(&count);
        spread_crowd(CROWD, move |_| {
            for _ in 0..ROUNDS {
                let mut count = shared.lock().unwrap();
                let before = *count;
                hold();
                *count = before + 1;
            }
        });
        assert_eq!(*count.lock().unwrap(), CROWD * ROUNDS);
    });
}

/// Nobody leaves before all are in; std's lock lets that many read.
#[test]
fn readers_share_a_lock() {
    in_all_kinds(|| {
        let (lock, all_in) = (Arc::new(RwLock::new(7)), Arc::new(Barrier::new(CROWD)));
        let (values, _) = spread_crowd(CROWD, move |_| {
            let value = lock.read().unwrap();
            all_in.wait();
            *value
        });
        each(&values, |_| 7);
    });
}

#[test]
fn writers_exclude_readers() {
    in_all_kinds(|| {
        let pair = Arc::new(RwLock::new((0, 0)));
        let shared = Arc::clone(&pair);
        spread_crowd(CROWD, move |i| {
            if i % 4 == 0 {
                let mut pair = shared.write().unwrap();
                pair.0 += 1;
                hold();
                pair.1 += 1;
            } else {
                let pair = shared.read().unwrap();
                let before = *pair;
                assert_eq!(before.0, before.1, "a write half done");
                hold();
                assert_eq!(*pair, before, "written while it was read");
            }
        });
        assert_eq!(*pair.read().unwrap(), (CROWD / 4, CROWD / 4));
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
    in_all_kinds(|| {
        const PLACES: usize = 3;
        const EACH: usize = 20;
        let queue = Arc::new(Queue::default());
        let (sums, _) = spread_crowd(CROWD, move |i| {
            let mut sum = 0;
            for round in 0..EACH {
                let items = queue.items.lock().unwrap();
                if i % 2 == 0 {
                    let full = |items: &mut VecDeque<_>| items.len() == PLACES;
                    let mut items = queue.not_full.wait_while(items, full).unwrap();
                    items.push_back(i * EACH + round);
                    queue.not_empty.notify_one();
                } else {
                    let empty = |items: &mut VecDeque<_>| items.is_empty();
                    let mut items = queue.not_empty.wait_while(items, empty).unwrap();
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

#[test]
fn condition_variables_time_out_and_wake_all() {
    in_all_kinds(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = Arc::clone(&pair);
        let helper = crore::spawn(move || {
            let (count, changed) = &*theirs;
            while *count.lock().unwrap() < CROWD {
                thread::sleep(Duration::from_millis(1));
            }
            *count.lock().unwrap() += 1;
            changed.notify_all();
        });
        let (late, _) = spread_crowd(CROWD, move |_| {
            let (count, changed) = &*pair;
            let nobody = Condvar::new();
            let own = Mutex::new(());
            let short = Duration::from_millis(5);
            let own = own.lock().unwrap();
            let (_own, late) = nobody.wait_timeout_while(own, short, |()| true).unwrap();
            let mut all = count.lock().unwrap();
            *all += 1;
            // All wait here at one time, before one call wakes them.
            drop(changed.wait_while(all, |all| *all <= CROWD).unwrap());
            late.timed_out()
        });
        each(&late, |_| true);
        helper.join().unwrap();
    });
}

#[test]
fn a_barrier_has_one_leader_a_round() {
    in_all_kinds(|| {
        const ROUNDS: usize = 20;
        let barrier = Arc::new(Barrier::new(CROWD));
        let arrived: Arc<[AtomicUsize; ROUNDS]> = Arc::new([const { AtomicUsize::new(0) }; ROUNDS]);
        let (leads, _) = spread_crowd(CROWD, move |_| {
            let lead = |round: usize| {
                arrived[round].fetch_add(1, Ordering::Relaxed);
                let leads = barrier.wait().is_leader();
                assert_eq!(arrived[round].load(Ordering::Relaxed), CROWD);
                usize::from(leads)
            };
            (0..ROUNDS).map(lead).sum::<usize>()
        });
        assert_eq!(leads.iter().sum::<usize>(), ROUNDS);
    });
}

/// The first of them parks while it makes the value, and all others wait.
#[test]
fn what_is_made_once_is_made_by_one_who_parks() {
    in_all_kinds(|| {
        fn make() -> usize {
            thread::sleep(Duration::from_millis(20));
            7
        }
        fn once() -> (Once, AtomicUsize) {
            (Once::new(), AtomicUsize::new(0))
        }
        let all = (once(), OnceLock::new(), LazyLock::<usize>::new(make));
        let all = Arc::new(all);
        let (values, _) = spread_crowd(CROWD, move |i| {
            let ((once, times), cell, lazy) = &*all;
            let call = || {
                once.call_once(|| {
                    times.fetch_add(make(), Ordering::Relaxed);
                });
            };
            // Not all in one order, so that some wait for each.
            if i % 2 == 0 {
                call();
            }
            let values = (*cell.get_or_init(|| i + make()), **lazy);
            call();
            (values, times.load(Ordering::Relaxed))
        });
        // By one of them, whoever that was.
        let first = values[0].0.0;
        each(&values, |_| ((first, 7), 7));
    });
}

/// A panic with the lock poisons it; that another coroutine of the thread
/// unwinds poisons no lock.
#[test]
fn only_whose_holder_panics_is_poisoned() {
    /// Parks, if it may, while its coroutine unwinds.
    struct Slow<'a>(&'a AtomicBool);
    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            assert!(thread::panicking());
            thread::sleep(Duration::from_millis(20));
            self.0.store(true, Ordering::Relaxed);
        }
    }
    in_all_kinds(|| {
        let unwound = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&unwound);
        let (poisoned, _) = spread_crowd(10, move |i| {
            let lock = Mutex::new(());
            let panics = i == 3;
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _held = lock.lock().unwrap();
                if panics {
                    let _slow = Slow(&unwound);
                    panic!("a panic that is wanted");
                }
                while !unwound.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    assert!(!thread::panicking(), "another's panic");
                }
            }));
            assert_eq!(result.is_err(), panics);
            lock.is_poisoned()
        });
        each(&poisoned, |i| i == 3);
        assert!(seen.load(Ordering::Relaxed));
    });
}
