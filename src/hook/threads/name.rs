//! Names: `pthread_setname_np`, `pthread_getname_np`. The kernel knows the worker only;
//! its name is left as it is.

use std::ffi::{CStr, c_char, c_int};
use std::slice;

use libc::{pthread_t, size_t};

use super::thread::{Name, Thread};
use crate::hook::libc::hook;
use crate::sched::is_beginning;

hook!(
    next,
    unsafe extern "C" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int {
        if is_beginning() {
            return 0;
        }
        let Some(ours) = Thread::find(thread) else {
            // SAFETY: the caller's arguments.
            return unsafe { pthread_setname_np::next(thread, name) };
        };
        // SAFETY: the caller's name.
        let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
        let mut fresh: Name = [0; 16];
        let Some(place) = fresh.get_mut(..bytes.len()) else {
            return libc::ERANGE;
        };
        place.copy_from_slice(bytes);
        *ours.name.lock() = fresh;
        0
    }
);

hook!(
    next,
    unsafe extern "C" fn pthread_getname_np(
        thread: pthread_t,
        name: *mut c_char,
        len: size_t,
    ) -> c_int {
        let Some(ours) = Thread::find(thread) else {
            // SAFETY: the caller's arguments.
            return unsafe { pthread_getname_np::next(thread, name, len) };
        };
        let known = *ours.name.lock();
        // As libc, which has no shorter ones.
        if len < known.len() {
            return libc::ERANGE;
        }
        // SAFETY: the caller's place, of that length at least.
        unsafe { slice::from_raw_parts_mut(name.cast(), known.len()) }.copy_from_slice(&known);
        0
    }
);
