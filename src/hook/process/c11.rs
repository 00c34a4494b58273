//! `thrd_…` of C11: the same waits as those of POSIX, which glibc calls inside
//! of itself. Locks are in `futex/pthread/c11.rs`.

use std::ffi::{c_int, c_void};

use libc::{pthread_t, timespec};

use crate::hook::libc::hook;

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const NO_MEMORY: c_int = 3;
const TIMED_OUT: c_int = 4;

/// What C11 says for an error number.
pub(crate) fn result(code: c_int) -> c_int {
    match code {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ENOMEM => NO_MEMORY,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

hook!(
    unsafe extern "C" fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int {
        // SAFETY: the caller's arguments.
        match unsafe { libc::clock_nanosleep(libc::CLOCK_REALTIME, 0, time, left) } {
            0 => 0,
            libc::EINTR => -1,
            _ => -2,
        }
    }
);

hook!(
    unsafe extern "C" fn thrd_yield() {
        // SAFETY: no preconditions.
        unsafe { libc::sched_yield() };
    }
);

hook!(
    unsafe extern "C" fn thrd_join(thread: pthread_t, value: *mut c_int) -> c_int {
        let mut word: *mut c_void = std::ptr::null_mut();
        // SAFETY: the caller's thread, a place of ours.
        let code = unsafe { libc::pthread_join(thread, &raw mut word) };
        // SAFETY: the caller's place, or null.
        if let Some(value) = unsafe { value.as_mut() }.filter(|_| code == 0) {
            *value = word.addr() as c_int;
        }
        result(code)
    }
);
