//! Sleeps and yields: `nanosleep` and its like, `sched_yield`.

use std::ffi::{c_int, c_uint};
use std::time::Duration;

use libc::{clockid_t, timespec};

use crate::hook::libc::{hook, next};
use crate::hook::wait::call::may_park;
use crate::hook::wait::clock::{after, duration, now};
use crate::sched::Cx;
use crate::sys::syscall::{Errno, errno, set_errno, sys};

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

hook!(
    next_or(SYS_nanosleep),
    Some(cx) = may_park(),
    unsafe extern "C" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
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
);

/// The clocks whose time we can tell; the others' sleeps are libc's.
fn is_told(clock: clockid_t) -> bool {
    matches!(
        clock,
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME
    )
}

hook!(
    next_or(
        sys!(SYS_clock_nanosleep, clock, flags, time, left)
            .err()
            .unwrap_or(0)
    ),
    Some(cx) = may_park().filter(|_| is_told(clock)),
    /// The realtime clock is read once: a clock that is set meanwhile does not
    /// move the end.
    unsafe extern "C" fn clock_nanosleep(
        clock: clockid_t,
        flags: c_int,
        time: *const timespec,
        left: *mut timespec,
    ) -> c_int {
        // SAFETY: the caller's time.
        let time = match unsafe { checked(time) } {
            Ok(time) => time,
            Err(code) => return code,
        };
        let absolute = flags & libc::TIMER_ABSTIME != 0;
        let passed = if absolute { now(clock) } else { Duration::ZERO };
        park_for(cx, time.saturating_sub(passed));
        0
    }
);

/// `usleep` without libc.
fn usleep_without_libc(micros: c_uint) -> c_int {
    let time = timespec {
        tv_sec: i64::from(micros / 1_000_000),
        tv_nsec: i64::from(micros % 1_000_000) * 1000,
    };
    // SAFETY: a live time.
    next::answer(unsafe { sys!(SYS_nanosleep, &raw const time, 0) }) as c_int
}

hook!(
    next_or(usleep_without_libc(micros)),
    Some(cx) = may_park(),
    unsafe extern "C" fn usleep(micros: c_uint) -> c_int {
        park_for(cx, Duration::from_micros(micros.into()));
        0
    }
);

/// `sleep` without libc.
fn sleep_without_libc(seconds: c_uint) -> c_uint {
    let mut time = timespec {
        tv_sec: i64::from(seconds),
        tv_nsec: 0,
    };
    let place = &raw mut time;
    // SAFETY: a live time. Interrupted: the seconds that are left, rounded as libc
    // does.
    let slept = unsafe { sys!(SYS_nanosleep, place, place) };
    slept.map_or(time.tv_sec as c_uint, |_| 0)
}

hook!(
    next_or(sleep_without_libc(seconds)),
    Some(cx) = may_park(),
    unsafe extern "C" fn sleep(seconds: c_uint) -> c_uint {
        park_for(cx, Duration::from_secs(seconds.into()));
        0
    }
);

hook!(
    next_or(SYS_sched_yield),
    Some(cx) = may_park(),
    unsafe extern "C" fn sched_yield() -> c_int {
        let saved = errno();
        // A cancelled coroutine yields in the refusal.
        if cx.check().is_ok() {
            cx.yield_now();
        }
        set_errno(saved);
        0
    }
);
