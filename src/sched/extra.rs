//! The rare state of a task: what few tasks have, and a slot has no room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::locals::Locals;
use super::thread_seat::ThreadSeat;
use crate::task::Addr;

/// What few tasks have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) name: Option<Arc<str>>,
    /// What the task is known by if it is not its address.
    pub(super) provisional_id: Option<Addr>,
    /// Waits refused since the task was cancelled, or asked to end.
    pub(super) refusals: u32,
    /// The `timeout` that the task is inside, the one that ends first.
    pub(super) timeout: ActiveTimeout,
    /// The token that the task is bound to, the innermost.
    pub(super) binding: Option<Box<Binding>>,
    /// Its next wait is interrupted, once.
    pub(super) interrupted: bool,
    /// A cancellation or a deadline unwinds the task, or the payload of one is kept.
    pub(super) unwinds: bool,
    /// Nobody waits for its end when a runtime drains.
    pub(super) daemon: bool,
    /// When to report that it waits on below a function that C has called.
    pub(super) stuck: Stuck,
    /// Its coroutine locals.
    pub(super) locals: Locals,
    /// Until it starts, if it stands for a thread.
    pub(super) thread: Option<ThreadSeat>,
}

/// A token that a task is bound to, and the one around it.
#[derive(Debug)]
pub(super) struct Binding {
    /// Whether the token is cancelled.
    pub(super) asks: Arc<AtomicBool>,
    pub(super) outer: Option<Box<Binding>>,
}

impl Extra {
    /// Whether a token that the task is bound to is cancelled.
    pub(super) fn asks(&self) -> bool {
        let first = self.binding.as_deref();
        let mut all = std::iter::successors(first, |one| one.outer.as_deref());
        all.any(|one| one.asks.load(Ordering::Acquire))
    }
}

/// Whether a task is to end and waits where nothing can unwind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stuck {
    #[default]
    Not,
    /// To be reported then.
    Until(Instant),
    Reported,
}

/// The `timeout` around what a task runs, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ActiveTimeout {
    pub(crate) deadline: Option<Instant>,
    /// Waits that it has made fail.
    pub(crate) refusals: u32,
}
