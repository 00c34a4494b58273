//! `pthread_rwlock_…`.
//!
//! Letting go wakes one; a reader that got in wakes the next, so that readers
//! follow each other in.

use std::ffi::c_int;
use std::time::Instant;

use libc::{clockid_t, pthread_rwlock_t, timespec};

use super::{acquire, give_way, inside, moment, wake};
use crate::hook::libc::next;

type Call = unsafe fn(*mut pthread_rwlock_t) -> c_int;

/// Locks for reading or writing, as `attempt` does; `real` blocks.
///
/// # Safety
///
/// - A valid lock.
#[inline(always)]
unsafe fn lock(
    rwlock: *mut pthread_rwlock_t,
    attempt: Call,
    deadline: Option<Instant>,
    real: impl FnOnce() -> c_int,
) -> c_int {
    let Some(here) = inside() else {
        return real();
    };
    // SAFETY: the caller's lock.
    let attempt = || unsafe { attempt(rwlock) };
    let answer = attempt();
    if answer != libc::EBUSY {
        return answer;
    }
    let mut look = || Some(attempt()).filter(|&answer| answer != libc::EBUSY);
    let answer = acquire(here, rwlock.addr(), deadline, &mut { attempt }, &mut look);
    if answer == 0 {
        wake(rwlock.addr(), 1);
    }
    answer
}

macro_rules! locks {
    ($($lock:ident, $timed:ident, $clocked:ident, $try:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $lock(rwlock: *mut pthread_rwlock_t) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { lock(rwlock, next::$try, None, || next::$lock(rwlock)) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn $timed(
                rwlock: *mut pthread_rwlock_t,
                time: *const timespec,
            ) -> c_int {
                // SAFETY: the caller's arguments.
                unsafe {
                    let real = || next::$timed(rwlock, time);
                    match moment(libc::CLOCK_REALTIME, time) {
                        Some(deadline) => lock(rwlock, next::$try, Some(deadline), real),
                        None => real(),
                    }
                }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn $clocked(
                rwlock: *mut pthread_rwlock_t,
                clock: clockid_t,
                time: *const timespec,
            ) -> c_int {
                // SAFETY: the caller's arguments.
                unsafe {
                    let real = || next::$clocked(rwlock, clock, time);
                    match moment(clock, time) {
                        Some(deadline) => lock(rwlock, next::$try, Some(deadline), real),
                        None => real(),
                    }
                }
            }
        )*
    };
}

locks! {
    pthread_rwlock_rdlock, pthread_rwlock_timedrdlock, pthread_rwlock_clockrdlock, pthread_rwlock_tryrdlock;
    pthread_rwlock_wrlock, pthread_rwlock_timedwrlock, pthread_rwlock_clockwrlock, pthread_rwlock_trywrlock;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_rwlock_unlock(rwlock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's lock, which may be gone afterwards.
    let answer = unsafe { next::pthread_rwlock_unlock(rwlock) };
    give_way(&wake(rwlock.addr(), 1));
    answer
}
