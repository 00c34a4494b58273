//! The promise: a coroutine local is one coroutine's, from its first use to
//! the coroutine's end, whichever end that is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crore::{Builder, JoinHandle, Runtime, coroutine_local, run, spawn, spawn_local, yield_now};

/// Spawns in one of the two kinds of coroutine.
type Spawn = fn(Box<dyn FnOnce()>) -> JoinHandle<()>;

fn shared(f: Box<dyn FnOnce()>) -> JoinHandle<()> {
    // SAFETY: the closures of this file leave nothing of theirs to others but
    // what is on the heap.
    unsafe { crore::spawn_shared(f) }
}

fn on_both_stacks(test: impl Fn(Spawn)) {
    run(|| {
        test(|f| spawn_local(f));
        test(shared);
    })
    .unwrap();
}

coroutine_local! {
    static COUNT: Cell<u64> = const { Cell::new(7) };
    static TEXT: RefCell<String> = String::from("new").into();
}

#[test]
fn each_has_its_own() {
    on_both_stacks(|spawn| {
        let all: Vec<_> = (0..100)
            .map(|i| {
                spawn(Box::new(move || {
                    assert_eq!(COUNT.get(), 7);
                    COUNT.set(i);
                    for round in 0..10 {
                        TEXT.with_borrow_mut(|text| text.push_str(&i.to_string()));
                        yield_now();
                        assert_eq!(COUNT.replace(i + round + 1), i + round);
                    }
                    assert_eq!(TEXT.take(), format!("new{}", i.to_string().repeat(10)));
                    assert_eq!(TEXT.replace("end".into()), "");
                    TEXT.with_borrow(|text| assert_eq!(text, "end"));
                }))
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        assert_eq!((COUNT.get(), COUNT.take(), COUNT.take()), (7, 7, 0));
        COUNT.set(7);
    });
}

#[test]
fn a_reference_holds_across_a_park() {
    on_both_stacks(|spawn| {
        let one = spawn(Box::new(|| {
            TEXT.with(|text| {
                crore::park();
                text.borrow_mut().push('!');
                COUNT.with(|_| crore::park());
                assert_eq!(*text.borrow(), "new!");
            });
        }));
        for _ in 0..2 {
            yield_now();
            one.coroutine().unpark();
        }
        one.join().unwrap();
    });
}

thread_local!(static LOG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) });

thread_local! {
    /// Locals may end outside of their coroutine.
    static ANYWHERE: Cell<bool> = const { Cell::new(false) };
}

fn log(word: &'static str) {
    LOG.with_borrow_mut(|log| log.push(word));
}

struct Logged(&'static str);

impl Drop for Logged {
    fn drop(&mut self) {
        let inside = crore::try_current().is_some() || ANYWHERE.get();
        assert!(inside, "dropped outside");
        log(self.0);
    }
}

coroutine_local! {
    static FIRST: Logged = Logged("first");
    static SECOND: Logged = Logged("second");
    static THIRD: Logged = Logged("third")
}

fn use_three() {
    FIRST.with(|_| THIRD.with(|_| ()));
    SECOND.with(|_| ());
}

#[test]
fn they_end_last_first_before_the_result_is_there() {
    on_both_stacks(|spawn| {
        let noted = Rc::new(RefCell::new(Vec::new()));
        let theirs = Rc::clone(&noted);
        let one = spawn(Box::new(use_three));
        let joiner = spawn_local(move || {
            one.join().unwrap();
            *theirs.borrow_mut() = LOG.take();
        });
        joiner.join().unwrap();
        assert_eq!(*noted.borrow(), ["second", "third", "first"]);
    });
}

#[test]
fn they_end_after_a_panic_and_after_a_cancellation() {
    on_both_stacks(|spawn| {
        ANYWHERE.set(std::ptr::fn_addr_eq(spawn, shared as Spawn));
        let one = spawn(Box::new(|| {
            let _frame = Logged("frame");
            use_three();
            std::panic::resume_unwind(Box::new(1));
        }));
        assert!(one.join().unwrap_err().is_panic());
        assert_eq!(LOG.take(), ["frame", "second", "third", "first"]);

        let one = spawn(Box::new(|| {
            let _frame = Logged("frame");
            use_three();
            crore::park();
        }));
        yield_now();
        one.cancel();
        assert!(one.join().unwrap_err().is_cancelled());
        assert_eq!(LOG.take(), ["frame", "second", "third", "first"]);
    });
}

#[test]
fn they_end_with_a_runtime_that_ends_first() {
    run(|| {
        spawn_local(|| {
            use_three();
            crore::park();
        });
        yield_now();
        log("main");
    })
    .unwrap();
    assert_eq!(LOG.take(), ["main", "second", "third", "first"]);
}

#[test]
fn one_that_is_never_used_never_begins() {
    coroutine_local!(static NEVER: Logged = unreachable!());
    run(|| {
        spawn(|| ()).join().unwrap();
        let unstarted = spawn(|| NEVER.with(|_| ()));
        unstarted.cancel();
        assert!(unstarted.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}

#[test]
fn destructors_may_wait_and_use_what_still_lives() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            for _ in 0..3 {
                yield_now();
                assert_eq!(COUNT.get(), 3, "an older one still lives");
            }
            assert!(LATE.try_with(|_| ()).is_err(), "itself");
            THIRD.with(|_| log("begun late"));
        }
    }
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            let error = LATE.try_with(|_| ()).unwrap_err();
            assert!(error.to_string().contains("has ended"), "{error}");
            assert!(THIRD.try_with(|_| ()).is_err());
            log("last");
        }
    }
    coroutine_local! {
        static LATE: Late = Late;
        static LAST: Last = Last;
    }
    on_both_stacks(|spawn| {
        let all: Vec<_> = (0..10)
            .map(|_| {
                spawn(Box::new(|| {
                    LAST.with(|_| COUNT.set(3));
                    LATE.with(|_| ());
                }))
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        let log = LOG.take();
        let count = |word| log.iter().filter(|&&it| it == word).count();
        assert_eq!(log.len(), 30);
        assert_eq!(
            (count("begun late"), count("third"), count("last")),
            (10, 10, 10)
        );
    });
}

#[test]
fn a_destructor_that_panics_stops_neither_the_others_nor_the_result() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("loud"));
        }
    }
    coroutine_local!(static LOUD: Loud = Loud);
    run(|| {
        let fine = spawn(|| {
            FIRST.with(|_| LOUD.with(|_| SECOND.with(|_| ())));
            5
        });
        assert_eq!(fine.join().unwrap(), 5);
        assert_eq!(LOG.take(), ["second", "first"]);
        // While unwinding as well.
        let torn = spawn(|| -> () {
            FIRST.with(|_| LOUD.with(|_| ()));
            std::panic::resume_unwind(Box::new("torn"));
        });
        let payload = torn.join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "torn");
        assert_eq!(LOG.take(), ["first"]);
    })
    .unwrap();
}

#[test]
fn what_the_destructor_of_an_unjoined_result_begins_ends_too() {
    thread_local!(static ENDS: Cell<u32> = const { Cell::new(0) });
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            assert!(crore::try_current().is_none(), "the worker drops it");
            ENDS.set(ENDS.get() + 1);
        }
    }
    coroutine_local!(static LATE: Late = Late);
    struct Output;
    impl Drop for Output {
        fn drop(&mut self) {
            assert!(FIRST.try_with(|_| ()).is_err(), "it has ended");
            LATE.with(|_| ());
        }
    }
    run(|| {
        drop(spawn_local(|| {
            FIRST.with(|_| yield_now());
            Output
        }));
        let before = ENDS.get();
        while ENDS.get() == before {
            yield_now();
        }
        assert_eq!(LOG.take(), ["first"]);
    })
    .unwrap();
}

#[test]
fn one_that_uses_itself_to_begin() {
    coroutine_local!(static SELF: Cell<u32> = {
        if DEPTH.replace(DEPTH.get() + 1) < 3 {
            SELF.with(|inner| assert_eq!(inner.get(), 4));
        }
        Cell::new(DEPTH.get())
    });
    coroutine_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });
    run(|| {
        // The innermost began first and stays.
        SELF.with(|value| assert_eq!(value.get(), 4));
        assert_eq!(DEPTH.get(), 4);
    })
    .unwrap();
}

#[test]
fn set_begins_without_the_expression() {
    coroutine_local! {
        static CELL: Cell<u32> = unreachable!("set came first");
        static REF: RefCell<u32> = unreachable!("set came first");
    }
    run(|| {
        CELL.set(3);
        REF.set(4);
        assert_eq!((CELL.get(), REF.with_borrow(|n| *n)), (3, 4));
        CELL.set(5);
        REF.set(6);
        assert_eq!((CELL.get(), REF.take(), REF.take()), (5, 6, 0));
    })
    .unwrap();
}

#[test]
fn outside_it_is_the_thread_s() {
    assert_eq!(COUNT.get(), 7);
    COUNT.set(100);
    run(|| {
        assert_eq!(COUNT.get(), 7, "main is a coroutine");
        COUNT.set(1);
        // A future has no coroutine: it sees its worker's thread.
        let future = crore::spawn_future_local(async { COUNT.replace(101) });
        assert_eq!(future.join().unwrap(), 100);
        assert_eq!(COUNT.get(), 1);
    })
    .unwrap();
    assert_eq!(COUNT.get(), 101);
    assert_eq!(thread::spawn(|| COUNT.get()).join().unwrap(), 7);
}

#[test]
fn every_value_ends_once_on_several_workers() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    struct Counted(thread::ThreadId);
    impl Counted {
        fn new() -> Self {
            ALIVE.fetch_add(1, Relaxed);
            BEGUN.fetch_add(1, Relaxed);
            Self(thread::current().id())
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            assert_eq!(self.0, thread::current().id());
            ALIVE.fetch_sub(1, Relaxed);
        }
    }
    coroutine_local! {
        static A: Counted = Counted::new();
        static B: Counted = Counted::new();
    }
    let runtime = crore::Runtime::builder().workers(3).build().unwrap();
    runtime
        .run(|| {
            let all: Vec<_> = (0..3_000)
                .map(|i| {
                    spawn(move || {
                        A.with(|_| yield_now());
                        B.with(|_| yield_now());
                        if i % 3 == 0 {
                            crore::park();
                        }
                    })
                })
                .collect();
            let (parked, others): (Vec<_>, Vec<_>) =
                all.into_iter().enumerate().partition(|(i, _)| i % 3 == 0);
            for (_, one) in others {
                one.join().unwrap();
            }
            for (i, one) in parked {
                if i % 2 == 0 {
                    one.coroutine().unpark();
                    one.join().unwrap();
                } else {
                    one.cancel();
                    assert!(one.join().unwrap_err().is_cancelled());
                }
            }
        })
        .unwrap();
    assert_eq!(ALIVE.load(Relaxed), 0);
    // Those that were cancelled before they started had none.
    assert!((5_000..=6_000).contains(&BEGUN.load(Relaxed)));
}

#[test]
fn thread_locals_are_its_own_or_are_refused_with_a_reason() {
    thread_local!(static NUMBER: Cell<u32> = const { Cell::new(0) });
    fn reason(refused: Option<std::io::Error>) -> Option<String> {
        let error = refused?;
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        Some(error.to_string())
    }
    let why = reason(crore::local::own_thread_locals().err());
    let spawned = run(|| {
        NUMBER.set(1);
        let own = Builder::new().own_thread_locals(true);
        let spawned = own.spawn(|| NUMBER.get());
        spawned.map(|own| assert_eq!(own.join().unwrap(), 0)).err()
    });
    assert_eq!(reason(spawned.unwrap()), why);
    let built = Runtime::builder().own_thread_locals(true).build();
    assert_eq!(reason(built.err()), why);
    if cfg!(feature = "futex") {
        let built = Runtime::builder().threads_as_coroutines(true).build();
        assert_eq!(reason(built.err()), why);
    }
    #[cfg(target_env = "gnu")]
    if crate::common::glibc_minor() < 34 {
        let why = why.expect("refused");
        assert!(why.contains("glibc 2.34 or later is needed"), "{why}");
    }
}
