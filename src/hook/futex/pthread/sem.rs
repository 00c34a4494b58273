//! POSIX semaphores: `sem_wait` and its like.
//!
//! A signal handler that posts a semaphore at which coroutines wait runs code
//! of the runtime, which handlers must not: it may post one at which threads
//! wait, as ever. [`crate::signal`] is for coroutines.

use std::ffi::c_int;
use std::time::Instant;

use libc::{clockid_t, sem_t, timespec};

use super::{Here, contend, locks, parkable, parkable_until, wake};
use crate::hook::libc::hook;
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
unsafe fn wait(here: Here, sem: *mut sem_t, deadline: Option<Instant>) -> c_int {
    let saved = errno();
    // SAFETY: the caller's semaphore.
    let attempt = || unsafe { attempt(sem) };
    let mut answer = attempt();
    if answer == libc::EBUSY {
        answer = contend(here, sem.addr(), deadline, attempt);
    }
    if answer == 0 {
        set_errno(saved);
        return 0;
    }
    set_errno(answer);
    -1
}

locks! { sem_t, wait(): sem_wait sem_timedwait sem_clockwait }

hook!(
    next,
    unsafe extern "C" fn sem_post(sem: *mut sem_t) -> c_int {
        // SAFETY: the caller's semaphore, which may be gone afterwards.
        let answer = unsafe { sem_post::next(sem) };
        wake(sem.addr(), 1);
        answer
    }
);
