//! Waiting for what gives no sign: ask, pause, ask again, less and less often.
//!
//! For a full Unix backlog, for locks on files, the other end of a FIFO,
//! children whose number is not known, and threads. No helper thread stands
//! by: any number may wait, and any may be cancelled.

use std::time::{Duration, Instant};

use crate::hook::wait::retry::after;
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno};

const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);

/// See the [module](self).
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// Sleeps for a while, but not beyond `deadline`.
    ///
    /// # Errors
    ///
    /// `ECANCELED`; `ETIMEDOUT` when the deadline has come.
    pub(crate) fn pause(&mut self, cx: Cx, deadline: Option<Instant>) -> Result<(), Errno> {
        let until = after(self.next);
        self.next = (self.next * 2).min(LONGEST);
        match deadline.filter(|&at| at <= until) {
            Some(at) => pause_until(cx, at).and(Err(libc::ETIMEDOUT)),
            None => pause_until(cx, until),
        }
    }
}

/// Asks until the answer is another than `busy`.
pub(crate) fn until_other(cx: Cx, busy: Answer, mut ask: impl FnMut() -> Answer) -> Answer {
    let mut pauses = Pauses::new();
    loop {
        let answer = ask();
        if answer != busy {
            return answer;
        }
        pauses.pause(cx, None)?;
    }
}

/// Sleeps.
///
/// # Errors
///
/// `ECANCELED`.
pub(crate) fn pause_until(cx: Cx, until: Instant) -> Result<(), Errno> {
    cx.sleep_until(until)
        .map_err(|error| error.raw_os_error().unwrap_or(libc::ECANCELED))
}
