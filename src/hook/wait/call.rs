//! The frame of a hooked call: whether it is a coroutine's, and how its answer
//! becomes C's (a result and errno).

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use crate::driver::Direction;
use crate::helpers;
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, answer_c, errno};

/// The coroutine that this code runs in and may suspend. None: do as libc.
#[inline(always)]
pub(crate) fn in_coroutine() -> Option<Cx> {
    Cx::current()
}

/// [`in_coroutine`] for calls that are about time and not about a descriptor:
/// None while unwinding (I10), when a coroutine can't park, and to signal handlers
/// on a stack of their own (I13).
#[inline(always)]
pub(crate) fn may_park() -> Option<Cx> {
    in_coroutine().filter(|cx| Cx::parkable().is_some() && cx.is_at_home())
}

/// What a C function returns: `int` or `ssize_t`.
pub(crate) trait Returned {
    fn of(answer: isize) -> Self;
}

impl Returned for c_int {
    #[inline(always)]
    fn of(answer: isize) -> Self {
        answer as c_int
    }
}

impl Returned for isize {
    #[inline(always)]
    fn of(answer: isize) -> Self {
        answer
    }
}

/// Runs a hooked call in a coroutine and returns as C does.
///
/// A cancelled coroutine gets `ECANCELED` from every call, ready or not. A
/// call that did not wait counts against the fairness budget: a coroutine
/// whose calls never wait yields now and then.
#[inline(always)]
pub(crate) fn cancellable<R: Returned>(cx: Cx, call: impl FnOnce() -> Answer) -> R {
    let saved = errno();
    R::of(finish(checked(cx, call), saved))
}

/// [`cancellable`], before the answer is made C's.
#[inline(always)]
pub(crate) fn checked(cx: Cx, call: impl FnOnce() -> Answer) -> Answer {
    match cx.check() {
        Ok(()) => {
            let answer = call();
            cx.spend();
            answer
        }
        Err(error) => Err(code(error)),
    }
}

/// [`cancellable`] for calls on files. They neither yield nor fail by
/// cancellation: loggers write to their files under a lock and count on it that no
/// other coroutine runs, and what is cancelled may still save its data.
pub(crate) fn uncancellable<R: Returned>(call: impl FnOnce() -> Answer) -> R {
    let saved = errno();
    R::of(finish(call(), saved))
}

/// Returns as C does. What the scheduler tells apart (the caller's own time
/// limit, which each call reports in its way, and that of a
/// [`timeout`](crate::timeout) around it) is one error to the caller.
#[inline]
pub(crate) fn finish(answer: Answer, saved: Errno) -> isize {
    match answer {
        Err(libc::ETIME) => answer_c(Err(libc::ETIMEDOUT), saved),
        answer => answer_c(answer, saved),
    }
}

/// The error number of what the scheduler says.
pub(crate) fn code(error: io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Parks until a descriptor may be ready, of which the kernel has just said that
/// it is not.
///
/// # Errors
///
/// Those of [`Cx::wait`].
pub(crate) fn park_until_ready(
    cx: Cx,
    fd: RawFd,
    dir: Direction,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    cx.clear_readiness(fd, dir);
    cx.wait(fd, dir, deadline).map_err(code)
}

/// Runs a job on a helper thread; the coroutine waits, also if it is
/// cancelled. The job may take its time, but must not wait for another coroutine,
/// thread or process, and works on memory of its own (I8).
pub(crate) fn on_helper<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> Result<T, Errno> + Send + 'static,
) -> Result<T, Errno> {
    // There is no thread for it, and no memory for one.
    helpers::run_to_end(cx, job).unwrap_or(Err(libc::ENOMEM))
}
