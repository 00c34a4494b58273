//! `sem_wait` and its like.
//!
//! A signal handler that posts a semaphore at which coroutines wait runs code
//! of the runtime, which handlers must not: it may post one at which threads
//! wait, as ever. [`crate::signal`] is for coroutines.

use std::ffi::c_int;
use std::time::Instant;

use libc::{clockid_t, sem_t, timespec};

use super::{acquire, inside, moment, wake};
use crate::hook::libc::next;
use crate::sys::syscall::{errno, set_errno};

/// # Safety
///
/// - A valid semaphore.
unsafe fn attempt(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's promise.
    if unsafe { libc::sem_trywait(sem) } == 0 {
        return 0;
    }
    match errno() {
        libc::EAGAIN => libc::EBUSY,
        code => code,
    }
}

/// # Safety
///
/// - A valid semaphore.
unsafe fn wait(sem: *mut sem_t, deadline: Option<Instant>, real: impl FnOnce() -> c_int) -> c_int {
    let Some(here) = inside() else {
        return real();
    };
    let saved = errno();
    // SAFETY: the caller's semaphore.
    let attempt = || unsafe { attempt(sem) };
    let mut answer = attempt();
    if answer == libc::EBUSY {
        let mut look = || Some(attempt()).filter(|&answer| answer != libc::EBUSY);
        answer = acquire(here, sem.addr(), deadline, &mut { attempt }, &mut look);
    }
    if answer == 0 {
        set_errno(saved);
        return 0;
    }
    set_errno(answer);
    -1
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sem_wait(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's semaphore.
    unsafe { wait(sem, None, || next::sem_wait(sem)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sem_timedwait(sem: *mut sem_t, time: *const timespec) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        let real = || next::sem_timedwait(sem, time);
        match moment(libc::CLOCK_REALTIME, time) {
            Some(deadline) => wait(sem, Some(deadline), real),
            None => real(),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sem_clockwait(
    sem: *mut sem_t,
    clock: clockid_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        let real = || next::sem_clockwait(sem, clock, time);
        match moment(clock, time) {
            Some(deadline) => wait(sem, Some(deadline), real),
            None => real(),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sem_post(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's semaphore, which may be gone afterwards.
    let answer = unsafe { next::sem_post(sem) };
    wake(sem.addr(), 1);
    answer
}
