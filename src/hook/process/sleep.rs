//! Sleeping and yielding.

use std::ffi::{c_int, c_uint};
use std::time::Duration;
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
use std::time::Instant;

use libc::{clockid_t, timespec};

use crate::hook::libc::next;
use crate::hook::wait::retry::{after, gate_to_park};
use crate::sched::Cx;
use crate::sys::syscall::{Errno, errno, set_errno, sys};

/// A valid time as the kernel sees it, or None.
pub(crate) fn duration(time: &timespec) -> Option<Duration> {
    let nanos = u32::try_from(time.tv_nsec)
        .ok()
        .filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(time.tv_sec.try_into().ok()?, nanos))
}

/// Parks for `time`. A cancelled coroutine returns early: callers of sleep do
/// not expect errors (std asserts that there is none but `EINTR`), and the
/// next call that can fail tells them.
fn park_for(cx: Cx, time: Duration) {
    let saved = errno();
    if time.is_zero() {
        cx.spend();
    } else {
        let _ = cx.sleep_until(after(time));
    }
    set_errno(saved);
}

/// What is to be slept, or the error number.
///
/// # Safety
///
/// - `time` is null or valid.
unsafe fn checked(time: *const timespec) -> Result<Duration, Errno> {
    // SAFETY: the caller's promise.
    let time = unsafe { time.as_ref() }.ok_or(libc::EFAULT)?;
    duration(time).ok_or(libc::EINVAL)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    let Some(cx) = gate_to_park() else {
        // SAFETY: the caller's arguments.
        return unsafe { next::nanosleep(time, left) };
    };
    // SAFETY: the caller's time.
    match unsafe { checked(time) } {
        Ok(time) => {
            park_for(cx, time);
            0
        }
        Err(code) => {
            set_errno(code);
            -1
        }
    }
}

/// The realtime clock is read once: a clock that is set meanwhile does not
/// move the end.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    let ours = matches!(
        clock,
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME
    );
    let Some(cx) = gate_to_park().filter(|_| ours) else {
        // SAFETY: the caller's arguments.
        return unsafe { next::clock_nanosleep(clock, flags, time, left) };
    };
    // SAFETY: the caller's time.
    let time = match unsafe { checked(time) } {
        Ok(time) => time,
        Err(code) => return code,
    };
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    park_for(
        cx,
        if absolute {
            time.saturating_sub(now(clock))
        } else {
            time
        },
    );
    0
}

/// What the clock says; zero for one that there is not.
pub(crate) fn now(clock: clockid_t) -> Duration {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid clock and a place for its time.
    let _ = unsafe { sys!(SYS_clock_gettime, clock, &raw mut now) };
    duration(&now).unwrap_or_default()
}

/// The moment that a caller means; `None` if it is none: libc says so.
///
/// # Safety
///
/// - Null or a valid time.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(crate) unsafe fn moment(clock: clockid_t, time: *const timespec) -> Option<Instant> {
    // SAFETY: the caller's promise.
    let time = unsafe { time.as_ref() }.and_then(duration)?;
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
        .then(|| after(time.saturating_sub(now(clock))))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn usleep(micros: c_uint) -> c_int {
    let Some(cx) = gate_to_park() else {
        // SAFETY: no pointers.
        return unsafe { next::usleep(micros) };
    };
    park_for(cx, Duration::from_micros(micros.into()));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let Some(cx) = gate_to_park() else {
        // SAFETY: no pointers.
        return unsafe { next::sleep(seconds) };
    };
    park_for(cx, Duration::from_secs(seconds.into()));
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sched_yield() -> c_int {
    let Some(cx) = gate_to_park() else {
        // SAFETY: no pointers.
        return unsafe { next::sched_yield() };
    };
    let saved = errno();
    // A cancelled coroutine yields in the refusal.
    if cx.check().is_ok() {
        cx.yield_now();
    }
    set_errno(saved);
    0
}
