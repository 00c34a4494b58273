//! What a signal handler that runs here has interrupted, and on which stacks both are.

use super::current::CurrentTask;
use super::worker::Worker;
use crate::stack::limit_of_stack;
use crate::switch;
use crate::sys::signal::SignalStack;
use crate::util::gate::Interrupted;

/// Where code runs, or a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// A stack of ours, a coroutine's or a generator's, by its lowest address.
    Stack(usize),
    /// The thread's own stack, if the thread is a worker.
    Worker,
    /// The thread's own stack, if it is none; a second stack; the signal stack.
    Elsewhere,
}

impl Region {
    /// Async-signal-safe.
    pub(super) fn of(address: usize) -> Self {
        if let Some(limit) = limit_of_stack(address) {
            Self::Stack(limit)
        } else if Worker::current().is_some_and(|worker| worker.own_stack.contains(&address)) {
            Self::Worker
        } else {
            Self::Elsewhere
        }
    }

    /// The stack of the coroutine that runs on this thread, or ran last.
    pub(super) fn of_coroutine() -> Option<Self> {
        let carrier = Worker::current().map_or(0, |_| Worker::carrier_address());
        (carrier != 0).then(|| Self::of(carrier))
    }
}

/// A handler of the program's that runs on this thread: the outermost, if it was
/// interrupted itself.
pub(super) struct RunningHandler {
    pub(super) interrupted: Interrupted,
    signal_stack: Option<SignalStack>,
}

impl RunningHandler {
    /// The one in which the calling code runs. Async-signal-safe.
    pub(super) fn here() -> Option<Self> {
        let handler = Self {
            interrupted: Interrupted::noted()?,
            signal_stack: SignalStack::current().ok(),
        };
        handler
            .has_frames_at(switch::stack_pointer())
            .then_some(handler)
    }

    /// Whether an address lies among its frames, or those of a handler that has
    /// interrupted it.
    pub(super) fn has_frames_at(&self, address: usize) -> bool {
        let is_on_signal_stack = |address: usize| {
            self.signal_stack
                .is_some_and(|stack| address.wrapping_sub(stack.base().addr()) < stack.len())
        };
        let at = self.interrupted.at;
        is_on_signal_stack(address)
            || address < at && !is_on_signal_stack(at) && Region::of(address) == Region::of(at)
    }
}

impl CurrentTask {
    /// The coroutine that this code runs in, or has interrupted as a signal handler.
    /// Async-signal-safe.
    pub(super) fn running_or_interrupted() -> Option<Self> {
        Self::running().or_else(|| {
            let handler = RunningHandler::here()?;
            // SAFETY: a slot, or null; its coroutine goes on when the handler returns.
            unsafe { Self::of_slot(handler.interrupted.running.cast()) }
        })
    }
}
