//! Models of the task cell: the result is seen once, the joiner is always
//! woken, and the cell is freed by the last of both sides.

use std::sync::Arc as StdArc;
use std::task::{Wake, Waker};

use loom::thread;

use super::Addr;
use super::cell::JoinRef;
use super::model::{self, Drops, TaskSide};
use super::promise::promise;
use super::provisional_id::{self, EarlyRequests, TaskRequest, is_provisional};
use crate::shim::atomic::{AtomicUsize, Ordering};
use crate::shim::{Arc, UnsafeCell};

/// Remembers that it was woken.
#[derive(Default)]
struct Flag(std::sync::atomic::AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn cell(drops: &Drops) -> (TaskSide, JoinRef) {
    model::cell(drops, Some(Addr::new(1, 0, 0)))
}

/// Leaves a waker, lets the task end, and sees to it that the waker was woken
/// if it had to be.
fn wait(join: &mut JoinRef, others: impl FnOnce()) {
    let flag = StdArc::new(Flag::default());
    let done = join.set_waker(&Waker::from(StdArc::clone(&flag)));
    others();
    assert!(done || flag.is_set(), "the joiner sleeps for ever");
    assert!(join.is_done());
}

#[test]
fn loom_join_against_end() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, mut join) = cell(&drops);
        let ender = thread::spawn(move || task.end());
        wait(&mut join, || ender.join().unwrap());
        // SAFETY: the closure returns `()`, and the end has come.
        let result = unsafe { join.take::<()>() };
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(*drops.lock().unwrap(), 1);
    });
}

/// The handle takes the result the moment that it is there, while the task
/// still lets go of its side.
#[test]
fn loom_taking_early_against_letting_go() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, mut join) = cell(&drops);
        let ender = thread::spawn(move || task.end());
        if join.set_waker(Waker::noop()) {
            // SAFETY: the closure returns `()`, and the end has come.
            assert!(unsafe { join.take::<()>() }.is_err());
        }
        ender.join().unwrap();
        assert_eq!(*drops.lock().unwrap(), 1);
    });
}

#[test]
fn loom_dropped_handle_against_end() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, join) = cell(&drops);
        let ender = thread::spawn(move || task.end());
        drop(join);
        ender.join().unwrap();
        assert_eq!(*drops.lock().unwrap(), 1);
    });
}

/// A future that is polled with one waker, then with another, then joined by
/// a third thread.
#[test]
fn loom_changing_wakers_against_end() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, mut join) = cell(&drops);
        let ender = thread::spawn(move || task.end());
        let _early = join.set_waker(&Waker::from(StdArc::new(Flag::default())));
        wait(&mut join, || ender.join().unwrap());
        let taker = thread::spawn(move || {
            // SAFETY: the end has come, and the closure returns `()`.
            assert!(unsafe { join.take::<()>() }.is_err());
        });
        taker.join().unwrap();
        assert_eq!(*drops.lock().unwrap(), 1);
    });
}

/// Who asks for the identity while a worker places the task: both agree. What is
/// requested by it meanwhile is told to the worker, or passed on to where the task lives.
#[test]
fn loom_identity_against_placing() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, join) = model::cell(&drops, None);
        let (join, addr) = (Arc::new(join), Addr::new(1, 3, 5));
        let asker = Arc::clone(&join);
        let asking = thread::spawn(move || {
            let id = asker.header().coroutine().identity();
            let passed_on = match is_provisional(id) {
                true => provisional_id::forward(id, TaskRequest::Cancel),
                false => Some(id),
            };
            (id, passed_on)
        });
        let placed = join.header().coroutine().place(addr);
        let (asked, passed_on) = asking.join().unwrap();
        let (id, early) = placed.unwrap_or((addr, EarlyRequests::default()));
        assert_eq!(asked, id);
        match early.cancelled {
            true => assert_eq!(passed_on, None, "told twice"),
            false => assert_eq!(passed_on, Some(addr), "lost"),
        }
        provisional_id::discard(id);
        task.end();
    });
}

/// A joiner that looks first, and takes it for granted that its waker came in
/// time: the end in between is missed.
#[test]
#[should_panic(expected = "sleeps for ever")]
fn loom_catches_a_joiner_that_does_not_look_again() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, mut join) = cell(&drops);
        let ender = thread::spawn(move || task.end());
        let flag = StdArc::new(Flag::default());
        let done = join.is_done();
        let _ignored = join.set_waker(&Waker::from(StdArc::clone(&flag)));
        ender.join().unwrap();
        assert!(done || flag.is_set(), "the joiner sleeps for ever");
    });
}

/// What a task did is seen by who finds it done, whether it lets go of the cell first
/// or last.
#[test]
fn loom_what_a_task_did_is_seen_by_its_joiner() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, mut join) = cell(&drops);
        let did = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&did);
        let ender = thread::spawn(move || {
            theirs.store(1, Ordering::Relaxed);
            task.end();
        });
        if join.set_waker(Waker::noop()) {
            assert_eq!(did.load(Ordering::Relaxed), 1, "not seen");
        }
        ender.join().unwrap();
    });
}

/// The same for one that asks whether it is done.
#[test]
fn loom_what_a_task_did_is_seen_by_who_asks() {
    loom::model(|| {
        let drops = StdArc::default();
        let (task, join) = cell(&drops);
        let did = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&did);
        let ender = thread::spawn(move || {
            theirs.store(1, Ordering::Relaxed);
            task.end();
        });
        if join.is_done() {
            assert_eq!(did.load(Ordering::Relaxed), 1, "not seen");
        }
        ender.join().unwrap();
    });
}

/// The result itself, in a cell of loom's: whoever finds the task done may read it, on
/// whatever thread.
#[test]
fn loom_the_result_is_there_for_its_joiner() {
    loom::model(|| {
        let (promise, mut join) = promise(false);
        let ender = thread::spawn(move || {
            let result = UnsafeCell::new(0);
            // SAFETY: nobody else has it yet.
            result.with_mut(|result| unsafe { *result = 7 });
            promise.fulfil(Ok(result));
        });
        if join.set_waker(Waker::noop()) {
            // SAFETY: what was promised is such a cell, and the end has come.
            let result = unsafe { join.take::<UnsafeCell<i32>>() }.unwrap();
            // SAFETY: it is ours now.
            result.with(|result| assert_eq!(unsafe { *result }, 7));
        }
        ender.join().unwrap();
    });
}

/// A result that is taken, or that nobody wants, ends once; loom tells of one that leaks.
#[test]
fn loom_a_result_ends_once() {
    for takes in [false, true] {
        loom::model(move || {
            let kept = Arc::new(());
            let (promise, mut join) = promise(false);
            let result = Arc::clone(&kept);
            let ender = thread::spawn(move || promise.fulfil(Ok(result)));
            if takes && join.set_waker(Waker::noop()) {
                // SAFETY: what was promised is such an `Arc`, and the end has come.
                drop(unsafe { join.take::<Arc<()>>() });
            } else {
                drop(join);
            }
            ender.join().unwrap();
            assert_eq!(Arc::strong_count(&kept), 1);
        });
    }
}
