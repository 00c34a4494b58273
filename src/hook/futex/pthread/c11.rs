//! Locks of C11: `mtx_…`, `cnd_…` and `call_once`.
//!
//! glibc's are the functions of pthreads under other names, and their objects
//! are the same; but they call each other inside of glibc. Here they call ours.

use std::ffi::c_int;

use libc::{pthread_cond_t, pthread_mutex_t, pthread_once_t, timespec};

use super::once::{Init, run_once};
use crate::hook::libc::hook;
use crate::hook::process::c11::result;

macro_rules! as_pthreads {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) = $pthreads:ident;)*) => {$(
        hook!(
            unsafe extern "C" fn $name($($arg: $ty),*) -> c_int {
                // SAFETY: the caller's arguments.
                result(unsafe { libc::$pthreads($($arg),*) })
            }
        );
    )*};
}

as_pthreads! {
    fn mtx_lock(mutex: *mut pthread_mutex_t) = pthread_mutex_lock;
    fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) = pthread_mutex_timedlock;
    fn mtx_trylock(mutex: *mut pthread_mutex_t) = pthread_mutex_trylock;
    fn mtx_unlock(mutex: *mut pthread_mutex_t) = pthread_mutex_unlock;
    fn cnd_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) = pthread_cond_wait;
    fn cnd_timedwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        time: *const timespec
    ) = pthread_cond_timedwait;
    fn cnd_signal(cond: *mut pthread_cond_t) = pthread_cond_signal;
    fn cnd_broadcast(cond: *mut pthread_cond_t) = pthread_cond_broadcast;
}

hook!(
    unsafe extern "C-unwind" fn call_once(flag: *mut pthread_once_t, init: Init) {
        // SAFETY: the caller's arguments.
        unsafe { run_once(flag, init) };
    }
);
