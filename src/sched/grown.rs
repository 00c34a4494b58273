//! Coroutines on a second stack of ours, for deep calls (`generator/grow.rs`).
//!
//! ```text
//!   worker ──resume──► carrier below ──resume──► carrier above
//!     ▲                 │        ▲                │
//!     └────suspend──────┘        └────suspend─────┘
//! ```
//!
//! Each carrier hands on to its resumer why it suspends. The one below is the stack that
//! the worker knows: its frames, and on a shared stack no others, are what is copied,
//! trimmed and looked at; the one above waits where it is.

use super::current::CurrentTask;
use super::worker::Worker;
use crate::stack::limit_of_stack;
use crate::switch::{Carrier, EntryPoint, SwitchReason, stack_pointer};

impl CurrentTask {
    /// Calls the entry point on another carrier, on which the coroutine runs until that
    /// has ended: [`SwitchReason::Finished`] or [`SwitchReason::Panicked`].
    ///
    /// # Safety
    ///
    /// - `above` was installed on this thread, is idle and nobody else's.
    /// - `entry` is valid until it has ended.
    #[inline(never)]
    pub(crate) unsafe fn run_grown(
        self,
        above: *mut Carrier,
        entry: *const EntryPoint,
    ) -> SwitchReason {
        let below = Worker::carrier();
        let grown = Grown::begin(self);
        let mut input = entry;
        let reason = loop {
            Worker::set_carrier(above);
            // SAFETY: idle at first, with its entry point; then suspended (I3).
            let reason = unsafe { Carrier::resume_above(above, input) };
            Worker::set_carrier(below);
            match reason {
                SwitchReason::Finished | SwitchReason::Panicked => break reason,
                SwitchReason::Abandoned => self.abandon(),
                _ => self.suspend_regardless(reason),
            }
            input = std::ptr::null();
        };
        drop(grown);
        reason
    }

    /// Bytes that are left of the stack that the coroutine runs on; none of one that is not
    /// ours.
    #[inline]
    pub(crate) fn stack_left(self) -> usize {
        let (at, carrier) = (stack_pointer(), Worker::carrier());
        // SAFETY: this coroutine runs on this thread, so its carrier was installed (I3).
        let own = unsafe { Carrier::holds(carrier, at).then(|| (*carrier).limit()) };
        // A generator's, perhaps.
        let limit = own.or_else(|| limit_of_stack(at));
        limit.map_or(0, |limit| at.saturating_sub(limit))
    }
}

/// Counts those that have frames on a shared stack while they run above.
struct Grown(Option<&'static Worker>);

impl Grown {
    fn begin(cx: CurrentTask) -> Self {
        let worker = cx.is_shared().then(|| cx.worker());
        if let Some(worker) = worker {
            worker.grown_shared.set(worker.grown_shared.get() + 1);
        }
        Self(worker)
    }
}

impl Drop for Grown {
    fn drop(&mut self) {
        if let Some(worker) = self.0 {
            worker.grown_shared.set(worker.grown_shared.get() - 1);
        }
    }
}
