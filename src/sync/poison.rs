//! Poisoning as in `std::sync`: a lock whose holder panicked says so.

use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::thread;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sched::CurrentTask;

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

    /// Ends a hold that began with `watch`: a panic since then poisons. The unwind of a
    /// coroutine that is cancelled or late does not: it comes out of a wait, as an error
    /// that is returned with `?` does.
    #[inline]
    pub(super) fn done(&self, watch: Watch) {
        if !watch.panicking && panics() {
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

/// Whether a panic unwinds.
#[inline]
fn panics() -> bool {
    thread::panicking() && !CurrentTask::running().is_some_and(CurrentTask::is_unwound_by_us)
}

/// What a lock of this name prints of itself.
pub(super) fn fmt<G: Deref<Target: Debug>>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    tried: TryLockResult<G>,
    poisoned: bool,
) -> fmt::Result {
    let mut out = f.debug_struct(name);
    match tried {
        Ok(guard) => out.field("value", &&*guard),
        Err(TryLockError::Poisoned(guard)) => out.field("value", &&**guard.get_ref()),
        Err(TryLockError::WouldBlock) => out.field("value", &format_args!("<locked>")),
    };
    out.field("poisoned", &poisoned).finish_non_exhaustive()
}
