//! The allocator of tests whose promise is that nothing is allocated, or freed, where POSIX
//! forbids it: on a signal stack, which our handlers run on. Whoever does ends the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::ptr::null;

/// The system's allocator, after this look.
pub(crate) struct Watched(pub(crate) fn());

impl Watched {
    fn look(&self) {
        let mut stack = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: asks only; what is asked for is written.
        let flags = unsafe {
            libc::sigaltstack(null(), stack.as_mut_ptr());
            stack.assume_init().ss_flags
        };
        if flags & libc::SS_ONSTACK != 0 {
            die(c"a signal handler allocates, or frees\n");
        }
        (self.0)();
    }
}

/// Says why, by bare system calls.
pub(crate) fn die(why: &std::ffi::CStr) -> ! {
    // SAFETY: text with its length.
    unsafe {
        libc::syscall(libc::SYS_write, 2, why.as_ptr(), why.count_bytes());
        libc::syscall(libc::SYS_exit_group, 9);
    }
    unreachable!("the process has ended");
}

// SAFETY: the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.look();
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.look();
        // SAFETY: the caller's block.
        unsafe { System.dealloc(at, layout) }
    }
}
