//! POSIX reader-writer locks: `pthread_rwlock_…`.
//!
//! Letting go wakes one; a reader that got in wakes the next, so that readers
//! follow each other in.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::Instant;

use libc::{clockid_t, pthread_rwlock_t, timespec};

use super::note::Note;
use super::{
    Here, Manner, contend, give_way, is_everybodys, locks, parkable, parkable_until, wake,
};
use crate::hook::libc::hook;

/// That a lock is known to other processes, whose releases are not seen. Not learnt where
/// there may be others.
static IS_SHARED: Note = Note::new();

const WORDS: usize = size_of::<pthread_rwlock_t>() / size_of::<u32>();

/// Learns how glibc notes that.
pub(super) fn learn() {
    let ours = pthread_rwlock_unlock as *const () as usize;
    if is_everybodys(c"pthread_rwlock_unlock", ours) {
        let [private, shared] =
            [libc::PTHREAD_PROCESS_PRIVATE, libc::PTHREAD_PROCESS_SHARED].map(words);
        IS_SHARED.learn(&private, &shared);
    }
}

/// A fresh lock.
fn words(shared: c_int) -> [u32; WORDS] {
    let mut attributes = MaybeUninit::uninit();
    let mut lock = MaybeUninit::<[u32; WORDS]>::zeroed();
    // SAFETY: places for what is made; any bytes are words.
    unsafe {
        libc::pthread_rwlockattr_init(attributes.as_mut_ptr());
        libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), shared);
        libc::pthread_rwlock_init(lock.as_mut_ptr().cast(), attributes.as_ptr());
        libc::pthread_rwlockattr_destroy(attributes.as_mut_ptr());
        lock.assume_init()
    }
}

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
    let manner = Manner {
        // SAFETY: the caller's lock.
        all_seen: unsafe { IS_SHARED.is_on(rwlock) } == Some(false),
        ..Manner::USUAL
    };
    let answer = contend(here, rwlock.addr(), deadline, manner, attempt);
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
