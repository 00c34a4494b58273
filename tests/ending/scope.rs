//! The promise: scoped coroutines borrow, and are gone when the scope is.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use crore::{Builder, Runtime};

use crate::common::{in_child, stderr};

const LONG: Duration = Duration::from_secs(3600);

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn on_workers(workers: usize, test: impl FnOnce() + Send) {
    Runtime::builder()
        .workers(workers)
        .build()
        .unwrap()
        .run(test)
        .unwrap();
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("?")
}

#[test]
fn all_children_end_before_the_scope_does() {
    for workers in [1, 3] {
        on_workers(workers, || {
            let count = AtomicU32::new(0);
            let words: Vec<String> = (0..100).map(|i| format!("word {i}")).collect();
            let lengths = crore::scope(|s| {
                for word in &words {
                    s.spawn(|| {
                        crore::sleep(Duration::from_millis(1));
                        count.fetch_add(word.len() as u32, Relaxed);
                    });
                }
                words
                    .iter()
                    .map(|word| s.spawn(|| word.len()).join().unwrap())
                    .sum::<usize>()
            });
            assert_eq!(count.into_inner() as usize, lengths);
            drop(words);
        });
    }
}

#[test]
fn children_spawn_children() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let count = AtomicU32::new(0);
            crore::scope(|s| {
                for _ in 0..10 {
                    s.spawn(|| {
                        for _ in 0..10 {
                            s.spawn(|| {
                                crore::yield_now();
                                count.fetch_add(1, Relaxed);
                            });
                        }
                    });
                }
            });
            assert_eq!(count.into_inner(), 100);
        });
    }
}

#[test]
fn a_long_scope_forgets_those_that_ended() {
    // The list of children would show in the debugger, not to us; that the
    // scope goes on working after many prunings does.
    on_workers(1, || {
        let count = Cell::new(0);
        crore::scope(|s| {
            for i in 0..10_000 {
                let child = s.spawn_local(|| count.set(count.get() + 1));
                if i % 3 == 0 {
                    child.join().unwrap();
                } else if i % 100 == 0 {
                    crore::yield_now();
                }
            }
        });
        assert_eq!(count.get(), 10_000);
    });
}

#[test]
fn a_panic_of_a_child_is_the_scopes_unless_joined() {
    on_workers(1, || {
        let others = AtomicU32::new(0);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            crore::scope(|s| {
                s.spawn(|| panic!("mine"));
                s.spawn(|| {
                    crore::sleep(Duration::from_millis(2));
                    others.fetch_add(1, Relaxed);
                });
            })
        }));
        assert_eq!(
            message(&*unwound.unwrap_err()),
            "a scoped coroutine panicked"
        );
        assert_eq!(others.into_inner(), 1, "a sibling's panic cancels nobody");

        let error = crore::scope(|s| s.spawn(|| panic!("joined")).join().unwrap_err());
        assert_eq!(message(&*error.into_panic()), "joined");
    });
}

#[test]
fn a_panic_of_the_closure_cancels_the_children_and_waits_for_them() {
    for workers in [1, 2] {
        on_workers(workers, || {
            let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                crore::scope(|s| {
                    for _ in 0..10 {
                        s.spawn(|| {
                            let _ended = OnDrop(|| _ = ended.fetch_add(1, Relaxed));
                            begun.fetch_add(1, Relaxed);
                            crore::sleep(LONG);
                        });
                    }
                    while begun.load(Relaxed) < 10 {
                        crore::yield_now();
                    }
                    panic!("parent");
                })
            }));
            assert_eq!(message(&*unwound.unwrap_err()), "parent");
            assert_eq!(ended.into_inner(), 10);
        });
    }
}

/// Cancels a parent that is in a scope; `inside` runs in the scope's closure.
fn cancelled_parent(inside: impl FnOnce() + Send + 'static) {
    for_each_worker_count(inside);
    fn for_each_worker_count(inside: impl FnOnce() + Send + 'static) {
        on_workers(2, move || {
            let (ended, alive) = (AtomicU32::new(0), AtomicBool::new(true));
            crore::scope(|outer| {
                let (started, starts) = mpsc::channel();
                let (ended, alive) = (&ended, &alive);
                let parent = outer.spawn(move || {
                    let _gone = OnDrop(|| alive.store(false, Relaxed));
                    let local = String::from("borrowed");
                    crore::scope(|s| {
                        for _ in 0..3 {
                            let (started, local) = (started.clone(), &local);
                            s.spawn(move || {
                                let _ended = OnDrop(|| {
                                    assert_eq!(local, "borrowed");
                                    assert!(alive.load(Relaxed), "the parent has gone first");
                                    ended.fetch_add(1, Relaxed);
                                });
                                started.send(()).unwrap();
                                crore::park();
                            });
                        }
                        inside();
                    });
                    unreachable!("a cancelled wait unwinds");
                });
                while starts.try_iter().count() == 0 {
                    crore::sleep(Duration::from_millis(1));
                }
                parent.cancel();
                assert!(parent.join().unwrap_err().is_cancelled());
            });
            // Those that had not started never did; the others unwound.
            assert!((1..=3).contains(&ended.into_inner()));
        });
    }
}

#[test]
fn cancelling_a_parent_that_waits_for_its_children_cancels_them() {
    cancelled_parent(|| {});
}

#[test]
fn cancelling_a_parent_inside_its_closure_cancels_them() {
    cancelled_parent(crore::park);
}

#[test]
fn a_timeout_around_a_scope_ends_its_children() {
    on_workers(1, || {
        // Those that could not begin in time never do: a slow machine needs
        // more of it.
        let all_began = (0..12).any(|i| {
            let (begun, ended) = (Cell::new(0), Cell::new(0));
            let result = crore::timeout(Duration::from_millis(5 << i), || {
                crore::scope(|s| {
                    for _ in 0..3 {
                        s.spawn_local(|| {
                            let _ended = OnDrop(|| ended.set(ended.get() + 1));
                            begun.set(begun.get() + 1);
                            crore::sleep(LONG);
                        });
                    }
                });
            });
            assert!(result.is_err());
            assert_eq!(ended.get(), begun.get());
            begun.get() == 3
        });
        assert!(all_began);
        crore::sleep(Duration::from_millis(1)); // nothing is left of it
    });
}

#[test]
fn one_child_can_be_cancelled() {
    on_workers(1, || {
        crore::scope(|s| {
            let (one, other) = (s.spawn(crore::park), s.spawn(|| 2));
            crore::yield_now();
            assert!(!one.is_finished());
            one.cancel();
            assert!(one.join().unwrap_err().is_cancelled());
            assert_eq!(other.join().unwrap(), 2);
            let never = s.spawn(|| 3);
            never.cancel();
            assert!(never.join().unwrap_err().is_cancelled());
        });
    });
}

#[test]
fn a_runtime_that_ends_ends_its_scopes() {
    static ENDED: AtomicU32 = AtomicU32::new(0);
    crore::run(|| {
        crore::spawn(|| {
            let local = 1;
            crore::scope(|s| {
                for _ in 0..5 {
                    s.spawn(|| {
                        let _ended = OnDrop(|| _ = ENDED.fetch_add(local, Relaxed));
                        crore::park();
                    });
                }
            });
        });
        crore::yield_now();
        crore::yield_now();
    })
    .unwrap();
    assert_eq!(ENDED.load(Relaxed), 5);
}

#[test]
fn results_that_nobody_takes_are_gone_before_the_scope() {
    struct Borrower<'a>(&'a Cell<u32>);
    impl Drop for Borrower<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    on_workers(1, || {
        let drops = Cell::new(0);
        crore::scope(|s| {
            drop(s.spawn_local(|| Borrower(&drops)));
            let _later = s.spawn_local(|| Borrower(&drops));
            let ended = s.spawn_local(|| Borrower(&drops));
            crore::yield_now();
            drop(ended);
        });
        assert_eq!(drops.get(), 3);
    });
}

#[test]
fn it_refuses_where_it_would_be_unsound() {
    let outside = catch_unwind(|| crore::scope(|_| ())).unwrap_err();
    assert!(message(&*outside).contains("outside a coroutine"));
    on_workers(1, || {
        // SAFETY: the closure hands out no reference to its frames.
        let shared = unsafe { crore::spawn_shared(|| crore::scope(|_| ())) };
        let error = shared.join().unwrap_err().into_panic();
        assert!(message(&*error).contains("shared stack"));
    });
    // In a destructor, even if that catches the refusal.
    let refused = AtomicBool::new(false);
    on_workers(1, || {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _scopes = OnDrop(|| {
                let result = catch_unwind(|| crore::scope(|s| _ = s.spawn(crore::park)));
                refused.store(result.is_err(), Relaxed);
            });
            panic!("outer");
        }));
    });
    assert!(refused.into_inner());
}

#[test]
fn a_deaf_child_takes_its_parent_along() {
    let output = in_child("a_deaf_child_takes_its_parent_along", || {
        let runtime = Runtime::builder().build().unwrap();
        let parent = runtime
            .run(|| {
                let parent = Builder::new().name("parent".into()).spawn(|| {
                    let _never = OnDrop(|| unreachable!("its frames are left alone"));
                    let local = 1;
                    crore::scope(|s| {
                        Builder::new()
                            .name("deaf".into())
                            .spawn_scoped(s, || {
                                while std::hint::black_box(local) == 1 {
                                    let _ = catch_unwind(crore::park);
                                }
                            })
                            .unwrap();
                    });
                });
                crore::yield_now();
                crore::yield_now();
                parent.unwrap()
            })
            .unwrap();
        assert!(parent.join().unwrap_err().is_cancelled());
        assert_eq!(runtime.metrics().abandoned, 2);
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("the coroutine \"deaf\" spawned at tests/ending/scope.rs:"),
        "{text}"
    );
    assert!(text.contains("the coroutine \"parent\""), "{text}");
    assert!(
        text.contains("waited for scoped coroutines of which one was abandoned"),
        "{text}"
    );
}

#[test]
fn a_child_that_comes_after_the_cancellation_is_cancelled_too() {
    on_workers(1, || {
        let parent = crore::spawn(|| {
            crore::scope(|s| {
                s.spawn(|| {
                    // It is told to end, and spawns another one first.
                    let told = catch_unwind(crore::park).is_err();
                    assert!(told);
                    s.spawn(crore::park);
                });
            });
        });
        crore::yield_now();
        parent.cancel();
        assert!(parent.join().unwrap_err().is_cancelled());
    });
}
