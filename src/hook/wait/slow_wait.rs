//! Slow waits: what a coroutine that is to end can't be ended in, and who says so.
//!
//! Locks of std and of C, joins of threads and other libraries' event loops take
//! an error for a bug: they panic or abort. So their waits go on until they have
//! what they wait for, whatever becomes of the coroutine; a report names it if
//! that takes long.

use std::fmt::{self, Display, Write};
use std::time::Instant;

use crate::hook::wait::clock::after;
use crate::sched::{CurrentTask, WARN_AFTER, describe_running};
use crate::stack::report::SignalWriter;
use crate::task::Flags;

/// What is waited for.
#[derive(Clone, Copy)]
pub(crate) enum Lasting {
    /// A lock, at this address.
    Lock(usize),
    /// The end of a thread.
    Thread,
    /// What an event loop waits for, in the function of this name.
    Events(&'static str),
}

impl Display for Lasting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(word) => write!(
                out,
                "for a lock of std or of C (at {word:#x}), which can't be told; it ends when the \
                 wait does. Use crore::sync for waits that must end early."
            ),
            Self::Thread => out.write_str(
                "for the end of a thread (pthread_join), which can't be told; it ends when the \
                 thread does.",
            ),
            Self::Events(call) => write!(
                out,
                "in {call}, for what is no connection: an event loop takes an error for a bug, so \
                 it is not told; it ends when the loop does."
            ),
        }
    }
}

/// Reports, once, a coroutine that is to end and goes on waiting for long.
pub(crate) struct SlowWait {
    awaited: Lasting,
    /// When to report it.
    warn_at: Option<Instant>,
    reported: bool,
}

impl SlowWait {
    pub(crate) fn new(awaited: Lasting) -> Self {
        Self {
            awaited,
            warn_at: None,
            reported: false,
        }
    }

    /// When to check next, whatever happens.
    pub(crate) fn next(&self, cx: CurrentTask) -> Option<Instant> {
        match self.warn_at {
            // A cancellation wakes the coroutine, the end of a `timeout` does not.
            None => cx.deadline(),
            warn_at => warn_at.filter(|_| !self.reported),
        }
    }

    /// At the beginning, and after each wake-up: whether the coroutine is to end, or unwinds and can't
    /// park.
    pub(crate) fn check(&mut self, cx: CurrentTask) -> bool {
        match self.warn_at {
            None if cx.is_ending() || !cx.may_wait_on() => self.warn_at = Some(after(WARN_AFTER)),
            None => return false,
            Some(warn_at) if !self.reported && Instant::now() >= warn_at => {
                self.reported = true;
                report(cx, self.awaited);
            }
            Some(_) => {}
        }
        true
    }
}

/// To standard error, past std: its lock may be what is waited for.
#[cold]
fn report(cx: CurrentTask, awaited: Lasting) {
    let why = match () {
        () if cx.slot().has(Flags::CANCELLED) => "is cancelled",
        () if cx.is_ending() => "is late",
        () => "unwinds",
    };
    let mut out = SignalWriter::new();
    let _ = out.write_str("crore: ");
    describe_running(&mut out, None);
    let _ = writeln!(out, " {why} and waits {awaited}");
    out.flush();
}
