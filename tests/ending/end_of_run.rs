//! The promise: what becomes of the others when `run`'s closure returns.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Builder, JoinHandle, Runtime};

use crate::common::{in_child, stderr};

const SIGABRT: i32 = 6;

/// As good as for ever, and no test waits for it.
const LONG: Duration = Duration::from_secs(3600);

/// Counts its drops.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn counted(count: &Count) -> OnDrop<impl FnMut() + use<>> {
    let count = count.clone();
    OnDrop(move || _ = count.0.fetch_add(1, Relaxed))
}

/// Spawns `wait` on its own and returns from `run` once it waits: its
/// destructors have run, and its joiner hears that it was cancelled.
fn unwinds(wait: impl FnOnce() + Send + 'static) {
    let (drops, after) = (Count::default(), Count::default());
    let (dropped, reached) = (counted(&drops), after.clone());
    let start = Instant::now();
    let handle = crore::run(|| {
        let handle = crore::spawn(move || {
            let _dropped = dropped;
            wait();
            reached.0.fetch_add(1, Relaxed);
        });
        crore::yield_now();
        assert!(!handle.is_finished());
        handle
    })
    .unwrap();
    assert_eq!((drops.get(), after.get()), (1, 0));
    assert!(handle.join().unwrap_err().is_cancelled());
    assert!(start.elapsed() < LONG);
}

#[test]
fn whoever_waits_unwinds() {
    unwinds(crore::park);
    unwinds(|| crore::park_timeout(LONG));
    unwinds(|| crore::sleep(LONG));
    unwinds(|| crore::sleep(Duration::MAX));
    unwinds(|| crore::block_on(std::future::pending()));
    unwinds(|| crore::spawn(crore::park).join().unwrap_or_default());
    unwinds(|| {
        loop {
            crore::yield_now();
        }
    });
}

#[test]
fn a_token_or_a_passed_deadline_is_no_way_out() {
    unwinds(|| {
        loop {
            crore::current().unpark();
            crore::park();
            crore::sleep(Duration::ZERO);
            crore::yield_now();
        }
    });
}

#[test]
fn the_whole_stack_unwinds_in_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let push = |what: u32| {
        let order = Arc::clone(&order);
        OnDrop(move || order.lock().unwrap().push(what))
    };
    let (outer, inner) = (push(2), push(1));
    crore::run(|| {
        crore::spawn(move || {
            let _outer = outer;
            let callee = || {
                let _inner = inner;
                crore::park();
            };
            callee();
        });
        crore::yield_now();
    })
    .unwrap();
    assert_eq!(*order.lock().unwrap(), [1, 2]);
}

#[test]
fn a_thousand_of_each_kind_end() {
    let drops = Count::default();
    let runtime = Runtime::builder().build().unwrap();
    let handles: Vec<JoinHandle<()>> = runtime
        .run(|| {
            let handles = (0..4000)
                .map(|i| {
                    let dropped = counted(&drops);
                    crore::spawn(move || {
                        let _dropped = dropped;
                        match i % 4 {
                            0 => crore::park(),
                            1 => crore::sleep(LONG),
                            2 => loop {
                                crore::yield_now();
                            },
                            _ => crore::block_on(std::future::pending()),
                        }
                    })
                })
                .collect();
            crore::yield_now();
            handles
        })
        .unwrap();
    assert_eq!(drops.get(), 4000);
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    let metrics = runtime.metrics();
    assert_eq!(
        (metrics.spawned, metrics.ended, metrics.abandoned),
        (4001, 4001, 0)
    );
}

#[test]
fn those_that_never_started_are_dropped() {
    let (drops, ran) = (Count::default(), Count::default());
    let handles: Vec<_> = crore::run(|| {
        (0..10_000)
            .map(|_| {
                let (dropped, ran) = (counted(&drops), ran.clone());
                crore::spawn(move || {
                    ran.0.fetch_add(1, Relaxed);
                    drop(dropped);
                })
            })
            .collect()
    })
    .unwrap();
    assert_eq!(drops.get(), 10_000);
    let cancelled = handles
        .into_iter()
        .filter_map(|handle| handle.join().err())
        .inspect(|error| assert!(error.is_cancelled()))
        .count();
    // Some had their turn before main's end was noticed; not many.
    assert_eq!(cancelled as u32, 10_000 - ran.get());
    assert!(ran.get() < 1000, "{} ran", ran.get());
}

#[test]
fn spawns_of_those_that_unwind_never_start() {
    let (drops, ran) = (Count::default(), Count::default());
    let (dropped, theirs) = (counted(&drops), ran.clone());
    crore::run(|| {
        crore::spawn(move || {
            let mut spawn = Some((dropped, theirs));
            let _spawner = OnDrop(move || {
                let (dropped, ran) = spawn.take().unwrap();
                let handle = crore::spawn(move || {
                    ran.0.fetch_add(1, Relaxed);
                    drop(dropped);
                });
                assert!(!handle.is_finished());
            });
            crore::park();
        });
        crore::yield_now();
    })
    .unwrap();
    assert_eq!((drops.get(), ran.get()), (1, 0));
}

#[test]
fn one_that_catches_the_unwind_meets_it_again() {
    let caught = Count::default();
    let theirs = caught.clone();
    let handle = crore::run(|| {
        let handle = crore::spawn(move || {
            for _ in 0..100 {
                let unwound = catch_unwind(crore::park).is_err();
                theirs.0.fetch_add(u32::from(unwound), Relaxed);
            }
            "ended in its own way"
        });
        crore::yield_now();
        handle
    })
    .unwrap();
    assert_eq!(caught.get(), 100);
    assert_eq!(handle.join().unwrap(), "ended in its own way");
}

#[test]
fn one_that_was_cancelled_alone_ends_alone() {
    crore::run(|| {
        let drops = Count::default();
        let dropped = counted(&drops);
        let victim = crore::spawn(move || {
            let _dropped = dropped;
            crore::park();
        });
        let bystander = crore::spawn(|| {
            crore::park();
            1
        });
        crore::yield_now();
        victim.cancel();
        victim.cancel();
        assert!(victim.join().unwrap_err().is_cancelled());
        assert_eq!(drops.get(), 1);
        bystander.coroutine().unpark();
        assert_eq!(bystander.join().unwrap(), 1);
    })
    .unwrap();
}

#[test]
fn one_that_ignores_everything_is_abandoned() {
    let output = in_child("one_that_ignores_everything_is_abandoned", || {
        let runtime = Runtime::builder().build().unwrap();
        let drops = Count::default();
        let dropped = counted(&drops);
        let handle = runtime.run(|| {
            let deaf = Builder::new().name("deaf".into()).spawn(move || {
                let _dropped = dropped;
                loop {
                    let _ = catch_unwind(crore::park);
                }
            });
            crore::yield_now();
            deaf.unwrap()
        });
        let handle: JoinHandle<()> = handle.unwrap();
        assert!(handle.join().unwrap_err().is_cancelled());
        assert_eq!(drops.get(), 0, "its frames are left alone");
        let metrics = runtime.metrics();
        assert_eq!((metrics.abandoned, metrics.ended), (1, 2));
        // The thread is none the worse for it.
        assert_eq!(
            runtime.run(|| crore::spawn(|| 3).join().unwrap()).unwrap(),
            3
        );
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("the coroutine \"deaf\" spawned at tests/ending/end_of_run.rs:"),
        "{text}"
    );
    assert!(
        text.contains("it is abandoned, its destructors do not run"),
        "{text}"
    );
}

#[test]
fn a_cancellation_prints_nothing() {
    let output = in_child("a_cancellation_prints_nothing", || {
        crore::run(|| {
            crore::spawn(crore::park);
            crore::yield_now();
        })
        .unwrap();
    });
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
}

#[test]
fn destructors_may_yield_and_sleep_while_unwinding() {
    // Not by parking: others would see this one's panic count. The thread
    // itself yields and sleeps.
    let steps = Count::default();
    let theirs = steps.clone();
    crore::run(|| {
        let others = Rc::new(Cell::new(0));
        let seen = Rc::clone(&others);
        crore::spawn_local(move || {
            let _waits = OnDrop(move || {
                let before = seen.get();
                assert!(thread::panicking());
                crore::yield_now();
                crore::sleep(Duration::from_millis(1));
                assert_eq!(seen.get(), before, "nobody else ran");
                theirs.0.fetch_add(1, Relaxed);
            });
            crore::park();
        });
        crore::spawn_local(move || {
            loop {
                others.set(others.get() + 1);
                crore::yield_now();
            }
        });
        crore::yield_now();
    })
    .unwrap();
    assert_eq!(steps.get(), 1);
}

#[test]
fn destructors_may_join_the_finished() {
    let joined = Count::default();
    let theirs = joined.clone();
    crore::run(|| {
        let mut done = Some(crore::spawn(|| 4));
        crore::spawn(move || {
            let _joins = OnDrop(move || {
                let value = done.take().unwrap().join().unwrap();
                theirs.0.fetch_add(value, Relaxed);
            });
            crore::park();
        });
        crore::yield_now();
    })
    .unwrap();
    assert_eq!(joined.get(), 4);
}

/// A coroutine whose destructor parks while it unwinds ends the process.
fn aborts(name: &str, wait: fn()) {
    let output = in_child(name, || {
        crore::run(|| {
            crore::spawn(move || {
                let _waits = OnDrop(wait);
                crore::park();
            });
            crore::yield_now();
        })
        .unwrap();
    });
    let text = stderr(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{text}");
    assert!(
        text.contains("a coroutine must not park while it unwinds"),
        "{text}"
    );
}

#[test]
fn a_park_while_unwinding_aborts() {
    aborts("a_park_while_unwinding_aborts", crore::park);
}

#[test]
fn a_join_while_unwinding_aborts() {
    aborts("a_join_while_unwinding_aborts", || {
        let _ = crore::spawn(|| ()).join();
    });
}

#[test]
fn a_block_on_while_unwinding_aborts() {
    aborts("a_block_on_while_unwinding_aborts", || {
        crore::block_on(std::future::pending())
    });
}

#[test]
fn an_ordinary_panic_unwinds_past_destructors_that_do_not_wait() {
    crore::run(|| {
        let drops = Count::default();
        let dropped = counted(&drops);
        let handle = crore::spawn(move || {
            let _dropped = dropped;
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _unparks = OnDrop(|| crore::current().unpark());
                panic!("inner");
            }));
            assert!(result.is_err());
            crore::park(); // takes what the destructor left
            panic!("outer");
        });
        assert!(handle.join().unwrap_err().is_panic());
        assert_eq!(drops.get(), 1);
    })
    .unwrap();
}
