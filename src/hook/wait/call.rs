//! The frame of a hooked call: whether it is a coroutine's, and how its answer
//! becomes C's (a result and errno).

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

use crate::driver::Direction;
use crate::helpers;
use crate::hook::wait::{broken, interrupt};
use crate::sched::CurrentTask;
use crate::sys::fd::table::Meaning;
use crate::sys::mem::PAGE;
#[cfg(not(target_feature = "crt-static"))]
use crate::sys::signal_mask::SignalMask;
#[cfg(feature = "sim")]
use crate::sys::simulated;
use crate::sys::syscall::{Answer, Errno, answer_c, errno};

/// The coroutine that this code runs in and may suspend. None: do as libc.
#[inline(always)]
pub(crate) fn in_coroutine() -> Option<CurrentTask> {
    let cx = CurrentTask::current()?;
    #[cfg(feature = "sim")]
    if simulated::world().is_some_and(|world| world.preempts()) {
        cx.spend_for(u32::MAX);
    }
    Some(cx)
}

/// [`in_coroutine`] for calls that are about time and not about a descriptor:
/// None while unwinding (I10), when a coroutine can't park, and to signal handlers
/// on a stack of their own (I13).
#[inline(always)]
pub(crate) fn may_park() -> Option<CurrentTask> {
    in_coroutine().filter(|cx| CurrentTask::parkable().is_some() && cx.on_own_stack())
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
pub(crate) fn cancellable<R: Returned>(cx: CurrentTask, call: impl FnOnce() -> Answer) -> R {
    cancellable_on(cx, On::Nothing, call)
}

/// [`cancellable`] for a call on a descriptor that its caller may have made
/// non-blocking: then it is no wait. `broken.rs` has what it says.
#[inline(always)]
pub(crate) fn cancellable_on<R: Returned>(
    cx: CurrentTask,
    on: On,
    call: impl FnOnce() -> Answer,
) -> R {
    let saved = errno();
    R::of(finish(checked(cx, on, call), saved))
}

/// What a call is made on, and whether it may wait.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// This descriptor; it waits unless that is non-blocking.
    Fd(RawFd, Direction),
    /// The same, with `MSG_…` flags.
    Socket(RawFd, Direction, c_int),
    /// A socket that is to be connected; the same.
    Connection(RawFd),
    /// No descriptor; it waits.
    Nothing,
}

/// [`cancellable_on`], before the answer is made C's.
#[inline(always)]
pub(crate) fn checked(cx: CurrentTask, on: On, call: impl FnOnce() -> Answer) -> Answer {
    if cx.may_be_ending() {
        interrupt::before(cx);
        // The match is over what the compiler knows: nothing of it is made before.
        match on {
            On::Fd(fd, dir) => broken::refuse(cx, (fd, dir), false),
            On::Socket(fd, dir, flags) => {
                broken::refuse(cx, (fd, dir), flags & libc::MSG_DONTWAIT != 0)
            }
            On::Connection(fd) => broken::refuse(cx, (fd, Direction::Write), false),
            On::Nothing => cx.check().map_err(code),
        }?;
    }
    #[cfg(feature = "sim")]
    refused_in_simulation(on)?;
    let answer = call();
    // Bytes take their time, too: a page as long as a call.
    cx.spend_for(1 + answer.map_or(0, |bytes| (bytes / PAGE) as u32));
    answer
}

/// What a simulation says of a call before it is made. (Of connecting it does so when that
/// has begun.)
#[cfg(feature = "sim")]
#[inline(never)]
fn refused_in_simulation(on: On) -> Result<(), Errno> {
    match (simulated::world(), on) {
        (Some(world), On::Fd(fd, _)) => world.refuses(fd, false),
        (Some(world), On::Socket(fd, _, flags)) => {
            world.refuses(fd, flags & libc::MSG_DONTWAIT != 0)
        }
        _ => Ok(()),
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
        Err(libc::EINTR) => {
            interrupt::after();
            answer_c(Err(libc::EINTR), saved)
        }
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
/// Those of [`CurrentTask::wait`]; `EINTR` by a handler that lets no call go on.
pub(crate) fn park_until_ready(
    cx: CurrentTask,
    fd: RawFd,
    dir: Direction,
    deadline: Option<Instant>,
) -> Result<(), Errno> {
    cx.clear_readiness(fd, dir);
    loop {
        match cx.wait(fd, dir, deadline).map_err(code) {
            Err(libc::EINTR) => interrupt::go_on()?,
            waited => return waited,
        }
    }
}

/// Runs a job on descriptors on a helper thread; the coroutine waits, also if it is
/// cancelled. The job may take its time, but must not wait for another coroutine,
/// thread or process, and works on memory of its own or on [`Lent`] one (I8).
///
/// [`Lent`]: crate::hook::wait::lent::Lent
///
/// # Errors
///
/// `EBADF`, without the job, if a number has been closed before its turn came: it may
/// mean another file. (No duplicate holds the file: to close any ends the process's
/// locks on it.)
pub(crate) fn on_helper<T: Send + 'static, const N: usize>(
    cx: CurrentTask,
    fds: [Meaning; N],
    job: impl FnOnce() -> Result<T, Errno> + Send + 'static,
) -> Result<T, Errno> {
    let job = move || {
        if !fds.into_iter().all(Meaning::holds) {
            return Err(libc::EBADF);
        }
        job()
    };
    // There is no thread for it, and no memory for one.
    helpers::run_to_end(cx, job).unwrap_or(Err(libc::ENOMEM))
}

/// Makes a call of libc's that waits for another process, thread or device on a helper
/// thread, one for each such call: libc's own code says when it is over, and there is
/// no question to ask instead. The call has the caller's signal mask, which children
/// inherit. It goes on if the coroutine is cancelled, unless that waits `to_end`.
///
/// # Errors
///
/// The call's own; `ECANCELED`.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn on_waiting_thread(
    cx: CurrentTask,
    to_end: bool,
    call: impl FnOnce() -> c_int + Send + 'static,
) -> Answer {
    let callers = SignalMask::current();
    let job = move || {
        let ours = callers.replace();
        let answer = usize::try_from(call()).map_err(|_| errno());
        ours.replace();
        answer
    };
    let done = helpers::run_that_waits(cx, job, to_end);
    done.unwrap_or_else(|error| Err(error.raw_os_error().unwrap_or(libc::EAGAIN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_helper_leaves_a_number_alone_that_was_closed_before_its_turn() {
        crate::run(|| {
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            let cx = in_coroutine().unwrap();
            let meant = [Meaning::of(file.as_raw_fd())];
            assert_eq!(on_helper(cx, meant, || Ok(1)), Ok(1));
            let number = file.as_raw_fd();
            drop(file);
            let begun = [Meaning::of(number)];
            let acts = || -> Result<(), Errno> { panic!("on another file") };
            assert_eq!(on_helper(cx, meant, acts), Err(libc::EBADF));
            assert_eq!(on_helper(cx, begun, || Ok(2)), Ok(2));
        })
        .unwrap();
    }
}
