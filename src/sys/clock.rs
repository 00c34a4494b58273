//! Clocks as libc tells them: a library may stand in for it (libfaketime).

use libc::{clockid_t, timespec};

/// What the clock says to the program; zero for one that there is not.
#[inline]
pub(crate) fn now(clock: clockid_t) -> timespec {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the time.
    let _ = unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

/// Nanoseconds by the clock that [`Instant`](std::time::Instant) shows on Linux.
#[inline]
pub(crate) fn monotonic_nanos() -> u64 {
    let now = now(libc::CLOCK_MONOTONIC);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
