//! Backoff polling: asks again and again for what no event tells, less and less
//! often.
//!
//! For a full Unix backlog, locks on files, the other end of a FIFO, children
//! whose number is not known, and threads. No helper thread stands by: any number
//! of coroutines may wait, and any of them may be cancelled.

use std::time::{Duration, Instant};

use crate::hook::wait::call::code;
use crate::hook::wait::clock::after;
use crate::hook::wait::interrupt::{self, Verdict};
use crate::sched::CurrentTask;
use crate::sys::syscall::{Errno, sys};

const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);

/// The pauses of one call: each twice as long as the one before.
pub(crate) struct Backoff {
    next: Duration,
    /// Whether the call goes on after handlers that let it (`SA_RESTART`).
    restarts: bool,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            next: SHORTEST,
            restarts: true,
        }
    }

    /// Of a call that any handler ends.
    pub(crate) fn unrestarted() -> Self {
        Self {
            restarts: false,
            ..Self::new()
        }
    }

    /// Sleeps for a while, but not beyond `deadline`.
    ///
    /// # Errors
    ///
    /// `ECANCELED`; `ETIMEDOUT` when the deadline has come; `EINTR` by a handler.
    pub(crate) fn pause(
        &mut self,
        cx: CurrentTask,
        deadline: Option<Instant>,
    ) -> Result<(), Errno> {
        let step = self.step();
        match sleep_for(cx, step, deadline) {
            Err(libc::EINTR) if self.restarts => interrupt::go_on(),
            Err(libc::EINTR) if interrupt::settle() == Verdict::Nothing => Ok(()),
            slept => slept,
        }
    }

    /// As [`Backoff::pause`], but neither a cancellation nor a `timeout` around this
    /// ends it: for callers that take an error for a bug of theirs.
    pub(crate) fn pause_regardless(&mut self, cx: CurrentTask, deadline: Option<Instant>) {
        let until = after(self.step());
        cx.park_regardless_until(Some(deadline.map_or(until, |at| at.min(until))));
    }

    /// Blocks the thread for a while, but not beyond `until`: where no coroutine may
    /// park.
    #[cold]
    pub(crate) fn block(&mut self, until: Option<Instant>) {
        let step = self.step();
        let left = until.map_or(step, |at| at.saturating_duration_since(Instant::now()));
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: step.min(left).subsec_nanos().into(),
        };
        // SAFETY: a live time. A signal makes it shorter.
        let _ = unsafe { sys!(SYS_nanosleep, &raw const time, 0) };
    }

    fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step
    }

    /// Asks until there is an answer, pausing before each question but the first.
    ///
    /// # Errors
    ///
    /// `ECANCELED`, and what `ask` says.
    pub(crate) fn until<T>(
        &mut self,
        cx: CurrentTask,
        ask: impl FnMut() -> Result<Option<T>, Errno>,
    ) -> Result<T, Errno> {
        self.until_deadline(cx, None, ask)
    }

    /// As [`Backoff::until`], but not beyond `deadline`, at which it asks for the last
    /// time.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`, `ECANCELED`, and what `ask` says.
    pub(crate) fn until_deadline<T>(
        &mut self,
        cx: CurrentTask,
        deadline: Option<Instant>,
        mut ask: impl FnMut() -> Result<Option<T>, Errno>,
    ) -> Result<T, Errno> {
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            match self.pause(cx, deadline) {
                Err(libc::ETIMEDOUT) => return ask()?.ok_or(libc::ETIMEDOUT),
                paused => paused?,
            }
        }
    }
}

/// Sleeps for `time`, but not beyond `deadline`.
///
/// # Errors
///
/// `ECANCELED`, `EINTR`; `ETIMEDOUT` when the deadline has come.
pub(crate) fn sleep_for(
    cx: CurrentTask,
    time: Duration,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    let until = after(time);
    match deadline.filter(|&at| at <= until) {
        Some(at) => sleep_until(cx, at).and(Err(libc::ETIMEDOUT)),
        None => sleep_until(cx, until),
    }
}

/// Sleeps.
///
/// # Errors
///
/// `ECANCELED`; `ETIME` if a `timeout` around this ends first.
pub(crate) fn sleep_until(cx: CurrentTask, until: Instant) -> Result<(), Errno> {
    cx.sleep_until(until).map_err(code)
}
