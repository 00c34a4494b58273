//! Quiescence waiters: wakers of those that wait until few enough tasks are alive.
//!
//! Tasks are counted without locks. A worker counts an end with plain stores and
//! asks [`QuiescenceWaiters::any`] afterwards; a waiter leaves its waker and looks
//! at the count afterwards. Either the worker sees the waiter, or the waiter sees
//! the count.

use std::task::Waker;

use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, Ordering, fence};

/// See the [module](self).
pub(super) struct QuiescenceWaiters {
    list: Lock<WakerList>,
    any: AtomicBool,
}

struct WakerList {
    /// The number of each waiter that has left a waker, once each.
    wakers: Vec<(u64, Waker)>,
    /// Waiters that were made, since they are told apart by number.
    made: u64,
}

/// One waiter. Dropped, it leaves no waker behind.
pub(crate) struct QuiescenceWaiter<'a> {
    all: &'a QuiescenceWaiters,
    number: u64,
}

impl QuiescenceWaiters {
    pub(super) fn new() -> Self {
        Self {
            list: Lock::new(WakerList {
                wakers: Vec::new(),
                made: 0,
            }),
            any: AtomicBool::new(false),
        }
    }

    pub(super) fn register(&self) -> QuiescenceWaiter<'_> {
        let mut list = self.list.lock();
        list.made += 1;
        let number = list.made;
        drop(list);
        QuiescenceWaiter { all: self, number }
    }

    /// Whether there is a waker. Count before this.
    pub(super) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.any.load(Ordering::Relaxed)
    }

    /// Wakes all waiters; each leaves a waker again if it has to.
    pub(super) fn notify(&self) {
        self.any.store(false, Ordering::Relaxed);
        let wakers = std::mem::take(&mut self.list.lock().wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl QuiescenceWaiter<'_> {
    /// Has the waker woken by the next [`QuiescenceWaiters::notify`], in place of
    /// the one before. Look at the count after this.
    pub(crate) fn set_waker(&self, waker: Waker) {
        let mut list = self.all.list.lock();
        // Dropped outside the lock: it may be foreign code.
        let _old = list.take(self.number);
        list.wakers.push((self.number, waker));
        drop(list);
        self.all.any.store(true, Ordering::Relaxed);
        // Partner of the one in `any`: either the worker that counts sees the
        // waker, or we see what it has counted.
        fence(Ordering::SeqCst);
    }
}

impl Drop for QuiescenceWaiter<'_> {
    fn drop(&mut self) {
        let left = self.all.list.lock().take(self.number);
        drop(left);
    }
}

impl WakerList {
    fn take(&mut self, number: u64) -> Option<Waker> {
        let at = self.wakers.iter().position(|(of, _)| *of == number)?;
        Some(self.wakers.swap_remove(at).1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_waiter_leaves_no_waker() {
        let waiters = QuiescenceWaiters::new();
        let one = waiters.register();
        for _ in 0..3 {
            let other = waiters.register();
            one.set_waker(Waker::noop().clone());
            other.set_waker(Waker::noop().clone());
            assert_eq!(waiters.list.lock().wakers.len(), 2);
        }
        assert_eq!(waiters.list.lock().wakers.len(), 1);
        waiters.notify();
        assert!(waiters.list.lock().wakers.is_empty());
        drop(one);
    }
}
