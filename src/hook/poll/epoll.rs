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
use crate::hook::libc::next;
use crate::hook::poll::{KERNEL_SIGSET_BYTES, few_millis, let_signals_in, lets_signals_in};
use crate::hook::process::sleep;
use crate::hook::wait::retry::{after, gate, inside_int};
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, sys};

#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
) -> c_int {
    // SAFETY: the caller's place for events.
    unsafe {
        match gate() {
            None => next::epoll_wait(epoll, events, most, timeout),
            Some(cx) => inside_int(cx, || {
                wait_inside(cx, epoll, events, most, millis(timeout), std::ptr::null())
            }),
        }
    }
}

/// The mask holds while the kernel is asked, not while parked; as for `ppoll`.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's place for events, and mask.
    unsafe {
        match gate() {
            None => next::epoll_pwait(epoll, events, most, timeout, mask),
            Some(cx) => inside_int(cx, || {
                wait_inside(cx, epoll, events, most, millis(timeout), mask)
            }),
        }
    }
}

/// As [`epoll_pwait`].
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    limit: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let Some(cx) = gate() else {
        // SAFETY: the caller's arguments.
        return unsafe { next::epoll_pwait2(epoll, events, most, limit, mask) };
    };
    inside_int(cx, || {
        // SAFETY: null or the caller's time.
        let limit = match unsafe { limit.as_ref() } {
            None => None,
            Some(limit) => Some(sleep::duration(limit).ok_or(libc::EINVAL)?),
        };
        // SAFETY: the caller's place for events, and mask.
        unsafe { wait_inside(cx, epoll, events, most, limit, mask) }
    })
}

/// Negative: no limit.
fn millis(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

/// # Safety
///
/// - As for `epoll_pwait`.
unsafe fn wait_inside(
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
    cx.drained(epoll, Direction::Read);
    let parked = cx.wait(epoll, Direction::Read, deadline);
    match parked.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
        // Epolls can be nested five deep; this one is the sixth.
        Err(libc::EINVAL | libc::ELOOP) => few_millis(cx, deadline),
        parked => parked,
    }
}
