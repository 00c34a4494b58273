//! Event loops of others, in a coroutine that is to end.
//!
//! tokio, libuv, glib and the like take any error of `epoll_wait`, `poll` or
//! `select` for a bug: they panic or abort. The kernel has none that would say
//! "cancelled". So these calls wait on, whatever becomes of the coroutine, and a
//! report names it after a second. But its connections end, as they do when the
//! network fails: they are said to be ready, and the call that is made then says
//! that they are broken (`wait/broken.rs`). What the loop was waiting for, an answer
//! to a query for one, so ends with an error that its library knows.
//!
//! Ready is all that is said: to somebody else's loop, with which this one may
//! share its sockets, that is a spurious wake-up, which the kernel also has.

use std::time::{Duration, Instant};

use crate::hook::poll::wait_set::WaitSet;
use crate::hook::wait::backoff::Backoff;
pub(super) use crate::hook::wait::broken::is_connection;
use crate::hook::wait::call;
use crate::hook::wait::clock::after;
use crate::hook::wait::interrupt::{self, Verdict};
use crate::hook::wait::slow_wait::{Lasting, SlowWait};
use crate::sched::CurrentTask;
use crate::sys::syscall::Answer;

/// A loop that goes on although its connections are broken hears of it so often.
const TELL_EVERY: Duration = Duration::from_millis(10);

/// The coroutine that waits in these calls. None: as libc does, and signal
/// handlers on a stack of their own, which no coroutine may leave (I13).
#[inline(always)]
pub(super) fn in_coroutine() -> Option<CurrentTask> {
    let cx = call::in_coroutine().filter(|cx| cx.on_own_stack())?;
    if cx.may_be_ending() {
        interrupt::before(cx);
    }
    Some(cx)
}

/// One wait of an event loop.
pub(super) struct EventLoop {
    cx: CurrentTask,
    /// The function that it waits in.
    call: &'static str,
}

impl EventLoop {
    #[inline(always)]
    pub(super) fn new(cx: CurrentTask, call: &'static str) -> Self {
        Self { cx, call }
    }

    pub(super) fn cx(&self) -> CurrentTask {
        self.cx
    }

    /// Asks for the first time: until when to wait, or (`Err`) the answer.
    #[inline]
    pub(super) fn first(
        &self,
        limit: Option<Duration>,
        ask: &mut impl FnMut() -> Answer,
    ) -> Result<Option<Instant>, Answer> {
        match ask() {
            Ok(0) if limit != Some(Duration::ZERO) => Ok(limit.map(after)),
            answer => {
                self.cx.spend();
                Err(answer)
            }
        }
    }

    /// Parks and asks until there is an answer. `broken` makes the answer that all
    /// connections are ready, and says how many there are.
    pub(super) fn wait(
        &self,
        waits: &WaitSet,
        deadline: Option<Instant>,
        mut ask: impl FnMut() -> Answer,
        mut broken: impl FnMut() -> usize,
    ) -> Answer {
        let cx = self.cx;
        let mut slow_wait = SlowWait::new(Lasting::Events(self.call));
        let mut tell_at = slow_wait.check(cx).then(|| after(TELL_EVERY));
        let mut backoff = Backoff::new();
        loop {
            if matches!(interrupt::taken(cx), Some(verdict) if verdict != Verdict::Nothing) {
                return Err(libc::EINTR);
            }
            let until = [deadline, slow_wait.next(cx), tell_at];
            let until = until.into_iter().flatten().min();
            if cx.may_wait_on() {
                waits.park(cx, until);
            } else {
                backoff.block(until);
            }
            match ask() {
                Ok(0) => cx.spend(),
                answer => return answer,
            }
            if slow_wait.check(cx) {
                match broken() {
                    0 => tell_at = None,
                    broken => return Ok(broken),
                }
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(0);
            }
        }
    }
}
