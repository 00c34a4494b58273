//! The frames of shared coroutines come back as they were, whatever becomes
//! of the neighbours on the same stack.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crore::{JoinHandle, Runtime};

fn on_stacks<T>(stacks: u32, f: impl FnOnce() -> T) -> T {
    let runtime = Runtime::builder().shared_stacks(stacks, 1 << 20).build();
    runtime.unwrap().run(f).unwrap()
}

fn shared<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    // SAFETY: the tests below hand out no references to locals.
    unsafe { crore::spawn_shared(f) }
}

/// A list through the frames of one coroutine, newest first.
struct Node<'a> {
    id: u64,
    /// Also in a slice that is pointed to, in the same frame.
    copy: &'a [u64],
    up: Option<&'a Node<'a>>,
}

fn look(mut node: &Node<'_>, id: u64) -> u64 {
    let mut levels = 1;
    loop {
        assert_eq!(node.id, id);
        assert!(node.copy.iter().all(|&copy| copy == id));
        match node.up {
            Some(up) => node = up,
            None => return levels,
        }
        levels += 1;
    }
}

/// Goes down `depth` levels of `WORDS` words and comes back, yielding and
/// looking at all levels at every step.
fn dive<const WORDS: usize>(id: u64, depth: u64, up: Option<&Node<'_>>) -> u64 {
    let words = std::hint::black_box([id; WORDS]);
    let node = Node {
        id,
        copy: &words,
        up,
    };
    let here = look(&node, id);
    crore::yield_now();
    assert_eq!(look(&node, id), here);
    if depth > 1 {
        dive::<WORDS>(id, depth - 1, Some(&node));
        crore::yield_now();
    }
    assert_eq!(look(&node, id), here);
    here
}

fn many_divers(stacks: u32) {
    on_stacks(stacks, || {
        let all: Vec<_> = (1..=600)
            .map(|id| {
                shared(move || {
                    // Frames from 16 bytes to 40 KiB: all classes, both ways.
                    dive::<2>(id, 1 + id % 20, None);
                    dive::<40>(id, 1 + id % 7, None);
                    if id % 10 == 0 {
                        dive::<1000>(id, 1 + id % 5, None);
                    }
                    dive::<2>(id, 3, None);
                    id
                })
            })
            .collect();
        let sum: u64 = all.into_iter().map(|handle| handle.join().unwrap()).sum();
        assert_eq!(sum, 600 * 601 / 2);
    });
}

#[test]
fn many_coroutines_on_one_stack() {
    many_divers(1);
}

#[test]
fn many_coroutines_on_three_stacks() {
    many_divers(3);
}

#[test]
fn many_coroutines_on_eight_stacks() {
    many_divers(8);
}

/// Counts what was dropped.
struct Count(Rc<Cell<u32>>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Return,
    Panic,
    Cancel,
}

/// All ways to end, in all orders of three, on one stack with one neighbour
/// that stays parked: it must come back into its own landing pads, by return
/// and by unwind.
#[test]
fn neighbours_end_in_every_way_and_order() {
    const WAYS: [Way; 3] = [Way::Return, Way::Panic, Way::Cancel];
    for (first, second, third) in (0..27).map(|i| (WAYS[i % 3], WAYS[i / 3 % 3], WAYS[i / 9])) {
        on_stacks(1, || ends_of_three([first, second, third]));
    }
}

fn ends_of_three(ways: [Way; 3]) {
    let dropped = Rc::new(Cell::new(0));
    let caught = Rc::new(Cell::new(0));
    let neighbour = shared({
        let (dropped, caught) = (Rc::clone(&dropped), Rc::clone(&caught));
        move || {
            let _count = Count(dropped);
            loop {
                // Its own landing pad, below one that lies in the base frames.
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    crore::park();
                    if caught.get() < 3 {
                        std::panic::resume_unwind(Box::new(7_u8));
                    }
                }));
                match unwound {
                    Ok(()) => panic!("out through the base frames"),
                    Err(payload) => assert_eq!(*payload.downcast::<u8>().unwrap(), 7),
                }
                caught.set(caught.get() + 1);
            }
        }
    });
    crore::yield_now();
    for (i, way) in (1..).zip(ways) {
        end_one(way, &dropped);
        assert_eq!(dropped.get(), i);
        neighbour.coroutine().unpark();
        crore::yield_now();
        assert_eq!(caught.get(), i, "after {way:?}");
    }
    neighbour.coroutine().unpark();
    let error = neighbour.join().unwrap_err();
    assert_eq!(
        error.to_string(),
        "coroutine panicked: out through the base frames"
    );
    assert_eq!(dropped.get(), 4);
}

/// A coroutine that parks and then ends in this way.
fn end_one(way: Way, dropped: &Rc<Cell<u32>>) {
    let count = Count(Rc::clone(dropped));
    let one = shared(move || {
        let _count = count;
        crore::park();
        match way {
            Way::Return | Way::Cancel => 5,
            Way::Panic => panic!("as told"),
        }
    });
    crore::yield_now();
    if way == Way::Cancel {
        one.cancel();
    }
    one.coroutine().unpark();
    match (way, one.join()) {
        (Way::Return, Ok(5)) => {}
        (Way::Panic, Err(error)) if error.is_panic() => {}
        (Way::Cancel, Err(error)) if error.is_cancelled() => {}
        (way, end) => panic!("{way:?} gave {end:?}"),
    }
}

#[test]
fn a_panic_of_a_neighbour_leaves_all_parked_ones_alone() {
    on_stacks(2, || {
        let parked: Vec<_> = (0..100_u64)
            .map(|i| {
                shared(move || {
                    let local = [i; 30];
                    let here = &local;
                    crore::park();
                    here.iter().sum::<u64>()
                })
            })
            .collect();
        crore::yield_now();
        for _ in 0..20 {
            let error = shared(|| panic!("a neighbour")).join().unwrap_err();
            assert!(error.is_panic());
        }
        parked.iter().for_each(|handle| handle.coroutine().unpark());
        for (i, handle) in (0..).zip(parked) {
            assert_eq!(handle.join().unwrap(), 30 * i);
        }
    });
}

#[test]
fn cancelled_ones_unwind_from_every_depth() {
    fn down(depth: u32, dropped: &Rc<Cell<u32>>) {
        let _count = Count(Rc::clone(dropped));
        if depth == 0 {
            crore::park();
        } else {
            down(depth - 1, dropped);
        }
    }
    on_stacks(1, || {
        let dropped = Rc::new(Cell::new(0));
        let all: Vec<_> = (0..50)
            .map(|depth| {
                let dropped = Rc::clone(&dropped);
                shared(move || down(depth, &dropped))
            })
            .collect();
        crore::yield_now();
        all.iter().for_each(JoinHandle::cancel);
        for handle in all {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
        assert_eq!(dropped.get(), (1..=50).sum());
    });
}

#[test]
fn the_end_of_run_unwinds_those_that_are_parked() {
    let dropped = Rc::new(Cell::new(0));
    let handles = RefCell::new(Vec::new());
    on_stacks(3, || {
        for _ in 0..200 {
            let count = Count(Rc::clone(&dropped));
            handles.borrow_mut().push(shared(move || {
                let _count = count;
                crore::park();
            }));
        }
        // Half of them have run, half never will.
        handles.borrow_mut().truncate(100);
        crore::yield_now();
        for _ in 0..100 {
            let count = Count(Rc::clone(&dropped));
            drop(shared(move || drop(count)));
        }
    });
    assert_eq!(dropped.get(), 300);
    for handle in handles.take() {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
}

#[test]
fn one_that_ignores_its_cancellation_is_abandoned_and_the_others_live_on() {
    on_stacks(1, || {
        let neighbour = shared(|| {
            let local = [3_u64; 50];
            let here = &local;
            crore::park();
            here.iter().sum::<u64>()
        });
        let stubborn = shared(|| {
            loop {
                let _ = catch_unwind(crore::park);
            }
        });
        crore::yield_now();
        stubborn.cancel();
        assert!(stubborn.join().unwrap_err().is_cancelled());
        // The place of the one that is gone is used again.
        let later = shared(|| {
            crore::yield_now();
            9
        });
        neighbour.coroutine().unpark();
        assert_eq!(neighbour.join().unwrap(), 150);
        assert_eq!(later.join().unwrap(), 9);
    });
}
