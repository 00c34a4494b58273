//! Being asked to end, softly: what a task is bound to, and the calls that fail by it.
//!
//! A task that is bound to a token pays nothing for that until the token is
//! cancelled. Then a [request](crate::task::provisional_id::TaskRequest::SeeAsked)
//! sets its [`Flags::LIMITED`], which makes each hooked call look closely
//! (`cancel.rs`), and the look finds the token here. From then on what reads fails;
//! what writes, and our own waits, go on.
//!
//! Likewise a task that stands for a thread is interrupted by a signal to it, or by a
//! `pthread_cancel`: the wait that it is in fails with `EINTR`, once.
//!
//! Does not live here: tokens, their tree and who waits for them
//! (`sync/cancel_token.rs`).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;

use super::current::CurrentTask;
use super::extra::{Binding, Extra};
use super::wake;
use super::worker::Worker;
use crate::task::{Flags, Slot};

impl CurrentTask {
    /// Whether a token that this coroutine is bound to has been cancelled.
    pub(crate) fn is_asked(self) -> bool {
        self.slot().extra.get() != 0 && self.worker().with_extra(self.slot(), |extra| extra.asks())
    }

    /// Binds this coroutine to a token, inside those that it is bound to. The waker is to
    /// be woken once `asks` is set.
    pub(crate) fn bind(self, asks: Arc<AtomicBool>) -> Waker {
        self.change_limits(|extra| {
            let outer = extra.binding.take();
            extra.binding = Some(Box::new(Binding { asks, outer }));
        });
        wake::asker(self.addr())
    }

    /// Ends the innermost [`CurrentTask::bind`].
    pub(crate) fn unbind(self) {
        self.change_limits(|extra| {
            let ended = extra.binding.take();
            extra.binding = ended.and_then(|binding| binding.outer);
        });
    }

    /// Changes what is around this coroutine, and sets or clears the flag that makes
    /// calls look closely accordingly.
    #[inline]
    pub(super) fn change_limits(self, change: impl FnOnce(&mut Extra)) {
        let slot = self.slot();
        slot.clear(Flags::LIMITED);
        let limited = self.worker().with_extra(slot, |extra| {
            change(extra);
            extra.timeout.deadline.is_some() || extra.interrupted || extra.asks()
        });
        if limited {
            slot.set(Flags::LIMITED);
        }
    }

    /// Whether this coroutine was interrupted since it was asked last.
    #[cold]
    pub(crate) fn take_interruption(self) -> bool {
        let slot = self.slot();
        let extra = || self.worker().with_extra(slot, |extra| extra.interrupted);
        let interrupted = slot.extra.get() != 0 && extra();
        if interrupted {
            self.change_limits(|extra| extra.interrupted = false);
        }
        interrupted
    }

    /// As [`TaskRequest::Interrupt`](crate::task::provisional_id::TaskRequest), of this
    /// coroutine itself.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn interrupt(self) {
        self.worker().note_interruption(self.slot());
    }

    /// Whether it is a cancellation or a deadline that unwinds this coroutine, and no
    /// panic. A payload that was caught and is kept counts.
    pub(crate) fn is_unwound_by_us(self) -> bool {
        self.slot().extra.get() != 0 && self.worker().with_extra(self.slot(), |extra| extra.unwinds)
    }

    pub(super) fn set_unwound_by_us(self, yes: bool) {
        self.worker()
            .with_extra(self.slot(), |extra| extra.unwinds = yes);
    }
}

impl Worker {
    /// The task's next wait, or the one it is in, is to be interrupted.
    pub(super) fn note_interruption(&self, slot: &Slot) {
        self.with_extra(slot, |extra| extra.interrupted = true);
        slot.set(Flags::LIMITED);
    }
}
