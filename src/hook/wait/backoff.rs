//! Backoff polling: asks again and again for what no event tells, less and less
//! often.
//!
//! For a full Unix backlog, locks on files, the other end of a FIFO, children
//! whose number is not known, and threads. No helper thread stands by: any number
//! of coroutines may wait, and any of them may be cancelled.

use std::time::{Duration, Instant};

use crate::hook::wait::call::code;
use crate::hook::wait::clock::after;
use crate::sched::Cx;
use crate::sys::syscall::Errno;

const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);

/// The pauses of one call: each twice as long as the one before.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// Sleeps for a while, but not beyond `deadline`.
    ///
    /// # Errors
    ///
    /// `ECANCELED`; `ETIMEDOUT` when the deadline has come.
    pub(crate) fn pause(&mut self, cx: Cx, deadline: Option<Instant>) -> Result<(), Errno> {
        let step = self.step();
        sleep_for(cx, step, deadline)
    }

    /// As [`Backoff::pause`], but neither a cancellation nor a `timeout` around this
    /// ends it: for callers that take an error for a bug of theirs.
    pub(crate) fn pause_regardless(&mut self, cx: Cx, deadline: Option<Instant>) {
        let until = after(self.step());
        cx.park_regardless_until(Some(deadline.map_or(until, |at| at.min(until))));
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
        cx: Cx,
        mut ask: impl FnMut() -> Result<Option<T>, Errno>,
    ) -> Result<T, Errno> {
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            self.pause(cx, None)?;
        }
    }
}

/// Sleeps for `time`, but not beyond `deadline`.
///
/// # Errors
///
/// `ECANCELED`; `ETIMEDOUT` when the deadline has come.
pub(crate) fn sleep_for(cx: Cx, time: Duration, deadline: Option<Instant>) -> Result<(), Errno> {
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
pub(crate) fn sleep_until(cx: Cx, until: Instant) -> Result<(), Errno> {
    cx.sleep_until(until).map_err(code)
}
