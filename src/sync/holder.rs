//! Who holds a lock, for dumps.

// Not from the shim: nothing is decided by it, so no order is of interest.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sched::WaitsFor;
use crate::task::running_key;

/// The coroutine that has taken a lock last and not let go of it: where the guard went
/// afterwards is not known. Nobody, if that was done outside of coroutines.
pub(super) struct LockHolder(AtomicU64);

impl LockHolder {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline(always)]
    pub(super) fn takes(&self) {
        self.0.store(running_key(), Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn leaves(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What those wait for that find the lock held.
    pub(super) fn awaited(&self) -> WaitsFor<'_> {
        WaitsFor::Lock(&self.0)
    }
}
