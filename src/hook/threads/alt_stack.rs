//! Signal stacks: `sigaltstack` of a thread that is a coroutine. The kernel knows one for
//! each worker, and that is crore's, which reports stack overflows. So what such a
//! thread sets is noted and not used, and it is told that there is one before: then
//! std, for one, makes none.

use std::ffi::c_int;

use libc::stack_t;

use super::thread::{NotedAltStack, Thread};
use crate::hook::libc::hook;

hook!(
    next,
    unsafe extern "C" fn sigaltstack(new: *const stack_t, old: *mut stack_t) -> c_int {
        let Some(thread) = Thread::current() else {
            // SAFETY: the caller's places.
            return unsafe { sigaltstack::next(new, old) };
        };
        let mut set = thread.alt_stack.lock();
        // SAFETY: the caller's places, or null.
        unsafe {
            let kernels = sigaltstack::next(std::ptr::null(), old);
            if let (Some(set), Some(old)) = (set.as_deref(), old.as_mut()) {
                *old = set.0;
            }
            if let Some(new) = new.as_ref() {
                *set = Some(Box::new(NotedAltStack(*new)));
            }
            kernels
        }
    }
);
