//! Numbers of `FILE`s, which end inside of libc, where these do not park (`stdio`).

use std::ffi::{c_char, c_int};
use std::os::fd::RawFd;

use libc::FILE;

use crate::hook::fd::lifecycle::opened;
use crate::hook::libc::hook;
use crate::sched;
use crate::sys::syscall::{errno, set_errno};

/// The descriptor of a stream, −1 if it has none.
///
/// # Safety
///
/// - `file` is an open stream.
unsafe fn number(file: *mut FILE) -> RawFd {
    let saved = errno();
    // SAFETY: forwarded.
    let fd = unsafe { libc::fileno(file) };
    set_errno(saved);
    fd
}

hook!(
    next,
    unsafe extern "C" fn fclose(file: *mut FILE) -> c_int {
        // SAFETY: the caller's stream, in both.
        unsafe {
            sched::renew_fd(number(file));
            fclose::next(file)
        }
    }
);

/// One that closes, and opens under the same number if it can.
///
/// # Safety
///
/// - `file` is an open stream; `open` opens it anew, or returns null.
unsafe fn reopened(file: *mut FILE, open: impl FnOnce() -> *mut FILE) -> *mut FILE {
    // SAFETY: the caller's stream.
    sched::renew_fd(unsafe { number(file) });
    let opened_file = open();
    if !opened_file.is_null() {
        // SAFETY: open again.
        opened(unsafe { number(opened_file) });
    }
    opened_file
}

hook!(
    next,
    unsafe extern "C" fn freopen(
        path: *const c_char,
        mode: *const c_char,
        file: *mut FILE,
    ) -> *mut FILE {
        // SAFETY: the caller's arguments.
        unsafe { reopened(file, || freopen::next(path, mode, file)) }
    }
);

hook!(
    next,
    unsafe extern "C" fn freopen64(
        path: *const c_char,
        mode: *const c_char,
        file: *mut FILE,
    ) -> *mut FILE {
        // SAFETY: the caller's arguments.
        unsafe { reopened(file, || freopen64::next(path, mode, file)) }
    }
);
