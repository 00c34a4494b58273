//! Values by key: `co_setspecific`, `co_getspecific`; outside of coroutines, pthread's.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::co::{routine, thread};

/// Keys that a coroutine has values for, as in libco.
const KEYS: usize = 1024;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_setspecific(key: libc::pthread_key_t, value: *const c_void) -> c_int {
    let me = thread::current();
    if me == 0 {
        // SAFETY: any key, any value.
        return unsafe { libc::pthread_setspecific(key, value) };
    }
    let at = key as usize;
    if at >= KEYS {
        return libc::EINVAL;
    }
    let set = routine::with(me, |routine| {
        let mut values = routine.specific.borrow_mut();
        if values.len() <= at {
            values.resize(at + 1, ptr::null_mut());
        }
        values[at] = value.cast_mut();
    });
    if set.is_ok() { 0 } else { libc::EINVAL }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_getspecific(key: libc::pthread_key_t) -> *mut c_void {
    let me = thread::current();
    if me == 0 {
        // SAFETY: any key.
        return unsafe { libc::pthread_getspecific(key) };
    }
    let found = routine::with(me, |routine| {
        routine.specific.borrow().get(key as usize).copied()
    });
    found.ok().flatten().unwrap_or(ptr::null_mut())
}
