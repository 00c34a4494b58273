//! Which coroutine with thread-locals of its own runs on a worker, by the number that
//! locks know it by. The worker says so before the coroutine can take a lock; who has
//! found that number in a lock asks all workers. Models: `loom_tests/own_number.rs`.

use crate::shim::atomic::{AtomicU32, Ordering, fence};

/// A worker's word; 0 while none runs.
#[derive(Default)]
pub(super) struct OwnNumber(AtomicU32);

impl OwnNumber {
    /// The coroutine runs from here on.
    #[inline(always)]
    pub(super) fn enter(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
        // Libc notes a lock's holder with a plain store, which must not be seen before
        // the one above. Partner: the fence in `runs`.
        fence(Ordering::Release);
    }

    #[inline(always)]
    pub(super) fn leave(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Whether the coroutine runs on one of the workers. A caller that saw it hold a lock
/// that it took while it ran sees that it runs, if it still does.
#[cfg(feature = "futex")]
pub(super) fn runs<'a>(number: u32, workers: impl IntoIterator<Item = &'a OwnNumber>) -> bool {
    // Partner: the fence in `enter`.
    fence(Ordering::Acquire);
    let mut workers = workers.into_iter();
    workers.any(|worker| worker.0.load(Ordering::Relaxed) == number)
}
