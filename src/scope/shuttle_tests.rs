//! Scenarios of scopes: children that end, or never run, while they are waited for.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

use shuttle::thread;

use super::Shared;
use super::child::prepare;
use crate::block_on::block_on;
use crate::runtime::join_handle::JoinHandle;
use crate::shim::scenario::check;
use crate::task::Addr;
use crate::task::model::{self, Drops};

/// As `Shared::wait_for_all`, which wants a coroutine.
fn wait_for_all(shared: &Shared) {
    block_on(poll_fn(|cx| {
        loop {
            match shared.poll_one(cx) {
                None => return Poll::Ready(()),
                Some(Poll::Ready(result)) => shared.note(result),
                Some(Poll::Pending) => return Poll::Pending,
            }
        }
    }));
}

/// Five children, each on a thread of its own; three are joined by others, and one is
/// dropped before it runs. When the last has ended, no closure is left.
#[test]
fn a_scope_outlives_its_children_and_their_closures() {
    const CHILDREN: usize = 5;
    check(|| {
        let drops = Drops::default();
        let shared = Shared::new();
        thread::scope(|threads| {
            for number in 0..CHILDREN {
                let (child, unkeyed) = prepare(&shared, move || number);
                let (task, join) = model::cell(&drops, Some(Addr::new(1, 0, 0)));
                threads.spawn(move || {
                    if number == 0 {
                        drop(child);
                    } else {
                        child.run();
                    }
                    task.end();
                });
                let (key, coroutine) = shared.add(JoinHandle::new(join));
                let handle = unkeyed.spawned(key, coroutine);
                if number < 3 {
                    threads.spawn(move || match handle.join() {
                        Ok(value) => assert_eq!(value, number),
                        Err(error) => assert!(number == 0 && error.is_cancelled()),
                    });
                }
            }
            wait_for_all(&shared);
            assert_eq!(shared.children.lock().alive, 0);
        });
        assert_eq!(*drops.lock().unwrap(), CHILDREN);
        assert!(!shared.panicked.load(Ordering::Relaxed));
    });
}
