//! Sleeps and yields: `nanosleep` and its like, `sched_yield`.

use std::ffi::{c_int, c_uint};
use std::time::{Duration, Instant};

use libc::{clockid_t, timespec};

use crate::hook::libc::{hook, next};
use crate::hook::wait::call::{code, may_park};
use crate::hook::wait::clock::{after, duration, now};
use crate::hook::wait::interrupt::{self, Verdict};
use crate::sched::CurrentTask;
use crate::sys::simulated;
use crate::sys::syscall::{Errno, errno, set_errno, sys};

/// Parks for `time`. A cancelled coroutine returns early: callers of sleep do
/// not expect errors (std asserts that there is none but `EINTR`), and the
/// next call that can fail tells them.
///
/// # Errors
///
/// What is left, if a signal to a thread that is a coroutine has interrupted it.
fn park_for(cx: CurrentTask, time: Duration) -> Result<(), Duration> {
    if cx.may_be_ending() {
        interrupt::before(cx);
    }
    let saved = errno();
    let until = after(time);
    let mut slept = Ok(());
    if time.is_zero() {
        match simulated::world() {
            None => cx.spend(),
            // Others have their turn there by the seed, not by what was spent.
            Some(_) => cx.spend_for(u32::MAX),
        }
    } else {
        while let Err(libc::EINTR) = cx.sleep_until(until).map_err(code) {
            if interrupt::settle() != Verdict::Nothing {
                slept = Err(until.saturating_duration_since(Instant::now()));
                break;
            }
        }
    }
    set_errno(saved);
    if slept.is_err() {
        interrupt::end_if_cancelled();
    }
    slept
}

/// A sleep was interrupted with this much left of it.
///
/// # Safety
///
/// - `place` is null or valid.
unsafe fn leave_rest(place: *mut timespec, left: Duration) {
    // SAFETY: the caller's promise.
    if let Some(place) = unsafe { place.as_mut() } {
        place.tv_sec = left.as_secs() as libc::time_t;
        place.tv_nsec = left.subsec_nanos().into();
    }
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
    unsafe extern "C-unwind" fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
        // SAFETY: the caller's time.
        match unsafe { checked(time) } {
            Ok(time) => match park_for(cx, time) {
                Ok(()) => 0,
                Err(rest) => {
                    // SAFETY: the caller's place.
                    unsafe { leave_rest(left, rest) };
                    set_errno(libc::EINTR);
                    -1
                }
            },
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
    unsafe extern "C-unwind" fn clock_nanosleep(
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
        match park_for(cx, time.saturating_sub(passed)) {
            Ok(()) => 0,
            Err(rest) => {
                if !absolute {
                    // SAFETY: the caller's place.
                    unsafe { leave_rest(left, rest) };
                }
                libc::EINTR
            }
        }
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
    unsafe extern "C-unwind" fn usleep(micros: c_uint) -> c_int {
        match park_for(cx, Duration::from_micros(micros.into())) {
            Ok(()) => 0,
            Err(_) => {
                set_errno(libc::EINTR);
                -1
            }
        }
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
    unsafe extern "C-unwind" fn sleep(seconds: c_uint) -> c_uint {
        match park_for(cx, Duration::from_secs(seconds.into())) {
            Ok(()) => 0,
            // As libc rounds it.
            Err(left) => {
                set_errno(libc::EINTR);
                left.as_secs() as c_uint
            }
        }
    }
);

hook!(
    next_or(SYS_sched_yield),
    Some(cx) = may_park(),
    unsafe extern "C-unwind" fn sched_yield() -> c_int {
        let saved = errno();
        // A cancelled coroutine yields in the refusal.
        if cx.check().is_ok() {
            cx.yield_now();
        }
        set_errno(saved);
        0
    }
);
