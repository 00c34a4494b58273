//! The promise: spawning and joining, after `std::thread`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use crore::{Builder, Coroutine, JoinError, JoinHandle, Runtime};

fn payload<T>(result: Result<T, JoinError>) -> Box<dyn Any + Send> {
    match result {
        Ok(_) => panic!("it did not panic"),
        Err(error) => error.into_panic(),
    }
}

#[test]
fn results_come_back_in_any_order_of_joining() {
    let sum: u64 = crore::run(|| {
        let mut all: Vec<_> = (0..1000u64)
            .map(|i| {
                crore::spawn(move || {
                    (0..i % 5).for_each(|_| crore::yield_now());
                    i
                })
            })
            .collect();
        // Evens from behind, then odds from the front.
        let odds: Vec<_> = (0..500).map(|i| all.remove(i + 1)).collect();
        let evens = all.into_iter().rev();
        evens.chain(odds).map(|h| h.join().unwrap()).sum()
    })
    .unwrap();
    assert_eq!(sum, 499_500);
}

#[test]
fn a_hundred_thousand_live_at_once() {
    if !crate::common::may_have_stacks(100_000) {
        return;
    }
    crore::run(|| {
        let all: Vec<_> = (0..100_000u32)
            .map(|i| {
                let builder = Builder::new().stack_size(32 * 1024);
                builder.spawn(move || {
                    crore::park();
                    i
                })
            })
            .collect::<Result<_, _>>()
            .unwrap();
        crore::yield_now();
        for handle in &all {
            assert!(!handle.is_finished());
            handle.coroutine().unpark();
        }
        for (i, handle) in all.into_iter().enumerate() {
            assert_eq!(handle.join().unwrap(), i as u32);
        }
    })
    .unwrap();
}

#[test]
fn a_coroutine_first_runs_when_its_spawner_lets_it() {
    crore::run(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let note = |what: u32| {
            let order = Rc::clone(&order);
            move || order.borrow_mut().push(what)
        };
        let first = crore::spawn_local(note(1));
        let second = crore::spawn_local(note(2));
        note(0)();
        second.join().unwrap();
        first.join().unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2]);
    })
    .unwrap();
}

#[test]
fn names_and_ids_tell_coroutines_apart() {
    crore::run(|| {
        assert_eq!(crore::current().name(), Some("main"));
        let seen = |builder: Builder| {
            let handle = builder
                .spawn(|| {
                    let me: Coroutine = crore::current();
                    (me.id(), me.name().map(String::from))
                })
                .unwrap();
            let (id, name) = (
                handle.coroutine().id(),
                handle.coroutine().name().map(String::from),
            );
            assert_eq!(handle.join().unwrap(), (id, name.clone()));
            (id, name)
        };
        let (first, name) = seen(Builder::new().name("conn".into()));
        assert_eq!(name.as_deref(), Some("conn"));
        let (second, name) = seen(Builder::new());
        assert_eq!(name, None);
        assert_ne!(
            first, second,
            "also when the second one lives in the first one's place"
        );
    })
    .unwrap();
}

#[test]
fn a_large_stack_holds_what_a_small_one_could_not() {
    const BYTES: usize = 256 << 10;
    let sum = crore::run(|| {
        let roomy = Builder::new().stack_size(8 * BYTES).spawn(|| {
            let large = std::hint::black_box([1u8; BYTES]);
            crore::yield_now();
            large.iter().map(|&byte| usize::from(byte)).sum::<usize>()
        });
        roomy.unwrap().join().unwrap()
    })
    .unwrap();
    assert_eq!(sum, BYTES);
}

#[test]
fn a_panic_reaches_its_joiner_and_nobody_else() {
    #[derive(Debug, PartialEq)]
    struct Odd(u8);

    crore::run(|| {
        let bystander = crore::spawn(|| {
            crore::park();
            "unharmed"
        });
        let text = crore::spawn(|| -> u32 { panic!("boom") });
        let string = crore::spawn(|| -> u32 { panic!("boom {}", black_box(1)) });
        let other = crore::spawn(|| -> u32 { panic_any(Odd(3)) });

        assert_eq!(*payload(text.join()).downcast::<&str>().unwrap(), "boom");
        let error = string.join().unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.to_string(), "coroutine panicked: boom 1");
        assert_eq!(*error.into_panic().downcast::<String>().unwrap(), "boom 1");
        let error = other.join().unwrap_err();
        assert_eq!(error.to_string(), "coroutine panicked");
        assert_eq!(*error.into_panic().downcast::<Odd>().unwrap(), Odd(3));

        bystander.coroutine().unpark();
        assert_eq!(bystander.join().unwrap(), "unharmed");
        assert!(!thread::panicking());
    })
    .unwrap();
}

#[test]
fn a_panic_that_nobody_joins_is_dropped_once_and_harms_nobody() {
    let drops = Drops::default();
    crore::run(|| {
        let token = drops.token();
        drop(crore::spawn(move || panic_any(token)));
        crore::yield_now();
        assert_eq!(crore::spawn(|| 5).join().unwrap(), 5);
    })
    .unwrap();
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_panic_may_be_caught_across_waits() {
    crore::run(|| {
        let caught = crore::spawn(|| {
            let result = catch_unwind(|| {
                crore::yield_now();
                panic!("inside");
            });
            crore::yield_now();
            *result.unwrap_err().downcast::<&str>().unwrap()
        });
        assert_eq!(caught.join().unwrap(), "inside");
    })
    .unwrap();
}

#[test]
fn a_finished_coroutine_is_joined_at_once() {
    crore::run(|| {
        let handle = crore::spawn(|| 7);
        assert!(!handle.is_finished());
        crore::yield_now();
        assert!(handle.is_finished());
        assert_eq!(handle.join().unwrap(), 7);
    })
    .unwrap();
}

#[test]
fn dropping_the_handle_detaches() {
    crore::run(|| {
        let count = Rc::new(Cell::new(0));
        let main = crore::current();
        let end = |wait: bool| {
            let (count, main) = (Rc::clone(&count), main.clone());
            move || {
                if wait {
                    crore::park();
                }
                count.set(count.get() + 1);
                main.unpark();
            }
        };
        // Before the first run, while parked, after the end.
        drop(crore::spawn_local(end(false)));
        while count.get() < 1 {
            crore::park();
        }
        let parked = crore::spawn_local(end(true));
        crore::yield_now();
        let id = parked.coroutine().id();
        drop(parked);
        id.unpark();
        while count.get() < 2 {
            crore::park();
        }
        let ended = crore::spawn_local(end(false));
        crore::yield_now();
        assert!(ended.is_finished());
        drop(ended);
        assert_eq!(count.get(), 3);
    })
    .unwrap();
}

#[test]
fn coroutines_spawn_coroutines() {
    fn tree(depth: u32) -> u32 {
        if depth == 0 {
            return 1;
        }
        let children = [0, 1].map(|_| crore::spawn(move || tree(depth - 1)));
        children
            .into_iter()
            .map(|child| child.join().unwrap())
            .sum()
    }
    assert_eq!(crore::run(|| tree(10)).unwrap(), 1024);
}

#[test]
fn local_ones_share_what_no_other_thread_may_see() {
    crore::run(|| {
        let shared = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<JoinHandle<Rc<_>>> = (0..10)
            .map(|i| {
                let shared = Rc::clone(&shared);
                crore::spawn_local(move || {
                    crore::yield_now();
                    shared.borrow_mut().push(i);
                    shared
                })
            })
            .collect();
        for handle in all {
            assert!(Rc::ptr_eq(&handle.join().unwrap(), &shared));
        }
        assert_eq!(*shared.borrow(), (0..10).collect::<Vec<_>>());
    })
    .unwrap();
}

#[test]
fn a_plain_thread_spawns_and_joins() {
    let runtime = Runtime::builder().build().unwrap();
    let handle = runtime.handle();
    thread::scope(|scope| {
        let outside = scope.spawn(move || {
            let all: Vec<_> = (0..1000u64)
                .map(|i| {
                    handle.spawn(move || {
                        crore::yield_now();
                        if i == 500 {
                            panic!("the middle one")
                        } else {
                            i
                        }
                    })
                })
                .collect();
            let stop = handle.spawn(|| ());
            let sum: u64 = all
                .into_iter()
                .filter_map(|h| h.join().map_err(|error| assert!(error.is_panic())).ok())
                .sum();
            stop.join().unwrap();
            sum
        });
        runtime.run(|| until(|| outside.is_finished())).unwrap();
        assert_eq!(outside.join().unwrap(), 499_500 - 500);
    });
}

#[test]
fn another_runtime_s_coroutine_joins() {
    let (send, receive) = mpsc::channel();
    let other = thread::spawn(move || {
        crore::run(|| {
            let handle: JoinHandle<u32> = receive.recv().unwrap();
            handle.join().unwrap()
        })
        .unwrap()
    });
    crore::run(|| {
        let (main, parked) = (
            crore::current(),
            crore::spawn(|| {
                crore::park();
                11
            }),
        );
        let id = parked.coroutine().id();
        // Their end is ours to see: another handle, joined by a third one.
        send.send(parked).unwrap();
        id.unpark();
        until(|| other.is_finished());
        assert_eq!(main.id(), crore::current().id());
    })
    .unwrap();
    assert_eq!(other.join().unwrap(), 11);
}

#[test]
fn a_handle_may_be_dropped_on_another_thread() {
    let drops = Drops::default();
    crore::run(|| {
        for state in ["new", "parked", "ended"] {
            let token = drops.token();
            let handle = crore::spawn(move || {
                if state == "parked" {
                    crore::park();
                }
                token
            });
            if state != "new" {
                crore::yield_now();
            }
            let id = handle.coroutine().id();
            thread::spawn(move || drop(handle)).join().unwrap();
            id.unpark();
            crore::yield_now();
        }
        assert_eq!(drops.count(), 3);
    })
    .unwrap();
}

/// Counts how often its tokens are dropped.
#[derive(Default)]
struct Drops(Arc<AtomicUsize>);

struct Token(Arc<AtomicUsize>);

impl Drops {
    fn token(&self) -> Token {
        Token(Arc::clone(&self.0))
    }

    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Lets the others run until something has happened on another thread.
fn until(done: impl Fn() -> bool) {
    while !done() {
        crore::yield_now();
    }
}

#[test]
fn a_result_is_dropped_once_however_it_ends() {
    let check = |case: &str, f: &dyn Fn(&Drops)| {
        let drops = Drops::default();
        f(&drops);
        assert_eq!(drops.count(), 1, "{case}");
    };
    let in_runtime = |case: &str, f: fn(&Drops)| {
        check(case, &|drops| crore::run(|| f(drops)).unwrap());
    };
    let returns = |drops: &Drops| {
        let token = drops.token();
        move || token
    };
    in_runtime("taken", |drops| {
        let token = drops.token();
        let taken = crore::spawn(move || token).join().unwrap();
        assert_eq!(drops.count(), 0);
        drop(taken);
    });
    in_runtime("never taken", |drops| {
        let token = drops.token();
        let handle = crore::spawn(move || token);
        crore::yield_now();
        assert!(handle.is_finished() && drops.count() == 0);
    });
    in_runtime("handle dropped before the first run", |drops| {
        let token = drops.token();
        drop(crore::spawn(move || token));
        crore::yield_now();
        assert_eq!(drops.count(), 1);
    });
    in_runtime("handle dropped while parked", |drops| {
        let token = drops.token();
        let handle = crore::spawn(move || {
            crore::park();
            token
        });
        crore::yield_now();
        let id = handle.coroutine().id();
        drop(handle);
        assert_eq!(drops.count(), 0);
        id.unpark();
        crore::yield_now();
        assert_eq!(drops.count(), 1);
    });
    check("handle outlives the runtime", &|drops| {
        let handle = crore::run(|| {
            let handle = crore::spawn(returns(drops));
            crore::yield_now();
            handle
        })
        .unwrap();
        assert_eq!(drops.count(), 0);
        drop(handle.join().unwrap());
    });
    check("never started", &|drops| {
        let handle = crore::run(|| {
            let handle = crore::spawn(returns(drops));
            handle.cancel();
            handle
        })
        .unwrap();
        assert_eq!(drops.count(), 1, "with the runtime, not with the handle");
        assert!(handle.join().is_err_and(|error| error.is_cancelled()));
    });
    check("runtime dropped with a queued spawn", &|drops| {
        let runtime = Runtime::builder().build().unwrap();
        let handle = runtime.handle().spawn(returns(drops));
        assert!(!handle.is_finished() && drops.count() == 0);
        drop(runtime);
        assert_eq!(drops.count(), 1);
        assert!(handle.join().is_err_and(|error| error.is_cancelled()));
    });
    check("runtime and handle dropped with a queued spawn", &|drops| {
        let runtime = Runtime::builder().build().unwrap();
        drop(runtime.handle().spawn(returns(drops)));
        assert_eq!(drops.count(), 0);
    });
}

/// Panics when dropped, and counts it.
struct Bomb(Token);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("bomb of {}", self.0.0.load(Relaxed));
        }
    }
}

#[test]
fn a_result_that_panics_when_dropped_harms_only_who_drops_it() {
    let drops = Drops::default();
    crore::run(|| {
        // Nobody takes it: it is dropped where the handle is.
        let bomb = Bomb(drops.token());
        let handle = crore::spawn(move || bomb);
        crore::yield_now();
        assert!(catch_unwind(AssertUnwindSafe(move || drop(handle))).is_err());
        assert_eq!(drops.count(), 1);

        // Nobody can take it: it is dropped in the coroutine.
        let bomb = Bomb(drops.token());
        drop(crore::spawn(move || bomb));
        crore::yield_now();
        assert_eq!(drops.count(), 2);
        assert_eq!(crore::spawn(|| 1).join().unwrap(), 1);
    })
    .unwrap();
}

#[test]
fn a_closure_that_panics_when_dropped_unstarted_still_tells_its_joiner() {
    let drops = Drops::default();
    let bombs = || {
        let bomb = Bomb(drops.token());
        move || drop(bomb)
    };
    // Cancelled while the joiner is parked …
    crore::run(|| {
        let unstarted = [crore::spawn(bombs()), crore::spawn(bombs())];
        unstarted.iter().for_each(JoinHandle::cancel);
        for handle in unstarted {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    })
    .unwrap();
    assert_eq!(drops.count(), 2);
    // … and with a runtime that never ran.
    let runtime = Runtime::builder().build().unwrap();
    let handles = [0, 1].map(|_| runtime.handle().spawn(bombs()));
    drop(runtime);
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    assert_eq!(drops.count(), 4);
}

#[test]
fn a_joiner_waits_for_a_cancelled_one() {
    crore::run(|| {
        let handle = crore::spawn(|| {
            struct Slow;
            impl Drop for Slow {
                fn drop(&mut self) {
                    crore::yield_now(); // an unwinding coroutine does not give way
                }
            }
            let _slow = Slow;
            crore::park();
        });
        crore::yield_now();
        handle.cancel();
        assert!(!handle.is_finished());
        assert!(handle.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}

#[test]
fn handles_are_send_and_sync_as_their_results_are() {
    fn both<T: Send + Sync + Unpin>() {}
    both::<JoinHandle<Cell<u8>>>();
    both::<Coroutine>();
    both::<crore::CoroutineId>();
    both::<crore::Handle>();
    both::<Runtime>();
}

#[test]
fn a_panic_says_which_coroutine_it_is() {
    let output = crate::common::in_child("a_panic_says_which_coroutine_it_is", || {
        crore::run(|| {
            let lost = Builder::new().name("lost".into());
            let lost = lost.spawn(|| panic!("its words")).unwrap();
            assert!(lost.join().is_err());
            // The thread's name says as much of this one.
            let own = std::panic::catch_unwind(|| panic!("main's words"));
            assert!(own.is_err());
        })
        .unwrap();
    });
    let said = crate::common::stderr(&output);
    let (before, after) = said.split_once("its words").unwrap();
    assert!(before.contains("crore: coroutine 'lost' (id "), "{said}");
    assert!(before.contains("spawn_join.rs:"), "{said}");
    assert!(after.contains("main's words"), "{said}");
    assert_eq!(said.matches(", panics:\n").count(), 1, "{said}");
}
