//! `epoll_wait`, `epoll_pwait`, `epoll_pwait2`: another runtime's event loop,
//! inside a coroutine.
//!
//! Asked without waiting; if there is nothing, the coroutine parks until the
//! epoll itself is readable, and asks again. Our own reactor waits on the
//! worker's stack, where no coroutine runs, and so passes straight through.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use libc::{epoll_event, sigset_t, timespec};

use crate::driver::Direction;
use crate::hook::libc::hook;
use crate::hook::poll::{few_millis, let_signals_in, lets_signals_in};
use crate::hook::wait::call::{cancellable, in_coroutine, park_until_ready};
use crate::hook::wait::clock::{self, after};
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, KERNEL_SIGSET_BYTES, sys};

hook!(
    next_or(sys!(
        SYS_epoll_pwait,
        epoll,
        events,
        most,
        timeout,
        0,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn epoll_wait(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        timeout: c_int,
    ) -> c_int {
        let (limit, no_mask) = (millis(timeout), std::ptr::null());
        // SAFETY: the caller's place for events.
        cancellable(cx, || unsafe {
            wait_in_coroutine(cx, epoll, events, most, limit, no_mask)
        })
    }
);

hook!(
    next_or(sys!(
        SYS_epoll_pwait,
        epoll,
        events,
        most,
        timeout,
        mask,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    /// The mask holds while the kernel is asked, not while parked; as for `ppoll`.
    unsafe extern "C" fn epoll_pwait(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        timeout: c_int,
        mask: *const sigset_t,
    ) -> c_int {
        let limit = millis(timeout);
        // SAFETY: the caller's place for events, and mask.
        cancellable(cx, || unsafe {
            wait_in_coroutine(cx, epoll, events, most, limit, mask)
        })
    }
);

hook!(
    next_or(sys!(
        SYS_epoll_pwait2,
        epoll,
        events,
        most,
        limit,
        mask,
        KERNEL_SIGSET_BYTES
    )),
    Some(cx) = in_coroutine(),
    /// As [`epoll_pwait`].
    unsafe extern "C" fn epoll_pwait2(
        epoll: c_int,
        events: *mut epoll_event,
        most: c_int,
        limit: *const timespec,
        mask: *const sigset_t,
    ) -> c_int {
        // SAFETY: the caller's time, place for events, and mask.
        cancellable(cx, || unsafe {
            wait_in_coroutine(cx, epoll, events, most, clock::limit(limit)?, mask)
        })
    }
);

/// Negative: no limit.
fn millis(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

/// # Safety
///
/// - As for `epoll_pwait`.
unsafe fn wait_in_coroutine(
    cx: Cx,
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    limit: Option<Duration>,
    mask: *const sigset_t,
) -> Answer {
    // SAFETY: the caller's place for events, and mask, for every call.
    let ask = || unsafe {
        sys!(
            SYS_epoll_pwait,
            epoll,
            events,
            most,
            0,
            mask,
            KERNEL_SIGSET_BYTES
        )
    };
    let deadline = limit.map(after);
    // SAFETY: the caller's mask.
    let signals = unsafe { lets_signals_in(mask) };
    loop {
        let answer = ask();
        if answer != Ok(0) || limit == Some(Duration::ZERO) {
            return answer;
        }
        if signals {
            // `epoll_pwait` itself does not, when it may not wait.
            // SAFETY: the caller's mask.
            unsafe { let_signals_in(mask) }?;
        }
        match park(cx, epoll, deadline, signals) {
            Ok(()) => cx.spend(),
            Err(libc::ETIMEDOUT) => return ask(),
            Err(code) => return Err(code),
        }
    }
}

/// Parks until the epoll may have something; with `signals`, for a few
/// milliseconds only: see [`lets_signals_in`].
fn park(cx: Cx, epoll: c_int, deadline: Option<Instant>, signals: bool) -> Result<(), Errno> {
    if signals {
        return few_millis(cx, deadline);
    }
    match park_until_ready(cx, epoll, Direction::Read, deadline) {
        // Epolls can be nested five deep; this one is the sixth.
        Err(libc::EINVAL | libc::ELOOP) => few_millis(cx, deadline),
        parked => parked,
    }
}
