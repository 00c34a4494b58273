//! Commands of the shell: `system`, `popen` and `pclose`.
//!
//! libc waits for them inside of itself, and `system` changes what the process does
//! with signals meanwhile; so a thread of their own makes the calls that wait. A
//! cancelled coroutine leaves it, and the command goes on.
//!
//! Left out of statically linked programs, where libc's own could not be reached
//! any more.

use std::ffi::{c_char, c_int};

use libc::FILE;

use crate::hook::fd::lifecycle::opened;
#[cfg(all(feature = "futex", target_env = "gnu"))]
use crate::hook::futex::pthread::file_lock::when_free;
use crate::hook::libc::hook;
use crate::hook::net::resolve::{owned, pointer};
use crate::hook::wait::call::{cancellable, in_coroutine, on_waiting_thread, uncancellable};
use crate::sched;

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn system(command: *const c_char) -> c_int {
        // SAFETY: the caller's string.
        let command = unsafe { owned(command) };
        cancellable(cx, || {
            // SAFETY: our own string.
            on_waiting_thread(cx, false, move || unsafe {
                system::next(pointer(&command))
            })
        })
    }
);

hook!(
    next,
    /// Does not wait: it returns when the command has begun.
    unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE {
        // SAFETY: the caller's strings.
        let file = unsafe { popen::next(command, mode) };
        if !file.is_null() {
            // SAFETY: a file that has just begun.
            opened(unsafe { libc::fileno(file) });
        }
        file
    }
);

/// Without locks that park.
///
/// # Safety
///
/// - None; as the one with them, in whose place it stands.
#[cfg(not(all(feature = "futex", target_env = "gnu")))]
unsafe fn when_free(_: *mut FILE) {}

/// A file that is closed, and whose command is waited for, by whoever drops this.
struct Closing(*mut FILE);

// SAFETY: a file of libc's may be used from any thread, and this one has no other user.
unsafe impl Send for Closing {}

impl Closing {
    fn finish(self) -> c_int {
        let file = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: the file is this one's alone, and is used here for the last time.
        unsafe { pclose::next(file) }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // SAFETY: as in `finish`, which forgets it.
        unsafe { pclose::next(self.0) };
    }
}

hook!(
    next,
    /// The file is closed and the command is waited for also if the coroutine is
    /// cancelled, which does not learn how it ends then.
    unsafe extern "C" fn pclose(file: *mut FILE) -> c_int {
        // SAFETY: the caller's file. Who has its lock is done with it then.
        unsafe {
            when_free(file);
            sched::renew_fd(libc::fileno(file));
        }
        let closing = Closing(file);
        match in_coroutine() {
            Some(cx) => uncancellable(|| on_waiting_thread(cx, false, move || closing.finish())),
            None => closing.finish(),
        }
    }
);
