//! `thrd_…` of C11: as pthreads, with other results.

use std::ffi::{c_int, c_void};
use std::ptr;

use libc::pthread_t;

use super::call_start::Start;
use crate::hook::libc::hook;
use crate::hook::process::c11::result;

type C11Start = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
}

unsafe extern "C" {
    fn pthread_create(
        thread: *mut pthread_t,
        attr: *const libc::pthread_attr_t,
        start: Start,
        arg: *mut c_void,
    ) -> c_int;
}

/// A C11 start routine and its argument.
struct C11Call(C11Start, *mut c_void);

/// Calls it as a start routine of pthreads. (Not by a cast: `int` leaves half of the
/// register to chance.)
unsafe extern "C-unwind" fn call(place: *mut c_void) -> *mut c_void {
    // SAFETY: `thrd_create` made it, for this call alone.
    let C11Call(start, arg) = *unsafe { Box::from_raw(place.cast::<C11Call>()) };
    // SAFETY: the caller's routine, with its argument.
    word(unsafe { start(arg) })
}

fn word(value: c_int) -> *mut c_void {
    ptr::without_provenance_mut(value as isize as usize)
}

hook!(
    unsafe extern "C" fn thrd_create(
        thread: *mut pthread_t,
        start: C11Start,
        arg: *mut c_void,
    ) -> c_int {
        let place = Box::into_raw(Box::new(C11Call(start, arg))).cast();
        // SAFETY: the caller's place; `call` with what it takes.
        let code = unsafe { pthread_create(thread, ptr::null(), call, place) };
        if code != 0 {
            // SAFETY: no thread has it.
            drop(unsafe { Box::from_raw(place.cast::<C11Call>()) });
        }
        result(code)
    }
);

hook!(
    unsafe extern "C" fn thrd_detach(thread: pthread_t) -> c_int {
        // SAFETY: the caller's thread.
        result(unsafe { libc::pthread_detach(thread) })
    }
);

hook!(
    unsafe extern "C-unwind" fn thrd_exit(value: c_int) -> ! {
        // SAFETY: as the caller's call.
        unsafe { pthread_exit(word(value)) }
    }
);
