//! The promise: a deep call runs on a larger stack, and is in its coroutine there.

use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crore::Handle;
use crore::generator::{Generator, GeneratorState, Yielder};

use crate::common::{in_child, kinds, stderr, succeeds};

const LARGE: usize = 8 << 20;

/// Uses a kilobyte a step, which no small stack has thousands of, and calls `f` at the end.
fn deep(left: u32, f: &mut dyn FnMut()) -> u64 {
    let frame = black_box([left as u8; 1024]);
    let below = match left {
        0 => {
            f();
            0
        }
        _ => deep(left - 1, f),
    };
    below + u64::from(black_box(&frame)[1023])
}

fn expected(steps: u32) -> u64 {
    (0..=steps).map(|left| u64::from(left as u8)).sum()
}

#[test]
fn a_deep_call_waits_as_any_on_every_kind_of_stack() {
    const STEPS: u32 = 2_000;
    for kind in kinds() {
        crore::run(move || {
            let all: Vec<_> = (0..20)
                .map(|i| {
                    kind.spawn(move || {
                        // Whose frames below are copied away meanwhile, if it is shared.
                        let mine = black_box([i; 64]);
                        let mut waits = 0;
                        let sum = crore::grow(LARGE, || {
                            deep(STEPS, &mut || {
                                for _ in 0..5 {
                                    crore::yield_now();
                                    crore::sleep(Duration::from_micros(50));
                                    waits += 1;
                                }
                            })
                        });
                        assert_eq!(black_box(&mine), &[i; 64]);
                        crore::yield_now();
                        (sum, waits)
                    })
                })
                .collect();
            for one in all {
                assert_eq!(one.join().unwrap(), (expected(STEPS), 5), "{kind:?}");
            }
        })
        .unwrap();
    }
}

#[test]
fn it_grows_where_little_is_left_and_again() {
    fn depth(left: u32) -> u64 {
        let frame = black_box([left as u8; 1024]);
        crore::maybe_grow(16 << 10, 256 << 10, || match left {
            0 => 0,
            _ => depth(left - 1) + u64::from(black_box(&frame)[0] == left as u8),
        })
    }
    assert_eq!(depth(2_000), 2_000);
    for kind in kinds() {
        let reached = crore::run(move || kind.spawn(|| depth(2_000)).join().unwrap());
        assert_eq!(reached.unwrap(), 2_000, "{kind:?}");
    }
}

/// Deep calls end in the order in which they began, whoever is left meanwhile.
#[test]
fn a_generator_is_not_left_out_of_a_deep_call() {
    fn yields_in_a_call() {
        let mut body = Generator::new(|y: &Yielder<(), u8>, ()| crore::grow(LARGE, || y.yield_(1)));
        let resumed = catch_unwind(AssertUnwindSafe(|| body.resume(())));
        let payload = resumed.unwrap_err();
        let why = payload.downcast_ref::<&str>().unwrap();
        assert!(why.contains("on another stack"), "{why}");
        // The other way round each is on its own.
        let mut body = Generator::new(|y: &Yielder<(), u8>, ()| {
            crore::grow(LARGE, crore::yield_now);
            y.yield_(1);
            crore::grow(LARGE, crore::yield_now);
        });
        for state in [GeneratorState::Yielded(1), GeneratorState::Complete(())] {
            assert_eq!(crore::grow(LARGE, || body.resume(())), state);
            crore::yield_now();
        }
    }
    yields_in_a_call();
    for kind in kinds() {
        crore::run(move || {
            let all: Vec<_> = (0..20).map(|_| kind.spawn(yields_in_a_call)).collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        })
        .unwrap();
    }
}

#[test]
fn panics_and_cancellations_come_out_and_drop_what_is_up_there() {
    struct Dropped(Rc<Cell<u32>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let theirs = Rc::clone(&drops);
    let panics = move || {
        let dropped = Dropped(Rc::clone(&theirs));
        crore::grow(LARGE, || {
            let _dropped = dropped;
            std::panic::resume_unwind(Box::new(7));
        })
    };
    let payload = catch_unwind(AssertUnwindSafe(&panics)).unwrap_err();
    assert_eq!((payload.downcast_ref(), drops.get()), (Some(&7), 1));
    let theirs = Rc::clone(&drops);
    crore::run(move || {
        let error = crore::spawn_local(panics).join().unwrap_err();
        assert!(error.is_panic() && theirs.get() == 2);
        let dropped = Dropped(Rc::clone(&theirs));
        let waits = crore::spawn_local(move || {
            crore::grow(LARGE, || {
                let _dropped = dropped;
                crore::park();
                unreachable!("it is cancelled");
            })
        });
        crore::yield_now();
        // Below are the frames of one that waits, as of any.
        let dump = Handle::current().unwrap().dump();
        assert_eq!(dump.len(), 2);
        waits.cancel();
        assert!(waits.join().unwrap_err().is_cancelled() && theirs.get() == 3);
        let late = crore::timeout(Duration::from_millis(1), || crore::grow(LARGE, crore::park));
        assert!(late.is_err());
    })
    .unwrap();
    assert_eq!(drops.get(), 3);
}

/// What a shared coroutine lends a call from below is not where it is while it waits.
#[cfg(feature = "hook")]
#[test]
fn what_lies_on_a_shared_stack_is_read_into_from_above() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    crore::run(|| {
        let all: Vec<_> = (0..10)
            .map(|i| {
                let (mut reads, writes) = UnixStream::pair().unwrap();
                // SAFETY: nobody points into its frames.
                let reader = unsafe {
                    crore::spawn_shared(move || {
                        let mut buffer = [0; 16];
                        crore::grow(LARGE, || reads.read_exact(&mut buffer).unwrap());
                        buffer
                    })
                };
                (i, reader, writes)
            })
            .collect();
        crore::yield_now();
        for (i, reader, mut writes) in all {
            writes.write_all(&[i; 16]).unwrap();
            assert_eq!(reader.join().unwrap(), [i; 16]);
        }
    })
    .unwrap();
}

#[test]
fn stacks_of_those_that_are_through_are_used_again() {
    let place = || {
        let here = 0_u8;
        black_box(&raw const here).addr()
    };
    succeeds("stacks_of_those_that_are_through_are_used_again", || {
        crore::run(|| {
            let first = crore::grow(LARGE, place);
            assert!((0..100).all(|_| crore::grow(LARGE, place) == first));
        })
        .unwrap();
    });
}

#[test]
fn who_runs_over_it_is_named() {
    let output = in_child("who_runs_over_it_is_named", || {
        crore::run(|| {
            let deep = || crore::grow(256 << 10, || deep(1_000_000, &mut || ()));
            let deep = crore::Builder::new().name("deep".into()).spawn(deep);
            deep.unwrap().join().unwrap()
        })
        .unwrap();
    });
    let said = stderr(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("'deep'") && said.contains("overflow"),
        "{said}"
    );
}
