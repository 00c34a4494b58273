//! Groups that are joined in the order in which they end; joins with a time limit.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crore::sync::Notify;
use crore::{JoinSet, Runtime};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn members_come_in_the_order_of_their_ends() {
    crore::run(|| {
        let mut set = JoinSet::new();
        for i in [30, 10, 20] {
            set.spawn(move || {
                crore::sleep(Duration::from_millis(i));
                i
            });
        }
        let order: Vec<u64> = set.join_all().into_iter().map(Result::unwrap).collect();
        assert_eq!(order, [10, 20, 30]);
    })
    .unwrap();
}

#[test]
fn results_panics_and_cancellations_come_once_each() {
    for workers in [1, 3] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime
            .run(|| {
                let mut set = JoinSet::new();
                for i in 0..300 {
                    set.spawn(move || match i % 3 {
                        0 => i,
                        1 => std::panic::resume_unwind(Box::new(i)),
                        _ => {
                            crore::park();
                            i
                        }
                    });
                }
                let mut ended = (0..200).map(|_| set.join_next().unwrap());
                let (fine, torn): (Vec<_>, Vec<_>) = ended.by_ref().partition(Result::is_ok);
                assert_eq!((fine.len(), torn.len()), (100, 100));
                assert!(torn.into_iter().all(|one| one.unwrap_err().is_panic()));
                assert!(set.try_join_next().is_none());
                set.cancel_all();
                let rest = set.join_all();
                assert_eq!(rest.len(), 100);
                assert!(rest.into_iter().all(|one| one.unwrap_err().is_cancelled()));
            })
            .unwrap();
    }
}

#[test]
fn a_set_that_is_dropped_cancels_its_members() {
    crore::run(|| {
        let ended = Rc::new(Cell::new(0));
        let mut set = JoinSet::new();
        for _ in 0..3 {
            struct Counts(Rc<Cell<u32>>);
            impl Drop for Counts {
                fn drop(&mut self) {
                    self.0.set(self.0.get() + 1);
                }
            }
            let counts = Counts(Rc::clone(&ended));
            set.insert(crore::spawn_local(move || {
                let _counts = counts;
                crore::park();
            }));
        }
        crore::yield_now();
        drop(set);
        while ended.get() < 3 {
            crore::yield_now();
        }
    })
    .unwrap();
}

#[test]
fn members_that_have_ended_before_are_joined_too() {
    crore::run(|| {
        let early = crore::spawn(|| 1);
        crore::yield_now();
        assert!(early.is_finished());
        let mut set = JoinSet::new();
        set.insert(early);
        assert_eq!(set.join_next().unwrap().unwrap(), 1);
        assert!(set.join_next().is_none());
    })
    .unwrap();
}

#[test]
fn a_join_that_is_late_leaves_the_set_as_it_was() {
    crore::run(|| {
        let mut set = JoinSet::new();
        set.spawn(crore::park);
        assert!(set.join_next_timeout(Duration::from_millis(1)).is_none());
        let late = crore::timeout(Duration::from_millis(1), || set.join_next());
        assert!(late.is_err());
        assert_eq!(set.len(), 1);
        set.cancel_all();
        assert!(set.join_next().unwrap().unwrap_err().is_cancelled());
    })
    .unwrap();
}

#[test]
fn a_plain_thread_joins_a_set() {
    let runtime = Runtime::builder().build().unwrap();
    let handle = runtime.handle();
    let joined = thread::spawn(move || {
        let mut set = JoinSet::new();
        (0..100).for_each(|i| set.insert(handle.spawn(move || i)));
        set.join_all().into_iter().map(Result::unwrap).sum::<i32>()
    });
    runtime
        .run(|| {
            crore::spawn_blocking(move || joined.join().unwrap())
                .join()
                .unwrap()
        })
        .map(|sum| assert_eq!(sum, 4950))
        .unwrap();
}

/// Resumes of all coroutines while a set of `n` is joined.
fn resumes(n: u32) -> u64 {
    crore::run(|| {
        let resumed = || crore::Handle::current().unwrap().metrics().resumed;
        let before = resumed();
        let mut set = JoinSet::new();
        for i in 0..n {
            set.spawn(move || {
                crore::yield_now();
                i
            });
        }
        let all = set
            .join_all()
            .into_iter()
            .map(|one| u64::from(one.unwrap()));
        assert_eq!(all.sum::<u64>(), u64::from(n) * u64::from(n - 1) / 2);
        resumed() - before
    })
    .unwrap()
}

#[test]
fn joining_is_linear() {
    if !crate::common::may_have_stacks(100_000) {
        return;
    }
    for n in [1_000, 100_000] {
        let count = resumes(n);
        assert!(count <= 3 * u64::from(n) + 10, "{count} resumes for {n}");
    }
}

#[test]
fn a_join_with_a_limit_gives_the_handle_back() {
    crore::run(|| {
        let go = std::sync::Arc::new(Notify::new());
        let waits = crore::spawn({
            let go = std::sync::Arc::clone(&go);
            move || {
                go.wait();
                5
            }
        });
        let begun = Instant::now();
        let waits = waits.join_timeout(Duration::from_millis(5)).unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(5));
        let waits = waits.join_timeout(Duration::ZERO).unwrap_err();
        go.notify_one();
        assert_eq!(waits.join_timeout(LONG).unwrap().unwrap(), 5);
        let torn = crore::spawn(|| std::panic::resume_unwind(Box::new(())));
        let torn: Result<(), _> = torn.join_timeout(LONG).unwrap();
        assert!(torn.unwrap_err().is_panic());
    })
    .unwrap();
}

/// As polling it once more: a panic that says why, and leaves the set as it was.
#[test]
fn a_handle_whose_result_was_taken_is_refused() {
    crore::run(|| {
        let mut set = JoinSet::new();
        set.spawn(|| 1);
        let mut handle = crore::spawn(|| 2);
        assert_eq!(crore::block_on(&mut handle).unwrap(), 2);
        let insert = std::panic::AssertUnwindSafe(|| set.insert(handle));
        let panic = std::panic::catch_unwind(insert);
        let panic = panic.unwrap_err();
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        assert!(text.unwrap().contains("was taken"), "{text:?}");
        let left: Vec<_> = set.join_all().into_iter().map(Result::unwrap).collect();
        assert_eq!(left, [1]);
    })
    .unwrap();
}
