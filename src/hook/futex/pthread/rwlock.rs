//! POSIX reader-writer locks: `pthread_rwlock_…`.
//!
//! Letting go wakes one; a reader that got in wakes the next, so that readers
//! follow each other in.

use std::ffi::c_int;
use std::time::Instant;

use libc::{clockid_t, pthread_rwlock_t, timespec};

use super::{Here, contend, give_way, locks, parkable, parkable_until, wake};
use crate::hook::libc::hook;

/// Locks for reading or writing, as `attempt` does.
///
/// # Safety
///
/// - A valid lock.
#[inline(always)]
unsafe fn lock(
    here: Here,
    rwlock: *mut pthread_rwlock_t,
    attempt: unsafe extern "C" fn(*mut pthread_rwlock_t) -> c_int,
    deadline: Option<Instant>,
) -> c_int {
    // SAFETY: the caller's lock.
    let attempt = || unsafe { attempt(rwlock) };
    let answer = attempt();
    if answer != libc::EBUSY {
        return answer;
    }
    let answer = contend(here, rwlock.addr(), deadline, attempt);
    if answer == 0 {
        wake(rwlock.addr(), 1);
    }
    answer
}

locks! { pthread_rwlock_t, lock(libc::pthread_rwlock_tryrdlock):
    pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_clockrdlock
}
locks! { pthread_rwlock_t, lock(libc::pthread_rwlock_trywrlock):
    pthread_rwlock_wrlock pthread_rwlock_timedwrlock pthread_rwlock_clockwrlock
}

hook!(
    next,
    unsafe extern "C" fn pthread_rwlock_unlock(rwlock: *mut pthread_rwlock_t) -> c_int {
        // SAFETY: the caller's lock, which may be gone afterwards.
        let answer = unsafe { pthread_rwlock_unlock::next(rwlock) };
        give_way(&wake(rwlock.addr(), 1));
        answer
    }
);
