//! The promise: whatever ends around a generator (its thread, its coroutine, the process,
//! an unwind), its frames never run where what they refer to is gone, and its stack is
//! never used again while they are there.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crore::generator::{self, Generator, Yielder};

use crate::common::{has_own_locals, in_child, stderr};
use crate::generators::{Counted, panic_of};

/// What a destructor of a thread-local does.
struct AtEnd(Box<dyn FnOnce()>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, Box::new(|| ()))();
    }
}

/// Whether frames were left, or run, after the thread-local that they refer to.
static RAN_AFTER: AtomicU32 = AtomicU32::new(0);

struct Lent(Cell<bool>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

struct Refers<'a>(&'a Lent);

impl Drop for Refers<'_> {
    fn drop(&mut self) {
        if !self.0.0.get() {
            RAN_AFTER.fetch_add(1, Ordering::Relaxed);
        }
    }
}

thread_local! {
    // Dropped in the reverse order of their first uses.
    static KEPT: RefCell<Option<Generator<(), bool>>> = const { RefCell::new(None) };
    static LENT: Lent = const { Lent(Cell::new(true)) };
    static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

/// Yields, for ever, whether the thread-local is as it was, and refers to it meanwhile.
fn refers(out: &Yielder<(), bool>) {
    LENT.with(|lent| {
        let refers = Refers(lent);
        loop {
            out.yield_(refers.0.0.get());
        }
    });
}

/// Keeps one in a thread-local that ends after the one which it refers to.
fn keep() {
    // There is a generator before: what is known of this thread is old.
    assert_eq!(Generator::new(|out, ()| out.yield_(1)).count(), 1);
    KEPT.with(|kept| {
        let mut one = Generator::new(|out, ()| {
            out.yield_(true);
            refers(out);
        });
        assert_eq!((one.next(), one.next()), (Some(true), Some(true)));
        kept.replace(Some(one));
    });
}

#[test]
fn the_thread_ends_without_its_frames() {
    let output = in_child("the_thread_ends_without_its_frames", || {
        thread::spawn(keep).join().unwrap();
        assert_eq!(RAN_AFTER.load(Ordering::Relaxed), 0);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn thread_locals_of_a_coroutine_end_without_its_frames() {
    if !has_own_locals() {
        return;
    }
    let name = "thread_locals_of_a_coroutine_end_without_its_frames";
    let output = in_child(name, || {
        crore::run(|| {
            let own = crore::Builder::new().own_thread_locals(true).spawn(keep);
            own.unwrap().join().unwrap();
        })
        .unwrap();
        assert_eq!(RAN_AFTER.load(Ordering::Relaxed), 0);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// `exit` ends the thread-locals of who calls it.
#[test]
fn the_process_ends_without_its_frames() {
    extern "C" fn look() {
        if RAN_AFTER.load(Ordering::Relaxed) != 0 {
            process::abort();
        }
    }
    fn exits() {
        keep();
        // SAFETY: a function that only looks.
        unsafe { libc::atexit(look) };
        process::exit(0);
    }
    let name = "the_process_ends_without_its_frames";
    let output = in_child(name, || {
        crore::run(|| crore::spawn(exits).join().unwrap()).unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_destructor_that_resumes_it_then_is_told() {
    let name = "a_destructor_that_resumes_it_then_is_told";
    let output = in_child(name, || {
        thread::spawn(|| {
            // It ends last, as it is used first.
            KEPT.with_borrow(|kept| assert!(kept.is_none()));
            let resume = || {
                KEPT.with_borrow_mut(|kept| {
                    let said = panic_of(|| kept.as_mut().unwrap().next());
                    assert!(said.contains("thread-locals have ended"), "{said}");
                });
            };
            AT_END.set(Some(AtEnd(Box::new(resume))));
            keep();
        })
        .join()
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// One that begins there lives until the next of them.
#[test]
fn destructors_of_thread_locals_may_use_generators() {
    thread_local! {
        static FIRST: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
        static SECOND: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
    }
    fn count() {
        let mut numbers = Generator::new(|out, ()| (0..5).for_each(|i| out.yield_(i)));
        assert_eq!(numbers.next(), Some(0));
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let mut left = Generator::<(), ()>::new(move |out, ()| {
            let _counted = counted;
            out.yield_(());
        });
        left.next();
        drop(left);
        assert_eq!((dropped.get(), numbers.sum::<i32>()), (1, 10));
        let sum = generator::scope(
            |out, ()| (0..5).for_each(|i| out.yield_(i)),
            |all| all.sum::<i32>(),
        );
        assert_eq!(sum, 10);
    }
    let name = "destructors_of_thread_locals_may_use_generators";
    let output = in_child(name, || {
        thread::spawn(|| {
            FIRST.set(Some(AtEnd(Box::new(count))));
            SECOND.set(Some(AtEnd(Box::new(count))));
            count();
        })
        .join()
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Its handle ends while its body runs: the stack must not be handed out again.
#[test]
fn a_body_may_end_the_process() {
    let output = in_child("a_body_may_end_the_process", || {
        AT_END.with_borrow_mut(|end| {
            *end = Some(AtEnd(Box::new(|| {
                let stacks: Vec<_> = (0..300)
                    .map(|i| {
                        let mut one = Generator::new(move |out, ()| out.yield_([i; 8]));
                        assert_eq!(one.next(), Some([i; 8]));
                        one
                    })
                    .collect();
                assert_eq!(stacks.len(), 300);
            })));
        });
        KEPT.with(|kept| {
            *kept.borrow_mut() = Some(Generator::new(|_, ()| process::exit(0)));
            kept.borrow_mut().as_mut().unwrap().next();
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// What ignores its cancellation is never resumed, but others may borrow from its frames.
#[test]
fn an_abandoned_coroutine_keeps_the_stack_of_its_generator() {
    let name = "an_abandoned_coroutine_keeps_the_stack_of_its_generator";
    let output = in_child(name, || {
        let at = thread::spawn(|| {
            let (tell, told) = mpsc::channel();
            let body = move |_: &Yielder<(), bool>, ()| {
                let here = [7_u64; 16];
                tell.send(ptr::from_ref(&here).expose_provenance()).unwrap();
                loop {
                    let _ = catch_unwind(crore::park);
                }
            };
            KEPT.set(Some(Generator::new(body)));
            crore::run(|| {
                let resume = || KEPT.with_borrow_mut(|kept| kept.as_mut().unwrap().next());
                let child = crore::spawn_local(resume);
                crore::yield_now();
                child.cancel();
                assert!(child.join().unwrap_err().is_cancelled());
            })
            .unwrap();
            told.recv().unwrap()
        });
        let at = at.join().unwrap();
        let others: Vec<_> = (0..300)
            .map(|i| {
                let mut one = Generator::new(move |out, ()| out.yield_([i; 64]));
                one.next();
                one
            })
            .collect();
        assert_eq!(others.len(), 300);
        // SAFETY: the frames of an abandoned coroutine are there for ever.
        let here = unsafe { *ptr::with_exposed_provenance::<[u64; 16]>(at) };
        assert_eq!(here, [7; 16]);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

struct YieldsWhenDropped<'a>(&'a Yielder<(), u32>);

impl Drop for YieldsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.yield_(9);
    }
}

/// Calls `f` in a destructor that an unwind runs.
fn while_unwinding(f: impl FnOnce() + 'static) {
    let end = AtEnd(Box::new(f));
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _end = end;
        resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err());
}

#[test]
fn a_body_that_is_ended_must_not_yield_even_if_its_owner_unwinds() {
    let name = "a_body_that_is_ended_must_not_yield_even_if_its_owner_unwinds";
    let output = in_child(name, || {
        while_unwinding(|| {
            let mut one = Generator::<(), u32>::new(|out, ()| {
                let _yields = YieldsWhenDropped(out);
                out.yield_(1);
            });
            one.next();
        });
    });
    let said = stderr(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("must not yield while it unwinds"), "{said}");
}

#[test]
fn a_body_that_panics_must_not_yield_even_if_its_resumer_unwinds() {
    let name = "a_body_that_panics_must_not_yield_even_if_its_resumer_unwinds";
    let output = in_child(name, || {
        while_unwinding(|| {
            let mut one = Generator::<(), u32>::new(|out, ()| {
                let _yields = YieldsWhenDropped(out);
                resume_unwind(Box::new(()));
            });
            let _ = catch_unwind(AssertUnwindSafe(|| one.next()));
        });
    });
    let said = stderr(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("must not yield while it unwinds"), "{said}");
}

/// What a body catches is over: it may yield, below C as well.
#[test]
fn a_body_may_yield_after_its_own_unwind_though_its_resumer_unwinds() {
    extern "C" fn compare(out: *const libc::c_void, _: *const libc::c_void) -> libc::c_int {
        // SAFETY: the only elements are places of the yielder that the body lends.
        let out = unsafe { *out.cast::<&Yielder<(), u32>>() };
        out.yield_(2);
        0
    }
    let name = "a_body_may_yield_after_its_own_unwind_though_its_resumer_unwinds";
    let output = in_child(name, || {
        while_unwinding(|| {
            let one = Generator::<(), u32>::new(|out, ()| {
                let caught = catch_unwind(|| resume_unwind(Box::new(())));
                assert!(caught.is_err());
                out.yield_(1);
                let mut two = [out, out];
                // SAFETY: two places; the function reads them.
                unsafe {
                    libc::qsort(
                        two.as_mut_ptr().cast(),
                        2,
                        size_of::<&Yielder<(), u32>>(),
                        Some(compare),
                    );
                };
            });
            assert_eq!(one.collect::<Vec<_>>(), [1, 2]);
            let mut swallows = Generator::<(), u32>::new(|out, ()| {
                let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(1)));
                out.yield_(2);
            });
            swallows.next();
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// As dropping the value itself would.
#[test]
fn a_captured_value_that_panics_when_dropped_panics() {
    struct Panics(Rc<Cell<u32>>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            resume_unwind(Box::new("torn"));
        }
    }
    let name = "a_captured_value_that_panics_when_dropped_panics";
    let output = in_child(name, || {
        let dropped = Rc::new(Cell::new(0));
        for _ in 0..300 {
            let (panics, counted) = (Panics(Rc::clone(&dropped)), Counted(Rc::clone(&dropped)));
            let one = Generator::<(), ()>::new(move |_, ()| drop((panics, counted)));
            assert_eq!(panic_of(|| drop(one)), "torn");
        }
        assert_eq!(dropped.get(), 600);
        let panics = Panics(Rc::clone(&dropped));
        let body = move |_: &Yielder<(), ()>, ()| drop(panics);
        assert_eq!(panic_of(|| generator::scope(body, |_| ())), "torn");
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Calls `f` from C, which nothing can unwind.
fn below_c(f: &mut dyn FnMut()) {
    thread_local!(static CALLED: Cell<Option<*mut (dyn FnMut() + 'static)>> = const { Cell::new(None) });
    extern "C" fn compare(_: *const libc::c_void, _: *const libc::c_void) -> libc::c_int {
        if let Some(f) = CALLED.take() {
            // SAFETY: `below_c` lends it for the time of its call.
            unsafe { (*f)() };
        }
        0
    }
    // SAFETY: as above; only its lifetime differs.
    let f = unsafe { std::mem::transmute::<*mut dyn FnMut(), *mut (dyn FnMut() + 'static)>(f) };
    CALLED.set(Some(f));
    let mut two = [1, 2];
    // SAFETY: two numbers.
    unsafe { libc::qsort(two.as_mut_ptr().cast(), 2, 4, Some(compare)) };
}

#[test]
fn a_cancellation_finds_c_below_its_generator() {
    let name = "a_cancellation_finds_c_below_its_generator";
    let output = in_child(name, || {
        crore::run(|| {
            let ended = Rc::new(Cell::new(0));
            let counted = Counted(Rc::clone(&ended));
            let child = crore::spawn_local(move || {
                let _counted = counted;
                below_c(&mut || {
                    let mut waits = Generator::<(), ()>::new(|out, ()| {
                        out.yield_(());
                        let inner = Generator::<(), ()>::new(|_, ()| crore::park());
                        assert_eq!(inner.count(), 0);
                    });
                    assert_eq!((waits.next(), waits.next()), (Some(()), None));
                });
                // Here nothing is in the way.
                crore::park();
                unreachable!("it is cancelled");
            });
            crore::yield_now();
            child.cancel();
            (0..10).for_each(|_| crore::yield_now());
            assert!(!child.is_finished());
            child.coroutine().unpark();
            assert!(child.join().unwrap_err().is_cancelled());
            assert_eq!(ended.get(), 1);
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_c_has_called_may_catch_a_cancellation_of_its_generator() {
    let name = "what_c_has_called_may_catch_a_cancellation_of_its_generator";
    let output = in_child(name, || {
        crore::run(|| {
            let caught = Rc::new(Cell::new(0));
            let seen = Rc::clone(&caught);
            let child = crore::spawn_local(move || {
                below_c(&mut || {
                    let mut waits = Generator::<(), ()>::new(|_, ()| crore::park());
                    let ended = catch_unwind(AssertUnwindSafe(|| waits.next()));
                    seen.set(1 + u32::from(ended.is_err()));
                });
            });
            crore::yield_now();
            child.cancel();
            child.join().unwrap();
            assert_eq!(caught.get(), 2);
            // And what the body catches itself goes no further.
            let child = crore::spawn_local(|| {
                below_c(&mut || {
                    let mut waits = Generator::<(), bool>::new(|out, ()| {
                        out.yield_(catch_unwind(crore::park).is_err());
                    });
                    assert_eq!(waits.next(), Some(true));
                });
            });
            crore::yield_now();
            child.cancel();
            child.join().unwrap();
        })
        .unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Other threads hold the lock of the stacks now and then.
#[test]
fn the_child_of_a_process_without_workers_has_stacks() {
    let name = "the_child_of_a_process_without_workers_has_stacks";
    let output = in_child(name, || {
        for _ in 0..4 {
            thread::spawn(|| {
                loop {
                    let many: Vec<_> = (0..20)
                        .map(|_| Generator::<(), ()>::new(|_, ()| ()))
                        .collect();
                    drop(many);
                }
            });
        }
        // They begin meanwhile, and run on beside all forks.
        thread::sleep(Duration::from_millis(20));
        for _ in 0..500 {
            // SAFETY: what the child calls takes no lock but ours and malloc's, which
            // libc gives it anew.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: ends the child where it would hang.
                unsafe { libc::alarm(20) };
                let sum: u32 = Generator::new(|out, ()| out.yield_(7)).sum();
                // SAFETY: ends the child.
                unsafe { libc::_exit(sum as i32) };
            }
            let mut status = 0;
            // SAFETY: our own child, a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(libc::WEXITSTATUS(status), 7, "{status:#x}");
        }
        process::exit(0);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}
