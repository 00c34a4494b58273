//! Words to ThreadSanitizer, with `--cfg tsan` (`scripts/tsan.sh`); nothing without it.
//!
//! It takes what runs on one thread for one chain of calls, unless it is told of each
//! switch: a stack is then what it calls a fiber. A switch orders what is before it and
//! what is after, as it does on a thread. Does not live here: which stacks there are.

/// Runs `switch`, which enters the stack that ends at `base`, comes back, and does not unwind.
///
/// Inlined, for what a function says of its own begin and end is to be said on one stack.
#[inline(always)]
pub(crate) fn entering<T>(base: usize, switch: impl FnOnce() -> T) -> T {
    #[cfg(tsan)]
    let (here, there) = fibers::here_and_of(base);
    // SAFETY: nobody is on the fiber: nobody is on its stack.
    #[cfg(tsan)]
    unsafe {
        fibers::__tsan_switch_to_fiber(there, 0)
    };
    #[cfg(not(tsan))]
    let _ = base;
    let result = switch();
    // SAFETY: the fiber of the stack that we are on again.
    #[cfg(tsan)]
    unsafe {
        fibers::__tsan_switch_to_fiber(here, 0)
    };
    result
}

#[cfg(tsan)]
mod fibers {
    use std::collections::BTreeMap;
    use std::ffi::{c_uint, c_void};
    use std::ptr;

    use crate::util::no_park::NoParkMutex;

    unsafe extern "C" {
        fn __tsan_get_current_fiber() -> *mut c_void;
        fn __tsan_create_fiber(flags: c_uint) -> *mut c_void;
        pub(super) fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: c_uint);
    }

    /// Those of all stacks that there ever were, as numbers. (Who makes more than 8 000 is
    /// not for this sanitizer.)
    static FIBERS: NoParkMutex<BTreeMap<usize, usize>> = NoParkMutex::new(BTreeMap::new());

    /// The one that we are on, and that of a stack.
    pub(super) fn here_and_of(base: usize) -> (*mut c_void, *mut c_void) {
        // SAFETY: takes nothing.
        let here = unsafe { __tsan_get_current_fiber() };
        // SAFETY: flags that say nothing; what it makes is never destroyed.
        let make = || unsafe { __tsan_create_fiber(0) }.expose_provenance();
        let there = *FIBERS.lock().entry(base).or_insert_with(make);
        (here, ptr::with_exposed_provenance_mut(there))
    }
}
