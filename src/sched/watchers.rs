//! Who wants to hear when something that is counted without locks has changed.
//!
//! The one who counts does so with plain stores and asks [`Watchers::any`]
//! afterwards; the one who wants to know adds a waker and looks at the count
//! afterwards. Either the first sees the second, or the second sees the count.

use std::task::Waker;

use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, Ordering, fence};

/// See the [module](self).
pub(super) struct Watchers {
    wakers: Lock<Vec<Waker>>,
    any: AtomicBool,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self {
            wakers: Lock::new(Vec::new()),
            any: AtomicBool::new(false),
        }
    }

    /// Has the waker woken by the next [`Watchers::tell`]. Look at the count
    /// after this.
    pub(super) fn add(&self, waker: Waker) {
        self.wakers.lock().push(waker);
        self.any.store(true, Ordering::Relaxed);
        // Partner of the one in `any`: either the one who counts sees that it
        // is watched, or we see what it has counted.
        fence(Ordering::SeqCst);
    }

    /// Whether anybody watches. Count before this.
    pub(super) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.any.load(Ordering::Relaxed)
    }

    /// Wakes all; they add themselves again if they have to.
    pub(super) fn tell(&self) {
        self.any.store(false, Ordering::Relaxed);
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}
