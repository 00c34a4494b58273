//! Cancellation and deadlines: an error first, an unwind where that is sound.
//!
//! A coroutine that was cancelled, or that is inside a
//! [`timeout`](crate::timeout) whose time is over, is *ending*: its waits
//! fail. Hooked calls return an error (they are `extern "C"` and called from
//! code compiled not to unwind), our own waiting functions unwind with
//! [`Cancelled`] or [`Late`]. All go on failing, so that code that swallows
//! one meets the next.
//!
//! Code that ignores [`PATIENCE`] failures goes one step down: an ignored
//! deadline becomes a cancellation, an ignored cancellation ends in the
//! coroutine being abandoned: never resumed, its memory never reused.
//!
//! While it unwinds a coroutine can't park, so a destructor has one try at
//! everything: what can be done at once is done, what would have to wait
//! fails. docs/CANCELLATION.md has the rules as users see them.

use std::any::Any;
use std::io;
use std::panic::resume_unwind;
use std::thread::panicking;
use std::time::Instant;

use super::current::Cx;
use super::extra::ActiveTimeout;
use super::label::TaskLabel;
use super::worker::Worker;
use crate::switch::SwitchReason;
use crate::sys::errno;
use crate::sys::report::report;
use crate::task::provisional_id::TaskRequest;
use crate::task::{Addr, Flags, JoinError, TaskState};

/// The payload of an unwind by cancellation. The panic hook never sees it.
pub(crate) struct Cancelled;

/// The payload of an unwind by a deadline: which one.
pub(crate) struct Late(pub(crate) Instant);

/// How many failed waits an ending coroutine may ignore.
pub(super) const PATIENCE: u32 = 10_000;

/// Why waits fail.
#[derive(Clone, Copy)]
enum Ending {
    Cancelled,
    Late(Instant),
}

/// Why a coroutine has no result, from what it unwound with.
pub(crate) fn why_unwound(payload: Box<dyn Any + Send>) -> JoinError {
    if payload.is::<Cancelled>() {
        JoinError::cancelled()
    } else {
        JoinError::panicked(payload)
    }
}

impl Worker {
    /// The main coroutine has ended: cancels all others, here.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.cancel_all(None);
    }

    /// Cancels all coroutines here but one.
    pub(super) fn cancel_all(&self, spared: Option<Addr>) {
        while self.accept_injected() {}
        let all: Vec<_> = self
            .slots
            .iter_live()
            .map(|(_, slot)| (self.addr(slot), self.identity(slot)))
            .collect();
        for (addr, identity) in all {
            if spared != Some(identity) {
                self.request(TaskRequest::Cancel, addr);
            }
        }
    }
}

impl Cx {
    /// Whether this coroutine has been cancelled, as far as is known here. Unlike
    /// the waits this looks at the mail, for code that never waits.
    pub(crate) fn is_cancelled(self) -> bool {
        let worker = self.worker();
        if worker.handle.mailbox.has_mail() {
            // On the coroutine's stack, which is sound: the messages are about
            // other tasks, or leave a note in this one's flags.
            worker.read_mail();
        }
        self.slot().has(Flags::CANCELLED) || worker.workers.is_stopping()
    }

    /// For hooks: an error if the coroutine is ending, `ECANCELED` or `ETIME`.
    /// A destructor that runs while it unwinds has one try.
    #[inline(always)]
    pub(crate) fn check(self) -> io::Result<()> {
        if self.slot().has(Flags::ENDING) {
            self.check_closely()
        } else {
            Ok(())
        }
    }

    /// [`Cx::check`] where the next step is to park, which no coroutine may while it
    /// unwinds (it would show its panic count to all others on this thread), and
    /// no signal handler on its own stack.
    pub(crate) fn check_parkable(self) -> io::Result<()> {
        if !self.may_park() {
            return Err(io::Error::from_raw_os_error(errno::ECANCELED));
        }
        if !self.is_at_home() {
            return Err(io::Error::from_raw_os_error(errno::EDEADLK));
        }
        self.check()
    }

    /// For our own waits: unwinds if the coroutine is ending.
    #[inline(always)]
    pub(crate) fn unwind_if_ending(self) {
        if self.slot().has(Flags::ENDING) {
            self.unwind_closely();
        }
    }

    /// As [`Cx::unwind_if_ending`], for waits that may return with nothing: `true`
    /// if this one has to, since nothing can unwind and a deadline has passed.
    #[inline(always)]
    pub(crate) fn unwind_or_return(self) -> bool {
        self.unwind_if_ending();
        cfg!(panic = "abort") && self.check().is_err()
    }

    /// The end of the `timeout` around this, the earliest if there are several.
    #[inline]
    pub(crate) fn deadline(self) -> Option<Instant> {
        if self.slot().has(Flags::LIMITED) {
            self.timeout().deadline
        } else {
            None
        }
    }

    /// The `timeout` around this.
    pub(crate) fn timeout(self) -> ActiveTimeout {
        self.worker().with_extra(self.slot(), |extra| extra.timeout)
    }

    /// A `timeout` begins, or the one around it goes on.
    pub(crate) fn set_timeout(self, timeout: ActiveTimeout) {
        let slot = self.slot();
        slot.clear(Flags::LIMITED);
        if timeout.deadline.is_some() {
            slot.set(Flags::LIMITED);
        }
        self.worker()
            .with_extra(slot, |extra| extra.timeout = timeout);
    }

    /// Parks until woken, whatever else: for what must not end early.
    pub(crate) fn park_regardless(self) {
        self.suspend(SwitchReason::Parked);
    }

    /// Whether the coroutine is ending; counts no refusal.
    pub(crate) fn is_ending(self) -> bool {
        self.ending().is_some()
    }

    /// Ends here and now: never resumed, frames and all they own left alone.
    pub(crate) fn abandon(self) -> ! {
        self.suspend(SwitchReason::Abandoned);
        unreachable!("an abandoned coroutine was resumed")
    }

    fn ending(self) -> Option<Ending> {
        if self.slot().has(Flags::CANCELLED) {
            return Some(Ending::Cancelled);
        }
        let deadline = self.deadline()?;
        (self.now() >= deadline).then_some(Ending::Late(deadline))
    }

    #[cold]
    fn check_closely(self) -> io::Result<()> {
        if panicking() || !self.is_at_home() {
            return Ok(());
        }
        let code = match self.ending() {
            None => return Ok(()),
            Some(Ending::Cancelled) => errno::ECANCELED,
            Some(Ending::Late(_)) => errno::ETIME,
        };
        self.count_refusal();
        Err(io::Error::from_raw_os_error(code))
    }

    #[cold]
    fn unwind_closely(self) {
        // A second unwind out of a destructor would abort; if this one has to
        // wait, `suspend` aborts and says why. Nor may destructors of
        // thread-locals unwind: there nothing ends a wait early.
        if panicking() || self.ends_own_tls() {
            return;
        }
        let Some(ending) = self.ending() else { return };
        // A program built to abort on panics can't unwind: what is cancelled is
        // left where it is. A deadline ends the waits that may return with
        // nothing (`unwind_or_return`); the others go on (`park_for_output`).
        if cfg!(panic = "abort") {
            return if matches!(ending, Ending::Cancelled) {
                self.abandon()
            };
        }
        self.count_refusal();
        match ending {
            Ending::Cancelled => resume_unwind(Box::new(Cancelled)),
            Ending::Late(deadline) => resume_unwind(Box::new(Late(deadline))),
        }
    }

    fn count_refusal(self) {
        let cancelled = self.slot().has(Flags::CANCELLED);
        let refusals = self.worker().with_extra(self.slot(), |extra| {
            let count = if cancelled {
                &mut extra.refusals
            } else {
                &mut extra.timeout.refusals
            };
            *count += 1;
            *count
        });
        let mut reason = SwitchReason::Yielded;
        if refusals > PATIENCE {
            if cancelled {
                reason = SwitchReason::Abandoned;
            } else {
                self.cancel_for_being_late();
            }
        }
        // The others get their turn between the refusals.
        self.suspend(reason);
    }

    #[cold]
    fn cancel_for_being_late(self) {
        let label = TaskLabel::of(self);
        report(format_args!(
            "{label} went on after a timeout had failed {PATIENCE} of its waits; it is \
             cancelled"
        ));
        debug_assert_eq!(self.slot().state(), TaskState::Running);
        self.slot().set(Flags::CANCELLED);
    }
}
