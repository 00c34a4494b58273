//! Poisoning as in `std::sync`: a lock whose holder panicked says so.

use std::sync::{LockResult, PoisonError};
use std::thread;

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a holder panicked. Not from the shim: it orders nothing, the lock
/// around it does.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// `value` as a result, as poisoned as the lock.
    pub(super) fn wrap<T>(&self, value: T) -> LockResult<T> {
        if self.get() {
            Err(PoisonError::new(value))
        } else {
            Ok(value)
        }
    }

    /// Ends a hold that began with `watch`: a panic since then poisons.
    #[inline]
    pub(super) fn done(&self, watch: Watch) {
        if !watch.panicking && thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Remembers whether the thread was already unwinding when a guard was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    panicking: bool,
}

impl Watch {
    #[inline]
    pub(super) fn start() -> Self {
        Self {
            panicking: thread::panicking(),
        }
    }
}
