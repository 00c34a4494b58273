//! Deadlines: C's times (`timespec`, absolute or not) as moments of the
//! monotonic clock.

use std::time::{Duration, Instant};

use libc::{clockid_t, timespec};

use crate::sys;
use crate::sys::syscall::{Errno, sys};

/// No time at all: for a call that is not to wait. (The kernel, which writes back what
/// is left of a time, leaves this one alone.)
pub(crate) static ZERO: timespec = timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The moment `time` from now; a few decades for times that have no end.
pub(crate) fn after(time: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + time.min(FOREVER)
}

/// A valid time as the kernel sees it, or None.
pub(crate) fn duration(time: &timespec) -> Option<Duration> {
    let nanos = u32::try_from(time.tv_nsec)
        .ok()
        .filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(time.tv_sec.try_into().ok()?, nanos))
}

/// A time limit of the caller's; null is none.
///
/// # Errors
///
/// `EINVAL` for what is no time.
///
/// # Safety
///
/// - Null or valid.
pub(crate) unsafe fn limit(time: *const timespec) -> Result<Option<Duration>, Errno> {
    // SAFETY: the caller's promise.
    match unsafe { time.as_ref() } {
        None => Ok(None),
        Some(time) => duration(time).ok_or(libc::EINVAL).map(Some),
    }
}

/// What the clock says to the program, which makes its times from that; zero for one
/// that there is not.
pub(crate) fn now(clock: clockid_t) -> Duration {
    duration(&sys::clock::now(clock)).unwrap_or_default()
}

/// What it says to the kernel: for times that go there.
pub(crate) fn kernels_now(clock: clockid_t) -> Duration {
    let mut now = ZERO;
    // SAFETY: a place for the time.
    let _ = unsafe { sys!(SYS_clock_gettime, clock, &raw mut now) };
    duration(&now).unwrap_or_default()
}

/// The moment at which that clock says `time`. `None` for what is no time, and
/// for other clocks than these: libc says so.
///
/// # Safety
///
/// - Null or valid.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) unsafe fn moment(clock: clockid_t, time: *const timespec) -> Option<Instant> {
    // SAFETY: the caller's promise.
    let time = unsafe { time.as_ref() }.and_then(duration)?;
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
        .then(|| after(time.saturating_sub(now(clock))))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_cut_short_but_those_that_have_no_end() {
        let hour = Duration::from_secs(3_600);
        let years = 20 * 365 * 24 * hour;
        for time in [hour / 3_600, hour, 24 * hour, 60 * 24 * hour, years] {
            let (before, moment) = (Instant::now(), after(time));
            assert!((before + time..=Instant::now() + time).contains(&moment));
        }
        let before = Instant::now();
        assert!((before + years..before + 3 * years).contains(&after(Duration::MAX)));
    }
}
