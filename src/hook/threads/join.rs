//! Joining at once, and never: `pthread_tryjoin_np`, `pthread_detach`. Joins that wait
//! are with those of real threads (`hook/process/join.rs`).

use std::ffi::{c_int, c_void};
use std::time::Instant;

use libc::pthread_t;

use super::thread::Thread;
use crate::hook::libc::hook;

hook!(
    next,
    unsafe extern "C" fn pthread_tryjoin_np(thread: pthread_t, value: *mut *mut c_void) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            let Some(ours) = Thread::find(thread) else {
                return pthread_tryjoin_np::next(thread, value);
            };
            match ours.join(value, Some(Instant::now())) {
                libc::ETIMEDOUT => libc::EBUSY,
                answer => answer,
            }
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn pthread_detach(thread: pthread_t) -> c_int {
        match Thread::find(thread) {
            Some(ours) => ours.detach(),
            // SAFETY: the caller's thread.
            None => unsafe { pthread_detach::next(thread) },
        }
    }
);
