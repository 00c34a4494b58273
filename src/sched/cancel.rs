//! Cancellation: an error first, an unwind where that is sound.
//!
//! A cancelled coroutine's waits fail: hooked calls return `ECANCELED` (they
//! are `extern "C"` and called from code compiled not to unwind), our own
//! waiting functions unwind with [`Cancelled`]. Both go on failing, so that
//! code that swallows one meets the next. Code that ignores [`PATIENCE`] of
//! them is abandoned: never resumed, its memory never reused.

use std::io;
use std::panic::resume_unwind;

use super::cx::Cx;
use super::worker::Worker;
use crate::switch::Event;
use crate::sys::errno;
use crate::task::Flags;
use crate::task::alias::Ask;

/// The payload of an unwind by cancellation. The panic hook never sees it.
pub(super) struct Cancelled;

/// How many failed waits a cancelled coroutine may ignore.
pub(super) const PATIENCE: u32 = 10_000;

impl Worker {
    /// The main coroutine has ended: cancels all others, here.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        while self.take_own() {}
        let all: Vec<_> = self
            .slots
            .iter_live()
            .map(|(_, slot)| self.addr(slot))
            .collect();
        all.into_iter().for_each(|addr| self.ask(Ask::Cancel, addr));
    }
}

impl Cx {
    /// Whether this coroutine has been cancelled.
    #[inline(always)]
    pub(crate) fn cancelled(self) -> bool {
        self.slot().has(Flags::CANCELLED)
    }

    /// For hooks: whether a call has to fail because of cancellation.
    #[inline(always)]
    pub(crate) fn refused(self) -> bool {
        let cancelled = self.cancelled();
        if cancelled {
            self.count_refusal();
        }
        cancelled
    }

    /// The same as an error: `ECANCELED`.
    #[inline(always)]
    pub(crate) fn check(self) -> io::Result<()> {
        if self.refused() {
            Err(io::Error::from_raw_os_error(errno::ECANCELED))
        } else {
            Ok(())
        }
    }

    /// For our own waits: unwinds if cancelled.
    #[inline(always)]
    pub(crate) fn unwind_if_cancelled(self) {
        if self.cancelled() {
            self.unwind();
        }
    }

    #[cold]
    fn unwind(self) {
        self.count_refusal();
        resume_unwind(Box::new(Cancelled));
    }

    #[cold]
    fn count_refusal(self) {
        let refusals = self.worker().with_extra(self.slot(), |extra| {
            extra.refusals += 1;
            extra.refusals
        });
        // The others get their turn between the refusals.
        self.suspend(if refusals > PATIENCE {
            Event::Abandoned
        } else {
            Event::Yielded
        });
    }
}
