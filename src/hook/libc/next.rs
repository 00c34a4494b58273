//! The next definition: libc's own function behind a hook of the same name
//! (`RTLD_NEXT`), for calls that are not a coroutine's.
//!
//! All are looked up by a constructor (`hook/table.rs`), before `main`: a look-up
//! takes locks of the dynamic linker, which a signal handler or a forked child
//! must not meet. Constructors of libraries run earlier; what they call is looked
//! up there and then.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::sys::syscall::{Answer, answer_c, errno};

/// Where the next definition of one name is kept.
pub(crate) struct NextDefinition {
    /// Ends in a NUL.
    name: &'static str,
    function: AtomicPtr<c_void>,
}

/// The constructor has looked all names up.
static LOOKED_UP: AtomicBool = AtomicBool::new(false);

impl NextDefinition {
    pub(crate) const fn new(name: &'static str, without_next: *mut c_void) -> Self {
        Self {
            name,
            function: AtomicPtr::new(without_next),
        }
    }

    #[inline(always)]
    pub(crate) fn function(&self) -> *mut c_void {
        self.function.load(Ordering::Relaxed)
    }

    /// Looks the name up. False: there is none.
    pub(crate) fn look_up(&self) -> bool {
        let name = CStr::from_bytes_with_nul(self.name.as_bytes());
        let next = next_definition(name.expect("one NUL, at the end"));
        if !next.is_null() {
            self.function.store(next, Ordering::Relaxed);
        }
        !next.is_null()
    }

    /// Looks the name up, if the constructor has not done so yet.
    pub(crate) fn look_up_early(&self) -> bool {
        !LOOKED_UP.load(Ordering::Relaxed) && self.look_up()
    }
}

/// The constructor is done.
pub(crate) fn all_looked_up() {
    LOOKED_UP.store(true, Ordering::Relaxed);
}

/// As C returns what the kernel said.
pub(crate) fn answer(answer: Answer) -> isize {
    answer_c(answer, errno())
}

/// The definition of `name` after ours in link order, null if there is none.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn next_definition(name: &CStr) -> *mut c_void {
    // SAFETY: a valid name; dlsym calls nothing of ours.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

#[cfg(target_feature = "crt-static")]
pub(crate) fn next_definition(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}
