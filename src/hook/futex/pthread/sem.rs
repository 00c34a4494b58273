//! POSIX semaphores: `sem_wait` and its like.
//!
//! Signal handlers may post. One that may have interrupted the runtime leaves the
//! wake-up to the workers.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::time::Instant;

use libc::{clockid_t, sem_t, timespec};

use super::note::Note;
use super::{Here, Manner, contend, is_everybodys, locks, parkable, parkable_until, wake_or_defer};
use crate::hook::libc::hook;
use crate::hook::wait::interrupt;
use crate::sys::syscall::{errno, set_errno};

/// That a semaphore is known to other processes, whose posts are not seen. Not learnt
/// where there may be others.
static IS_SHARED: Note = Note::new();

const WORDS: usize = size_of::<sem_t>() / size_of::<u32>();

/// Learns how glibc notes that.
pub(super) fn learn() {
    if is_everybodys(c"sem_post", sem_post as *const () as usize) {
        let [private, shared] = [0, 1].map(words);
        IS_SHARED.learn(&private, &shared);
    }
}

/// A fresh semaphore.
fn words(shared: c_int) -> [u32; WORDS] {
    let mut sem = MaybeUninit::<[u32; WORDS]>::zeroed();
    // SAFETY: a place for what is made; any bytes are words.
    unsafe {
        libc::sem_init(sem.as_mut_ptr().cast(), shared, 0);
        sem.assume_init()
    }
}

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
        let manner = Manner {
            // SAFETY: the caller's semaphore.
            all_seen: unsafe { IS_SHARED.is_on(sem) } == Some(false),
            interruptible: true,
        };
        answer = contend(here, sem.addr(), deadline, manner, attempt);
    }
    if answer == libc::EINTR {
        interrupt::end_if_cancelled();
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
    unsafe extern "C-unwind" fn sem_post(sem: *mut sem_t) -> c_int {
        // SAFETY: the caller's semaphore, which may be gone afterwards.
        let answer = unsafe { sem_post::next(sem) };
        wake_or_defer(sem.addr());
        answer
    }
);
