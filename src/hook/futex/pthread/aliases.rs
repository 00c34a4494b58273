//! glibc's other names of the functions beside this, which old programs call.

use std::ffi::c_int;

use libc::{pthread_mutex_t, pthread_rwlock_t};

use crate::hook::libc::aliases::aliases;
use crate::hook::libc::hook;

aliases! {
    fn __pthread_mutex_lock(lock: *mut pthread_mutex_t) -> c_int = pthread_mutex_lock;
    fn __pthread_mutex_trylock(lock: *mut pthread_mutex_t) -> c_int = pthread_mutex_trylock;
    fn __pthread_mutex_unlock(lock: *mut pthread_mutex_t) -> c_int = pthread_mutex_unlock;
    fn __pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int = pthread_rwlock_rdlock;
    fn __pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int = pthread_rwlock_wrlock;
    fn __pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int = pthread_rwlock_unlock;
}
