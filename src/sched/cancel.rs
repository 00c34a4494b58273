//! Cancellation and deadlines: an error first, an unwind where that is sound.
//!
//! A coroutine that was cancelled, or that is inside a
//! [`timeout`](crate::timeout) whose time is over, is *ending*: its waits
//! fail. Hooked calls return an error (they are `extern "C"` and called from
//! code compiled not to unwind), our own waiting functions unwind with
//! [`CancelPayload`] or [`Late`]. All go on failing, so that code that swallows
//! one meets the next.
//!
//! Code that ignores [`PATIENCE`] failures goes one step down: an ignored
//! deadline becomes a cancellation, an ignored cancellation ends in the
//! coroutine being abandoned: never resumed, its memory never reused.
//!
//! Below a function that C has called nothing can unwind; there our own waits go on,
//! and a report says so. `sys/unwind.rs` looks before each unwind.
//!
//! While it unwinds a coroutine can't park, so a destructor has one try at
//! everything: what can be done at once is done, what would have to wait
//! fails. docs/CANCELLATION.md has the rules as users see them.

use std::any::Any;
use std::io;
use std::panic::resume_unwind;
use std::thread::panicking;
use std::time::{Duration, Instant};

use super::current::CurrentTask;
use super::extra::{ActiveTimeout, Stuck};
use super::label::TaskLabel;
use super::worker::Worker;
use crate::driver::Direction;
use crate::switch::SwitchReason;
use crate::sys::errno;
use crate::sys::report::report;
use crate::sys::unwind;
use crate::task::provisional_id::TaskRequest;
use crate::task::{Addr, Flags, JoinError, TaskState};

/// The payload of an unwind by cancellation. The panic hook never sees it.
struct CancelPayload(OurUnwind);

/// The payload of an unwind by a deadline: which one.
pub(crate) struct Late(pub(crate) Instant, OurUnwind);

/// Part of a payload of ours: while there is one its coroutine knows that no panic
/// unwinds it.
pub(crate) struct OurUnwind(());

impl OurUnwind {
    fn begin(cx: CurrentTask) -> Self {
        cx.set_unwound_by_us(true);
        Self(())
    }
}

impl Drop for OurUnwind {
    fn drop(&mut self) {
        // None: the payload has come to the end of its coroutine.
        if let Some(cx) = CurrentTask::running() {
            cx.set_unwound_by_us(false);
        }
    }
}

/// How many failed waits an ending coroutine may ignore.
pub(super) const PATIENCE: u32 = 10_000;

/// How long a wait that nothing can end goes on before a report says so.
pub(crate) const WARN_AFTER: Duration = Duration::from_secs(1);

/// Why waits fail.
#[derive(Clone, Copy)]
enum Ending {
    Cancelled,
    Late(Instant),
    /// By a token: only those that read.
    Asked,
}

/// Whether it is a cancellation or a deadline that unwinds, and no panic.
pub(crate) fn is_ours(payload: &(dyn Any + Send)) -> bool {
    payload.is::<CancelPayload>() || payload.is::<Late>()
}

/// Why a coroutine has no result, from what it unwound with.
pub(crate) fn why_unwound(payload: Box<dyn Any + Send>) -> JoinError {
    if payload.is::<CancelPayload>() {
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

impl CurrentTask {
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
        self.check_for(Direction::Write)
    }

    /// [`CurrentTask::check`] for a call that reads, or one that writes: the former fails
    /// with `ECANCELED` as well if the coroutine is asked to end.
    #[inline(always)]
    pub(crate) fn check_for(self, direction: Direction) -> io::Result<()> {
        if self.may_be_ending() {
            self.check_closely(direction)
        } else {
            Ok(())
        }
    }

    /// Whether [`CurrentTask::check`] looks closely.
    #[inline(always)]
    pub(crate) fn may_be_ending(self) -> bool {
        self.slot().has(Flags::ENDING)
    }

    /// [`CurrentTask::check`] where the next step is to park, which no coroutine may while it
    /// unwinds (it would show its panic count to all others on this thread), and
    /// no signal handler on its own stack. `EINTR`, once, if it was interrupted.
    pub(crate) fn check_parkable(self) -> io::Result<()> {
        self.check_parkable_for(Direction::Write)
    }

    /// [`CurrentTask::check_parkable`] for a call that reads, or one that writes.
    #[inline(always)]
    pub(crate) fn check_parkable_for(self, direction: Direction) -> io::Result<()> {
        if !self.may_park() {
            return Err(io::Error::from_raw_os_error(errno::ECANCELED));
        }
        if !self.on_own_stack() {
            return Err(io::Error::from_raw_os_error(errno::EDEADLK));
        }
        if !self.may_be_ending() {
            return Ok(());
        }
        self.check_closely(direction)?;
        match self.take_interruption() {
            true => Err(io::Error::from_raw_os_error(errno::EINTR)),
            false => Ok(()),
        }
    }

    /// For our own waits: unwinds if the coroutine is ending. `true`: it is, but a
    /// function that C has called lies between, so the wait is to go on
    /// ([`CurrentTask::park_stuck`]).
    #[inline(always)]
    pub(crate) fn unwind_if_ending(self) -> bool {
        self.may_be_ending() && self.unwind_closely()
    }

    /// As [`CurrentTask::unwind_if_ending`], for waits that are over.
    #[inline(always)]
    pub(crate) fn unwind_or_return(self) {
        self.unwind_if_ending();
        self.returns_early();
    }

    /// For waits that may return with nothing: whether this one has to, in a program
    /// that aborts on panics, since a deadline has passed.
    #[inline(always)]
    pub(crate) fn returns_early(self) -> bool {
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
        self.change_limits(|extra| extra.timeout = timeout);
    }

    /// Parks until woken, whatever else: for what must not end early.
    pub(crate) fn park_regardless(self) {
        self.suspend(SwitchReason::Parked);
    }

    /// Whether the coroutine is ending; counts no refusal.
    pub(crate) fn is_ending(self) -> bool {
        self.ending().is_some()
    }

    /// Goes on with an unwind that was caught; where C is next the coroutine is
    /// abandoned.
    pub(crate) fn unwind_on(self, payload: Box<dyn Any + Send>) -> ! {
        if is_ours(&*payload) && !unwind::is_caught() {
            self.abandon();
        }
        resume_unwind(payload)
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
    fn check_closely(self, direction: Direction) -> io::Result<()> {
        if panicking() || !self.on_own_stack() {
            return Ok(());
        }
        let reads = direction == Direction::Read;
        let asked = || (reads && self.is_asked()).then_some(Ending::Asked);
        let Some(ending) = self.ending().or_else(asked) else {
            return Ok(());
        };
        self.count_refusal(ending);
        let code = match ending {
            Ending::Cancelled | Ending::Asked => errno::ECANCELED,
            Ending::Late(_) => errno::ETIME,
        };
        Err(io::Error::from_raw_os_error(code))
    }

    #[cold]
    fn unwind_closely(self) -> bool {
        // A second unwind out of a destructor would abort; if this one has to
        // wait, `suspend` aborts and says why. Nor may destructors of
        // thread-locals unwind: there nothing ends a wait early.
        if panicking() || self.ends_own_tls() {
            return false;
        }
        let Some(ending) = self.ending() else {
            return false;
        };
        // A program built to abort on panics can't unwind: what is cancelled is
        // left where it is. A deadline ends the waits that may return with
        // nothing (`returns_early`); the others go on (`park_for_output`).
        if cfg!(panic = "abort") {
            return match ending {
                Ending::Cancelled => self.abandon(),
                Ending::Late(_) | Ending::Asked => false,
            };
        }
        if !unwind::is_caught() {
            return true;
        }
        self.count_refusal(ending);
        let ours = OurUnwind::begin(self);
        match ending {
            Ending::Cancelled | Ending::Asked => resume_unwind(Box::new(CancelPayload(ours))),
            Ending::Late(deadline) => resume_unwind(Box::new(Late(deadline, ours))),
        }
    }

    /// Parks, where the coroutine is to end and nothing can unwind; until `deadline`
    /// at the latest. It is reported after a second, once.
    #[cold]
    pub(crate) fn park_stuck(self, deadline: Option<Instant>) {
        let stuck = || self.worker().with_extra(self.slot(), |extra| extra.stuck);
        let set = |stuck| {
            self.worker()
                .with_extra(self.slot(), |extra| extra.stuck = stuck)
        };
        if let Stuck::Not = stuck() {
            set(Stuck::Until(Instant::now() + WARN_AFTER));
        }
        let warn_at = match stuck() {
            Stuck::Until(at) => Some(at),
            Stuck::Not | Stuck::Reported => None,
        };
        self.park_regardless_until(warn_at.into_iter().chain(deadline).min());
        if warn_at.is_some_and(|at| Instant::now() >= at) {
            set(Stuck::Reported);
            let label = TaskLabel::of(self);
            report(format_args!(
                "{label} is to end, and waits below a function that C has called (a callback, \
                 `extern \"C\"`), through which nothing can unwind; it ends when C has \
                 returned. Let callbacks wait with a limit, or put catch_unwind around their \
                 waits."
            ));
        }
    }

    fn count_refusal(self, ending: Ending) {
        let refusals = self.worker().with_extra(self.slot(), |extra| {
            let count = match ending {
                Ending::Late(_) => &mut extra.timeout.refusals,
                Ending::Cancelled | Ending::Asked => &mut extra.refusals,
            };
            *count += 1;
            *count
        });
        let mut reason = SwitchReason::Yielded;
        if refusals > PATIENCE {
            match ending {
                Ending::Cancelled => reason = SwitchReason::Abandoned,
                Ending::Late(_) => self.cancel_for_ignoring("a timeout had failed"),
                Ending::Asked => self.cancel_for_ignoring("its token had ended"),
            }
        }
        // The others get their turn between the refusals.
        self.suspend(reason);
    }

    #[cold]
    fn cancel_for_ignoring(self, what: &str) {
        let label = TaskLabel::of(self);
        report(format_args!(
            "{label} went on after {what} {PATIENCE} of its waits; it is cancelled"
        ));
        debug_assert_eq!(self.slot().state(), TaskState::Running);
        self.slot().set(Flags::CANCELLED);
        // From here on they count towards its being abandoned.
        self.worker()
            .with_extra(self.slot(), |extra| extra.refusals = 0);
    }
}
