//! Scenarios of the task cell: many ends against handles that go from thread to thread.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use shuttle::thread;

use super::Addr;
use super::cell::JoinRef;
use super::model::{self, Drops, TaskSide};
use super::provisional_id;
use crate::shim::Arc;
use crate::shim::scenario::{check, crowd, join};
use shuttle::future::block_on;

/// Four that end, and four handles: each is polled by one thread with a waker that goes
/// nowhere, waited for by another, and its result is taken by a third.
#[test]
fn handles_that_are_handed_on_hear_of_the_end() {
    const TASKS: usize = 4;
    check(|| {
        let drops = Drops::default();
        let waits = |(task, mut handle): (TaskSide, JoinRef)| {
            let early = thread::spawn(move || {
                let _ = handle.set_waker(Waker::noop());
                handle
            });
            let ends = thread::spawn(move || task.end());
            let waits = thread::spawn(move || {
                let mut handle = early.join().unwrap();
                block_on(poll_fn(|cx| match handle.set_waker(cx.waker()) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }));
                handle
            });
            (ends, waits)
        };
        let tasks = (0..TASKS).map(|_| model::cell(&drops, Some(Addr::new(1, 0, 0))));
        let (ends, waits): (Vec<_>, Vec<_>) = tasks.map(waits).unzip();
        for handle in join(waits) {
            // SAFETY: the closure returns `()`, and the end has come.
            assert!(unsafe { handle.take::<()>() }.is_err());
        }
        join(ends);
        assert_eq!(*drops.lock().unwrap(), TASKS);
    });
}

/// Four ask for the identity while a worker places the task, and it ends: all agree.
#[test]
fn all_that_ask_for_an_identity_agree() {
    check(|| {
        let drops = Drops::default();
        let (task, handle) = model::cell(&drops, None);
        let handle = Arc::new(handle);
        let asks = Arc::clone(&handle);
        let asking = crowd(4, move |_| asks.header().coroutine().identity());
        let addr = Addr::new(1, 3, 5);
        let known = handle.header().coroutine().place(addr).map(|(id, _)| id);
        let ends = thread::spawn(move || task.end());
        let agreed = join(asking);
        assert!(agreed.iter().all(|asked| *asked == known.unwrap_or(addr)));
        ends.join().unwrap();
        known.map(provisional_id::discard);
    });
}
