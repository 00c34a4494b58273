//! The promise: the frames of a generator run only where they began. What they refer to
//! is of that coroutine, or of the thread outside of coroutines.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use crore::generator::{self, Generator};

use crate::common::left_over::meant_to_leave;
use crate::generators::{Counted, panic_of};

/// So many end where their frames don't belong.
fn leaves_frames(count: usize) {
    meant_to_leave("stacks of generators", count);
}

crore::coroutine_local! {
    /// Dropped with its coroutine.
    static NAME: String = "alive".to_owned();
}

/// Yields, for ever, whether the first coroutine's local is still as it was.
fn looks() -> Generator<(), bool> {
    Generator::new(|out, ()| {
        NAME.with(|name| {
            loop {
                out.yield_(name == "alive")
            }
        })
    })
}

/// Hands a generator on.
type Slot = Rc<RefCell<Option<Generator<(), bool>>>>;

fn begun_in_a_coroutine_that_ends(slot: &Slot) {
    let slot = Rc::clone(slot);
    let first = crore::spawn_local(move || {
        let mut one = looks();
        assert_eq!(one.next(), Some(true));
        *slot.borrow_mut() = Some(one);
    });
    first.join().unwrap();
}

#[test]
fn another_coroutine_cannot_resume_it() {
    leaves_frames(1);
    crore::run(|| {
        let slot = Slot::default();
        begun_in_a_coroutine_that_ends(&slot);
        // Gets the slot of the one that has ended, and in it other locals.
        let other = Rc::clone(&slot);
        let second = crore::spawn_local(move || {
            let mut one = other.take().unwrap();
            let said = panic_of(|| one.next());
            *other.borrow_mut() = Some(one);
            said
        });
        let said = second.join().unwrap();
        assert!(said.contains("in another coroutine"), "{said}");
        let said = panic_of(|| slot.take().unwrap().next());
        assert!(said.contains("in another coroutine"), "{said}");
    })
    .unwrap();
}

#[test]
fn it_is_bound_where_it_is_resumed_first() {
    crore::run(|| {
        let mut one = Generator::new(|out, ()| (0..60).for_each(|i| out.yield_(i)));
        let child = crore::spawn_local(move || {
            assert_eq!(one.next(), Some(0));
            crore::yield_now();
            assert_eq!(one.by_ref().count(), 59);
            one
        });
        // It has ended: anybody may drop it.
        let mut ended = child.join().unwrap();
        assert_eq!(ended.next(), None);
    })
    .unwrap();
}

/// Its worker is another, too, whose memory may lie where the first one's did.
#[test]
fn a_coroutine_of_a_later_run_is_another() {
    leaves_frames(4);
    thread_local!(static KEPT: Cell<Option<Generator<(), bool>>> = const { Cell::new(None) });
    for _ in 0..4 {
        crore::run(|| {
            let mut one = looks();
            assert_eq!(one.next(), Some(true));
            if let Some(mut before) = KEPT.replace(Some(one)) {
                let said = panic_of(|| before.next());
                assert!(said.contains("in another coroutine"), "{said}");
            }
        })
        .unwrap();
    }
}

/// As above, where the worker's number is another: the first one's is taken.
#[test]
fn a_coroutine_of_another_worker_is_another() {
    leaves_frames(1);
    thread_local!(static KEPT: Cell<Option<Generator<(), bool>>> = const { Cell::new(None) });
    let begin = || {
        let mut one = looks();
        assert_eq!(one.next(), Some(true));
        KEPT.set(Some(one));
    };
    crore::run(begin).unwrap();
    // So large that it does not lie where the first one's slots were.
    let large = crore::Runtime::builder().max_coroutines(1 << 24).build();
    let ((begun, begins), (end, ends)) = (mpsc::channel(), mpsc::channel::<()>());
    let other = thread::spawn(move || {
        let wait = move || {
            begun.send(()).unwrap();
            ends.recv()
        };
        large.unwrap().run(wait).unwrap().unwrap_err()
    });
    begins.recv().unwrap();
    crore::run(|| {
        let said = panic_of(|| KEPT.take().unwrap().next());
        assert!(said.contains("in another coroutine"), "{said}");
    })
    .unwrap();
    drop(end);
    other.join().unwrap();
}

#[test]
fn a_coroutine_is_another_place_than_outside() {
    leaves_frames(1);
    thread_local!(static KEPT: Cell<Option<Generator<(), bool>>> = const { Cell::new(None) });
    let take = || KEPT.take().unwrap();
    let mut outside = looks();
    assert_eq!(outside.next(), Some(true));
    KEPT.set(Some(outside));
    crore::run(move || {
        let mut outside = take();
        let said = panic_of(|| outside.next());
        assert!(said.contains("in another coroutine"), "{said}");
        KEPT.set(Some(outside));
    })
    .unwrap();
    // The refusal has changed nothing.
    assert_eq!(take().next(), Some(true));
    crore::run(|| {
        let mut inside = looks();
        assert_eq!(inside.next(), Some(true));
        KEPT.set(Some(inside));
    })
    .unwrap();
    let said = panic_of(|| take().next());
    assert!(said.contains("in another coroutine"), "{said}");
}

#[test]
fn frames_are_left_alone_where_they_do_not_belong() {
    leaves_frames(1);
    crore::run(|| {
        let dropped = Rc::new(Cell::new(0));
        let [begun, fresh] = [(); 2].map(|()| Counted(Rc::clone(&dropped)));
        let child = crore::spawn_local(|| {
            let mut begun = Generator::<(), ()>::new(move |out, ()| {
                let _counted = begun;
                out.yield_(());
            });
            begun.next();
            let fresh = Generator::<(), ()>::new(move |_, ()| drop(fresh));
            (begun, fresh)
        });
        let (begun, fresh) = child.join().unwrap();
        drop(begun);
        assert_eq!(dropped.get(), 0);
        drop(fresh);
        assert_eq!(dropped.get(), 1);
        // Its stack is not handed out again.
        let others: Vec<_> = (0..300)
            .map(|_| Generator::new(|out, ()| out.yield_(1)))
            .collect();
        assert_eq!(others.into_iter().flatten().sum::<i32>(), 300);
    })
    .unwrap();
}

#[test]
fn one_that_borrows_stays_where_its_scope_is() {
    crore::run(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let words = ["a".to_owned(), "b".to_owned()];
        let said = generator::scope(
            |out, ()| {
                let _counted = &counted;
                words.iter().for_each(|word| out.yield_(word.as_str()));
            },
            |mut one| {
                let said = crore::scope(|s| {
                    let child = s.spawn_local(|| panic_of(|| one.next()));
                    child.join().unwrap()
                });
                assert_eq!(one.next(), Some("a"));
                said
            },
        );
        assert!(said.contains("in another coroutine"), "{said}");
    })
    .unwrap();
}

/// There its body is outside of coroutines, and refers to nothing of theirs.
#[test]
fn on_shared_stacks_it_goes_from_coroutine_to_coroutine() {
    thread_local!(static NUMBERS: RefCell<Generator<(), i32>> = {
        RefCell::new(Generator::new(|out, ()| {
            let inner = Generator::new(|out, ()| (0..60).for_each(|i| out.yield_(i)));
            inner.for_each(|i| out.yield_(i));
        }))
    });
    let sum = || {
        let mut sum = 0;
        while let Some(i) = NUMBERS.with_borrow_mut(Iterator::next) {
            sum += i;
            crore::yield_now();
        }
        sum
    };
    NUMBERS.with_borrow_mut(|numbers| assert_eq!(numbers.next(), Some(0)));
    crore::run(move || {
        // SAFETY: they lend nobody their locals.
        let three = [(); 3].map(|()| unsafe { crore::spawn_shared(sum) });
        let sums = three.map(|one| one.join().unwrap());
        assert_eq!(sums, [590, 610, 570]);
    })
    .unwrap();
}

/// In its child a coroutine that forked is the thread.
#[test]
fn the_child_of_a_fork_goes_on_with_it() {
    crore::run(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let mut one = Generator::<(), u32>::new(move |out, ()| {
            let _counted = counted;
            (1..9).for_each(|i| out.yield_(i));
        });
        assert_eq!(one.next(), Some(1));
        // SAFETY: the child ends by `_exit`, and no other thread is in the midst of
        // something that it needs.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let next = one.next();
            drop(one);
            let as_expected = next == Some(2) && dropped.get() == 1;
            // SAFETY: ends the child.
            unsafe { libc::_exit(if as_expected { 7 } else { 1 }) };
        }
        assert_eq!(one.next(), Some(2));
        let mut status = 0;
        // SAFETY: our own child, a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 7, "{status:#x}");
    })
    .unwrap();
}

/// Locals end in their coroutine; of one that unwinds on a shared stack, outside.
#[test]
fn one_that_a_local_keeps_ends_with_its_coroutine() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    crore::coroutine_local! {
        static KEPT: RefCell<Option<Generator<(), ()>>> = const { RefCell::new(None) };
    }
    fn keep() {
        let mut one = Generator::<(), ()>::new(|out, ()| {
            let _counts = Counts;
            out.yield_(());
        });
        one.next();
        KEPT.set(Some(one));
    }
    let wait = || {
        keep();
        crore::park();
    };
    crore::run(move || {
        crore::spawn(keep).join().unwrap();
        // SAFETY: they lend nobody their locals.
        let shared = unsafe { [crore::spawn_shared(keep), crore::spawn_shared(wait)] };
        let cancelled = crore::spawn(wait);
        crore::yield_now();
        cancelled.cancel();
        let [shared, cancelled_too] = shared;
        cancelled_too.cancel();
        shared.join().unwrap();
        assert!(cancelled.join().is_err() && cancelled_too.join().is_err());
    })
    .unwrap();
    assert_eq!(DROPPED.load(Ordering::Relaxed), 4);
}

#[test]
fn a_runtime_may_run_in_a_body() {
    let mut sums = Generator::<u32, u32>::new(|out, mut number| {
        loop {
            let sum = crore::run(move || {
                let numbers =
                    Generator::new(move |out, ()| (0..=number).for_each(|i| out.yield_(i)));
                crore::yield_now();
                numbers.sum::<u32>() + crore::spawn(move || number).join().unwrap()
            });
            number = out.yield_(sum.unwrap());
        }
    });
    let sums = [3, 4].map(|number| sums.resume(number));
    assert_eq!(
        sums,
        [9, 14].map(generator::GeneratorState::<_, ()>::Yielded)
    );
}
