//! Generators: values both ways, ends of every kind, in coroutines and outside.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{mem, thread};

use crore::generator::{self, Generator, GeneratorState, Yielder};

use crate::common::left_over::meant_to_leave;
use crate::common::{Kind, in_child, kinds, stderr};

/// Counts drops.
pub(crate) struct Counted(pub(crate) Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Runs `f` on a thread, as the main coroutine and in one of each kind.
fn everywhere(f: fn()) {
    thread::spawn(f).join().unwrap();
    crore::run(move || {
        f();
        kinds().for_each(|kind| kind.spawn(f).join().unwrap());
    })
    .unwrap();
}

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.unwrap_or_else(|| *payload.downcast::<String>().expect("a message"))
}

pub(crate) fn panic_of<T>(f: impl FnOnce() -> T) -> String {
    message(catch_unwind(AssertUnwindSafe(f)).err().expect("a panic"))
}

#[test]
fn values_of_all_sizes_go_both_ways() {
    everywhere(|| {
        let mut bytes = Generator::new(|out, mut byte: u8| {
            loop {
                byte = out.yield_(byte.wrapping_add(1));
            }
        });
        let mut large = Generator::new(|out, mut words: [u64; 100]| {
            for i in 0..100 {
                words[i] += 1;
                words = out.yield_((words, vec![i]));
            }
            "end".to_owned()
        });
        let mut words = [7; 100];
        for i in 0..100 {
            let next: GeneratorState<u8, ()> = bytes.resume(i);
            assert_eq!(next, GeneratorState::Yielded(i + 1));
            let GeneratorState::Yielded((next, at)) = large.resume(words) else {
                panic!("it ended");
            };
            assert_eq!(at, [usize::from(i)]);
            words = next;
        }
        assert_eq!(words, [8; 100]);
        assert_eq!(
            large.resume(words),
            GeneratorState::Complete("end".to_owned())
        );
    });
}

#[test]
fn it_is_an_iterator_that_ends_once() {
    everywhere(|| {
        let mut numbers = Generator::new(|out, ()| (0..3).for_each(|i| out.yield_(i)));
        assert_eq!(numbers.by_ref().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(numbers.is_done());
        assert_eq!((numbers.next(), numbers.next()), (None, None));
    });
}

#[test]
fn bodies_may_recurse_and_nest() {
    fn moves(out: &Yielder<(), (u8, u8)>, disks: u32, from: u8, to: u8) {
        if disks > 0 {
            let other = 6 - from - to;
            moves(out, disks - 1, from, other);
            out.yield_((from, to));
            moves(out, disks - 1, other, to);
        }
    }
    everywhere(|| {
        let hanoi = Generator::new(|out, ()| moves(out, 10, 1, 3));
        let odd = Generator::new(move |out, ()| hanoi.step_by(2).for_each(|to| out.yield_(to)));
        assert_eq!(odd.count(), 512);
    });
}

#[test]
fn what_is_dropped_early_unwinds() {
    everywhere(|| {
        let dropped = Rc::new(Cell::new(0));
        let make = |stop: u32| {
            let [a, b, c] = [(); 3].map(|()| Counted(Rc::clone(&dropped)));
            let mut numbers = Generator::new(move |out, ()| {
                let (_a, _b) = (a, b);
                out.yield_(1);
                drop(c);
                out.yield_(2);
            });
            (0..stop).for_each(|_| assert!(numbers.next().is_some() || stop == 3));
            numbers
        };
        for (stop, before) in [(0, 0), (1, 0), (2, 1), (3, 3)] {
            let numbers = make(stop);
            assert_eq!(dropped.take(), before, "after {stop} values");
            drop(numbers);
            assert_eq!(dropped.take(), 3 - before, "after {stop} values");
        }
    });
}

#[test]
fn it_unwinds_while_its_owner_does() {
    everywhere(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut one = Generator::new(move |out, ()| {
                let _counted = counted;
                out.yield_(1);
            });
            one.next();
            std::panic::resume_unwind(Box::new(5));
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&5));
        assert_eq!(dropped.get(), 1);
        assert!(!thread::panicking());
    });
}

#[test]
fn a_destructor_that_runs_while_unwinding_may_resume() {
    struct Resumes(Generator<(), u32>, Rc<Cell<u32>>);
    impl Drop for Resumes {
        fn drop(&mut self) {
            self.1.set(self.0.by_ref().sum());
        }
    }
    everywhere(|| {
        let sum = Rc::new(Cell::new(0));
        let resumes = Resumes(
            Generator::new(|out, ()| (1..=4).for_each(|i| out.yield_(i))),
            Rc::clone(&sum),
        );
        let caught = catch_unwind(AssertUnwindSafe(move || {
            let _resumes = resumes;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(caught.is_err());
        assert_eq!(sum.get(), 10);
    });
}

#[test]
fn panics_come_out_of_resume() {
    everywhere(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let mut fails = Generator::new(move |out, ()| {
            let _counted = counted;
            out.yield_(1);
            std::panic::resume_unwind(Box::new("torn"));
        });
        assert_eq!(fails.next(), Some(1));
        assert_eq!(panic_of(|| fails.next()), "torn");
        assert!(fails.is_done() && dropped.get() == 1);
        assert_eq!(fails.next(), None);
        assert!(panic_of(|| fails.resume(())).contains("resumed after its end"));
    });
}

#[test]
fn a_panic_in_place_of_the_unwind_comes_out_of_drop() {
    everywhere(|| {
        let mut one = Generator::<(), i32>::new(|out, ()| {
            let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(1)));
            std::panic::resume_unwind(Box::new("instead"));
        });
        one.next();
        assert_eq!(panic_of(|| drop(one)), "instead");
    });
}

#[test]
fn a_body_may_swallow_the_unwind_and_return() {
    everywhere(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let mut one = Generator::<(), i32>::new(move |out, ()| {
            let _counted = counted;
            let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(1)));
        });
        one.next();
        drop(one);
        assert_eq!(dropped.get(), 1);
    });
}

/// A body that no unwind ends.
fn never_ends(out: &Yielder<(), u32>) {
    for i in 0.. {
        let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(i)));
    }
}

#[test]
fn a_body_that_swallows_every_unwind_is_left_alone() {
    let output = in_child("a_body_that_swallows_every_unwind_is_left_alone", || {
        let dropped = Rc::new(Cell::new(0));
        let counted = Counted(Rc::clone(&dropped));
        let mut numbers = Generator::new(move |out, ()| {
            let _counted = counted;
            never_ends(out);
        });
        assert_eq!(numbers.next(), Some(0));
        drop(numbers);
        assert_eq!(dropped.get(), 0);
        // Its stack is not handed out again.
        let others: Vec<_> = (0..300)
            .map(|_| Generator::new(|out, ()| out.yield_(1)))
            .collect();
        assert_eq!(others.into_iter().flatten().sum::<i32>(), 300);
    });
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("crore: a generator was dropped before its end"),
        "{said}"
    );
}

#[test]
fn one_that_borrows_and_swallows_every_unwind_ends_the_process() {
    let name = "one_that_borrows_and_swallows_every_unwind_ends_the_process";
    let output = in_child(name, || {
        generator::scope(|out, ()| never_ends(out), |mut numbers| numbers.next());
    });
    let said = stderr(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("crore: the scope of a generator ended before"),
        "{said}"
    );
}

#[test]
fn forgotten_ones_keep_their_stack() {
    everywhere(|| {
        meant_to_leave("stacks of generators", 100);
        let mut kept = Vec::new();
        for i in 0..100_u64 {
            let mut one = Generator::new(move |out, ()| {
                let here = [i; 16];
                out.yield_(std::ptr::from_ref(&here).expose_provenance());
                assert_eq!(here, [i; 16]);
            });
            kept.push((i, one.next().unwrap()));
            mem::forget(one);
        }
        let others: Vec<i32> = (0..300)
            .flat_map(|_| Generator::new(|out, ()| out.yield_(1)))
            .collect();
        assert_eq!(others.len(), 300);
        for (i, at) in kept {
            // SAFETY: the frames of a forgotten generator are there for ever.
            let here = unsafe { *std::ptr::with_exposed_provenance::<[u64; 16]>(at) };
            assert_eq!(here, [i; 16]);
        }
    });
}

#[test]
fn it_cannot_be_resumed_from_within() {
    everywhere(|| {
        let slot: Rc<RefCell<Option<Generator<(), ()>>>> = Rc::default();
        let itself = Rc::clone(&slot);
        let body = move |_: &Yielder<(), ()>, ()| {
            assert!(itself.try_borrow_mut().is_err());
        };
        *slot.borrow_mut() = Some(Generator::new(body));
        slot.borrow_mut().as_mut().unwrap().resume(());
    });
}

#[test]
fn yielding_for_another_is_refused() {
    everywhere(|| {
        let mut outer = Generator::<(), u32>::new(|out, ()| {
            let said = panic_of(|| {
                generator::scope(
                    |_: &Yielder<(), ()>, ()| out.yield_(1),
                    |mut inner| inner.next(),
                )
            });
            assert!(said.contains("on another stack"), "{said}");
            out.yield_(2);
        });
        assert_eq!(outer.next(), Some(2));
        assert_eq!(outer.next(), None);
    });
}

/// Its resumer waits for others then, and must not go on.
#[test]
fn yielding_from_another_coroutine_is_refused() {
    crore::run(|| {
        let mut outer = Generator::<(), u32>::new(|out, ()| {
            let said = crore::scope(|s| {
                let child = s.spawn_local(|| panic_of(|| out.yield_(1)));
                child.join().unwrap()
            });
            assert!(said.contains("on another stack"), "{said}");
            out.yield_(2);
        });
        assert_eq!(outer.next(), Some(2));
    })
    .unwrap();
}

/// A value whose destructor panics, given in the place of an unwind.
#[test]
fn a_destructor_that_panics_while_one_that_borrows_ends_is_fatal() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(()));
        }
    }
    let name = "a_destructor_that_panics_while_one_that_borrows_ends_is_fatal";
    let output = in_child(name, || {
        let body = |out: &Yielder<(), Panics>, ()| {
            let _ = catch_unwind(AssertUnwindSafe(|| out.yield_(Panics)));
            out.yield_(Panics);
        };
        generator::scope(body, |mut one| mem::forget(one.next()));
    });
    let said = stderr(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("crore: the scope of a generator ended before"),
        "{said}"
    );
}

#[test]
fn yielding_while_unwinding_is_refused() {
    struct Yields<'a>(&'a Yielder<(), u32>);
    impl Drop for Yields<'_> {
        fn drop(&mut self) {
            self.0.yield_(1);
        }
    }
    let output = in_child("yielding_while_unwinding_is_refused", || {
        let mut one = Generator::<(), u32>::new(|out, ()| {
            let _yields = Yields(out);
            std::panic::resume_unwind(Box::new(()));
        });
        one.next();
    });
    let said = stderr(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("must not yield while it unwinds"), "{said}");
}

#[test]
fn bodies_borrow_and_their_scope_ends_them() {
    everywhere(|| {
        let mut words = vec!["a".to_owned(), "b".to_owned()];
        let mut seen = 0;
        let first = generator::scope(
            |out, ()| {
                for word in &mut words {
                    seen += 1;
                    word.push('!');
                    out.yield_(&*word);
                }
            },
            |mut words| words.next().cloned(),
        );
        assert_eq!((first.as_deref(), seen), (Some("a!"), 1));
        assert_eq!(words, ["a!", "b"]);
        let caught = panic_of(|| {
            generator::scope(
                |out, ()| {
                    seen += 1;
                    out.yield_(());
                },
                |mut one| {
                    one.next();
                    std::panic::resume_unwind(Box::new("torn"))
                },
            )
        });
        assert_eq!((caught.as_str(), seen), ("torn", 2));
    });
}

/// Why bodies that borrow have a scope: the thread ends before the scope does.
#[test]
fn threads_of_a_body_end_before_what_they_borrow() {
    let mut numbers = vec![1; 1000];
    generator::scope(
        |out, ()| {
            thread::scope(|s| {
                let sum = s.spawn(|| numbers.iter().sum::<i32>());
                out.yield_(());
                sum.join().unwrap();
            });
        },
        |mut one| {
            one.next();
            let _forgotten = mem::ManuallyDrop::new(one);
        },
    );
    numbers.clear();
}

/// What a body captures does not have to fit where it is made: only where it runs.
#[test]
fn a_body_larger_than_its_stack_is_not_written_below_it() {
    let bytes = 300_000;
    let large = [5_u8; 200_000];
    drop(Generator::<(), u8>::new(move |out, ()| {
        out.yield_(large[199_999])
    }));
    let one = Generator::with_stack_size(bytes, move |out, ()| out.yield_(large[199_999]));
    assert_eq!(one.unwrap().next(), Some(5));
}

#[test]
fn stacks_that_cannot_be_had_are_errors() {
    let huge = Generator::<(), ()>::with_stack_size(usize::MAX, |_, ()| ());
    assert_eq!(huge.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let huge = generator::scope_with_stack_size(2 << 30, |_: &Yielder<(), ()>, ()| (), |_| ());
    assert_eq!(huge.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn in_a_coroutine_of_its_own_stack_a_body_may_park() {
    for kind in kinds().filter(|kind| *kind != Kind::SharedStack) {
        crore::run(move || {
            let (sender, receiver) = crore::sync::channel::bounded::<u32>(1);
            let body = move || {
                let mut sums = Generator::new(move |out, ()| {
                    let mut sum = 0;
                    while let Ok(number) = receiver.recv() {
                        sum += number;
                        crore::yield_now();
                        out.yield_(sum);
                    }
                    crore::park();
                });
                let last = sums.by_ref().last();
                last.unwrap()
            };
            let sums = kind.spawn(body);
            (1..=100).for_each(|number| sender.send(number).unwrap());
            drop(sender);
            sums.coroutine().unpark();
            assert_eq!(sums.join().unwrap(), 5050);
        })
        .unwrap();
    }
}

#[test]
fn a_cancelled_coroutine_unwinds_through_its_generator() {
    crore::run(|| {
        let dropped = Rc::new(Cell::new(0));
        let counted = [(); 2].map(|()| Counted(Rc::clone(&dropped)));
        let parked = crore::spawn_local(move || {
            let [outside, inside] = counted;
            let _outside = outside;
            let mut waits = Generator::<(), ()>::new(move |_, ()| {
                let _inside = inside;
                crore::park();
            });
            waits.next();
        });
        crore::yield_now();
        parked.cancel();
        assert!(parked.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 2);
    })
    .unwrap();
}

#[test]
fn a_time_limit_unwinds_through_a_generator() {
    crore::run(|| {
        let mut waits = Generator::<(), ()>::new(|_, ()| crore::park());
        let late = crore::timeout(Duration::from_millis(1), || waits.next());
        assert!(late.is_err() && waits.is_done());
    })
    .unwrap();
}

#[test]
fn on_a_shared_stack_a_body_is_outside_of_coroutines() {
    crore::run(|| {
        let body = || {
            let mut one = Generator::new(|out, ()| {
                assert!(crore::try_current().is_none());
                let begun = Instant::now();
                crore::sleep(Duration::from_millis(5));
                assert!(begun.elapsed() >= Duration::from_millis(5));
                out.yield_(panic_of(|| crore::block_on(std::future::pending::<()>())));
                crore::park_timeout(Duration::from_millis(1));
                crore::yield_now();
                out.yield_(panic_of(|| crore::timeout(Duration::ZERO, || ())));
            });
            let before = [7_u64; 64];
            for _ in 0..2 {
                assert!(one.next().is_some());
                assert!(crore::try_current().is_some());
                // Others use the stack meanwhile.
                crore::yield_now();
            }
            assert_eq!(one.next(), None);
            assert_eq!(before, [7; 64]);
        };
        // SAFETY: the coroutines lend nobody their locals.
        let all: Vec<_> = (0..4)
            .map(|_| unsafe { crore::spawn_shared(body) })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    })
    .unwrap();
}

#[test]
fn a_dump_of_a_coroutine_that_waits_in_a_generator_is_made() {
    crore::run(|| {
        let parked = crore::spawn_local(|| Generator::<(), ()>::new(|_, ()| crore::park()).next());
        crore::yield_now();
        let dump = crore::Handle::current().unwrap().dump();
        let states: Vec<_> = dump.iter().map(|info| info.state()).collect();
        assert!(states.contains(&crore::CoroutineState::Parked), "{dump:?}");
        parked.coroutine().unpark();
        parked.join().unwrap();
    })
    .unwrap();
}
