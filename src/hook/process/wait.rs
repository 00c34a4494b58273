//! Child processes: `wait`, `waitpid`, `wait3`, `wait4`, `waitid`.
//!
//! One child is waited for through a pidfd, which epoll watches; the kernel is
//! asked with `WNOHANG` before and after, so another thread may reap the child, and
//! the result is the kernel's as ever. Any child, a group, and stops give nothing
//! to watch: they are asked for again, up to every 10 ms.

use std::ffi::{c_int, c_uint};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{id_t, idtype_t, pid_t, rusage, siginfo_t};

use crate::driver::Direction;
use crate::hook::fd::lifecycle;
use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, in_coroutine, park_until_ready, uncancellable};
use crate::sched::CurrentTask;
use crate::sys::syscall::{Answer, Errno, sys};

hook!(
    unsafe extern "C-unwind" fn wait(status: *mut c_int) -> pid_t {
        // SAFETY: the caller's place.
        unsafe { waitpid(-1, status, 0) }
    }
);

hook!(
    next_or(SYS_wait4),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
        // SAFETY: the caller's place.
        unsafe { wait4_in_coroutine(cx, pid, status, options, std::ptr::null_mut()) }
    }
);

hook!(
    unsafe extern "C-unwind" fn wait3(
        status: *mut c_int,
        options: c_int,
        usage: *mut rusage,
    ) -> pid_t {
        // SAFETY: the caller's places.
        unsafe { wait4(-1, status, options, usage) }
    }
);

hook!(
    next_or(SYS_wait4),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn wait4(
        pid: pid_t,
        status: *mut c_int,
        options: c_int,
        usage: *mut rusage,
    ) -> pid_t {
        // SAFETY: the caller's places.
        unsafe { wait4_in_coroutine(cx, pid, status, options, usage) }
    }
);

/// # Safety
///
/// - As for `wait4`.
unsafe fn wait4_in_coroutine(
    cx: CurrentTask,
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: the caller's places, for every call.
    let ask = || unsafe { sys!(SYS_wait4, pid, status, options | libc::WNOHANG, usage) };
    if options & libc::WNOHANG != 0 {
        cx.spend();
        return uncancellable(ask);
    }
    cancellable(cx, || {
        let one = pid > 0 && options & (libc::WUNTRACED | libc::WCONTINUED) == 0;
        until_some(
            cx,
            if one {
                AwaitedChild::Pid(pid)
            } else {
                AwaitedChild::Any
            },
            || ask().map(|reaped| (reaped != 0).then_some(reaped)),
        )
    })
}

hook!(
    next_or(SYS_waitid),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn waitid(
        kind: idtype_t,
        id: id_t,
        info: *mut siginfo_t,
        options: c_int,
    ) -> c_int {
        if options & libc::WNOHANG != 0 {
            cx.spend();
            // SAFETY: the caller's place.
            return uncancellable(|| unsafe { sys!(SYS_waitid, kind, id, info, options, 0) });
        }
        cancellable(cx, || {
            // SAFETY: zeros are a valid one, and mean "no child".
            let mut ours: siginfo_t = unsafe { std::mem::zeroed() };
            let child = match kind {
                _ if options & (libc::WSTOPPED | libc::WCONTINUED) != 0 => AwaitedChild::Any,
                libc::P_PID => AwaitedChild::Pid(id as pid_t),
                libc::P_PIDFD => AwaitedChild::PidFd(id as RawFd),
                _ => AwaitedChild::Any,
            };
            let answer = until_some(cx, child, || {
                // SAFETY: our own place.
                let result = unsafe {
                    sys!(
                        SYS_waitid,
                        kind,
                        id,
                        &raw mut ours,
                        options | libc::WNOHANG,
                        0
                    )
                };
                // SAFETY: of a child, or all zero.
                result.map(|_| (unsafe { ours.si_pid() } != 0).then_some(0))
            })?;
            if !info.is_null() {
                // SAFETY: the caller's place.
                unsafe { info.write(ours) };
            }
            Ok(answer)
        })
    }
);

/// The child that is waited for.
enum AwaitedChild {
    Pid(pid_t),
    PidFd(RawFd),
    /// Nothing that can be watched.
    Any,
}

/// Asks until there is a child to report.
fn until_some(
    cx: CurrentTask,
    child: AwaitedChild,
    mut ask: impl FnMut() -> Result<Option<usize>, Errno>,
) -> Answer {
    if let Some(found) = ask()? {
        return Ok(found);
    }
    let opened;
    let pidfd = match child {
        AwaitedChild::Pid(pid) => {
            opened = open_pidfd(pid);
            opened.as_ref().map(AsRawFd::as_raw_fd)
        }
        AwaitedChild::PidFd(fd) => Some(fd),
        AwaitedChild::Any => None,
    };
    if let Some(fd) = pidfd {
        let parked = park_until_ready(cx, fd, Direction::Read, None);
        if let Err(code @ (libc::ECANCELED | libc::EINTR)) = parked {
            return Err(code);
        }
        // It has ended; or it can't be watched, so it is asked for.
    }
    Backoff::new().until(cx, ask)
}

/// `None`: no such process any more, an old kernel, or no descriptor left.
fn open_pidfd(pid: pid_t) -> Option<OwnedFd> {
    const NO_FLAGS: c_uint = 0;
    // SAFETY: no pointers.
    let fd = unsafe { sys!(SYS_pidfd_open, pid, NO_FLAGS) }.ok()?;
    // SAFETY: made just now. Dropping it goes through our `close`.
    Some(unsafe { OwnedFd::from_raw_fd(lifecycle::opened(fd as RawFd)) })
}
