//! `mtx_…`, `cnd_…` and `call_once` of C11.
//!
//! glibc's are the functions of pthreads under other names, and their objects
//! are the same; but they call each other inside of glibc. Here they call ours.

use std::ffi::c_int;

use libc::{pthread_cond_t, pthread_mutex_t, pthread_once_t, timespec};

use super::once::{Init, pthread_once};
use crate::hook::process::c11::result;

#[unsafe(no_mangle)]
unsafe extern "C" fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    result(unsafe { libc::pthread_mutex_lock(mutex) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int {
    // SAFETY: the caller's arguments.
    result(unsafe { libc::pthread_mutex_timedlock(mutex, time) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    result(unsafe { libc::pthread_mutex_trylock(mutex) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    result(unsafe { libc::pthread_mutex_unlock(mutex) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_wait(cond: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's arguments.
    result(unsafe { libc::pthread_cond_wait(cond, mutex) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    result(unsafe { libc::pthread_cond_timedwait(cond, mutex, time) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_signal(cond: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's condition variable.
    result(unsafe { libc::pthread_cond_signal(cond) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_broadcast(cond: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's condition variable.
    result(unsafe { libc::pthread_cond_broadcast(cond) })
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn call_once(flag: *mut pthread_once_t, init: Init) {
    // SAFETY: the caller's arguments.
    unsafe { pthread_once(flag, init) };
}
