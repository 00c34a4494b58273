//! Spin locks: `pthread_spin_lock`. Their holders mostly run; but one that is a
//! suspended coroutine of the same thread would never be seen to let go.

use std::ffi::c_int;

use libc::pthread_spinlock_t;

use super::parkable;
use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::sys::syscall::{errno, set_errno};

/// Looks before the coroutine parks: for as long as a holder that runs may take.
const LOOKS: u32 = 1000;

hook!(
    next,
    Some((cx, _)) = parkable(),
    unsafe extern "C" fn pthread_spin_lock(lock: *mut pthread_spinlock_t) -> c_int {
        let saved = errno();
        let mut backoff = Backoff::new();
        let mut looks = 0;
        // SAFETY: the caller's lock.
        while unsafe { libc::pthread_spin_trylock(lock) } != 0 {
            looks += 1;
            match looks {
                ..LOOKS => std::hint::spin_loop(),
                _ => backoff.pause_regardless(cx, None),
            }
        }
        set_errno(saved);
        0
    }
);
