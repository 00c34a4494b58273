//! POSIX condition variables: `pthread_cond_…`.
//!
//! A coroutine queues at the condition variable before it lets go of the
//! mutex, so a signal after a later change of the condition finds it. Threads wait in glibc as ever. A signal wakes one coroutine *and* does
//! what glibc does: one waiter too many may wake, as POSIX allows; none of
//! either kind is ever passed over for the other.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::Instant;

use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, timespec};

use super::note::Note;
use super::{ALL_BITS, Here, Waiting, parkable, parkable_until, wake};
use crate::hook::futex::table::Left;
use crate::hook::libc::hook;
use crate::hook::wait::interrupt::{self, Verdict};
use crate::hook::wait::slow_wait::{Lasting, SlowWait};
use crate::sys::syscall::{errno, set_errno};

/// Waits, with the mutex let go of meanwhile.
///
/// # Safety
///
/// - A valid condition variable, a mutex that the caller has locked.
unsafe fn wait(
    (cx, table): Here,
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    deadline: Option<Instant>,
) -> c_int {
    let saved = errno();
    let address = cond.addr();
    let _waiting = Waiting::begin();
    let Some(place) = table.queue(address, ALL_BITS, cx.addr(), || true) else {
        // No room to wait: as if woken.
        cx.yield_now();
        return 0;
    };
    // SAFETY: the caller's mutex.
    let unlocked = unsafe { libc::pthread_mutex_unlock(mutex) };
    if unlocked != 0 {
        if table.leave(place, true) == Some(Left::Woken) {
            wake(address, 1);
        }
        return unlocked;
    }
    let mut slow_wait = SlowWait::new(Lasting::Lock(address));
    let mut cancelled = false;
    let left = loop {
        cancelled |= interrupt::taken(cx) == Some(Verdict::Cancel);
        if cancelled {
            // A wake-up is for another then.
            if table.leave(place, true) == Some(Left::Woken) {
                wake(address, 1);
            }
            break Left::Woken;
        }
        if let Some(left) = table.leave(place, false) {
            break left;
        }
        if cx.is_over(deadline) {
            break table.leave(place, true).unwrap_or(Left::Queued);
        }
        let next = deadline.into_iter().chain(slow_wait.next(cx)).min();
        cx.park_regardless_until(next);
        slow_wait.check(cx);
    };
    // SAFETY: the caller's mutex.
    let locked = unsafe { libc::pthread_mutex_lock(mutex) };
    set_errno(saved);
    if cancelled {
        interrupt::end_if_cancelled();
    }
    match left {
        _ if locked != 0 => locked,
        Left::Woken => 0,
        Left::Queued => libc::ETIMEDOUT,
    }
}

hook!(
    next,
    Some(here) = parkable(),
    unsafe extern "C-unwind" fn pthread_cond_wait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { wait(here, cond, mutex, None) }
    }
);

hook!(
    next,
    // SAFETY: the caller's condition variable, and time.
    Some((here, deadline)) = (unsafe { parkable_until(|| clock_of(cond), time) }),
    unsafe extern "C-unwind" fn pthread_cond_timedwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { wait(here, cond, mutex, Some(deadline)) }
    }
);

hook!(
    next,
    // SAFETY: the caller's time.
    Some((here, deadline)) = (unsafe { parkable_until(|| Some(clock), time) }),
    unsafe extern "C-unwind" fn pthread_cond_clockwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { wait(here, cond, mutex, Some(deadline)) }
    }
);

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_cond_signal(cond: *mut pthread_cond_t) -> c_int {
        // SAFETY: the caller's condition variable.
        let answer = unsafe { pthread_cond_signal::next(cond) };
        wake(cond.addr(), 1);
        answer
    }
);

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_cond_broadcast(cond: *mut pthread_cond_t) -> c_int {
        // SAFETY: the caller's condition variable.
        let answer = unsafe { pthread_cond_broadcast::next(cond) };
        wake(cond.addr(), usize::MAX);
        answer
    }
);

/// That a condition variable's clock is the monotonic one.
static IS_MONOTONIC: Note = Note::new();

const WORDS: usize = size_of::<pthread_cond_t>() / size_of::<u32>();

/// Learns how glibc notes the clock of a condition variable.
pub(super) fn learn() {
    let [plain, monotonic] = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC].map(words);
    IS_MONOTONIC.learn(&plain, &monotonic);
}

/// A fresh condition variable of this clock.
fn words(clock: clockid_t) -> [u32; WORDS] {
    let mut attributes = MaybeUninit::uninit();
    let mut cond = MaybeUninit::<[u32; WORDS]>::zeroed();
    // SAFETY: places for what is made; any bytes are words.
    unsafe {
        libc::pthread_condattr_init(attributes.as_mut_ptr());
        libc::pthread_condattr_setclock(attributes.as_mut_ptr(), clock);
        libc::pthread_cond_init(cond.as_mut_ptr().cast(), attributes.as_ptr());
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
        cond.assume_init()
    }
}

/// The clock of a condition variable, if we can tell.
///
/// # Safety
///
/// - A valid condition variable.
unsafe fn clock_of(cond: *const pthread_cond_t) -> Option<clockid_t> {
    // SAFETY: the caller's condition variable.
    let is_monotonic = unsafe { IS_MONOTONIC.is_on(cond) }?;
    Some(if is_monotonic {
        libc::CLOCK_MONOTONIC
    } else {
        libc::CLOCK_REALTIME
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_apart() {
        learn();
        for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
            let cond = words(clock);
            // SAFETY: a fresh one.
            assert_eq!(unsafe { clock_of(cond.as_ptr().cast()) }, Some(clock));
        }
    }
}
