//! The ends of a `FILE`: `fclose` and `freopen`. They wait for its lock, as everybody
//! does, and write what it still has; then its descriptor's number ends, and may begin
//! anew.

use std::ffi::{c_char, c_int};
use std::os::fd::RawFd;

use libc::FILE;

use super::jumps;
use super::parking::{in_turn, parking};
use crate::hook::fd::lifecycle::opened;
use crate::hook::futex::pthread::file_lock::locked_last;
use crate::hook::libc::hook;
use crate::hook::wait::call::may_park;
use crate::sched;
use crate::sys::syscall::{errno, set_errno};

/// The descriptor of a file, −1 if it has none.
///
/// # Safety
///
/// - `file` is an open file.
unsafe fn number(file: *mut FILE) -> RawFd {
    let saved = errno();
    // SAFETY: forwarded.
    let fd = unsafe { libc::fileno(file) };
    set_errno(saved);
    fd
}

/// The number ends; said before, where libc does not tell us when.
///
/// # Safety
///
/// - `file` is an open file.
unsafe fn ends(file: *mut FILE) {
    if !jumps::are_in_front() {
        // SAFETY: the caller's file.
        sched::renew_fd(unsafe { number(file) });
    }
}

hook!(
    next,
    unsafe extern "C" fn fclose(file: *mut FILE) -> c_int {
        let close = || {
            // SAFETY: the caller's file, which nobody else has now, in both.
            unsafe {
                ends(file);
                match may_park() {
                    Some(cx) => parking(cx, file, || fclose::next(file)),
                    None => fclose::next(file),
                }
            }
        };
        // SAFETY: the caller's file.
        unsafe { locked_last(file, close) }
    }
);

/// One that closes, and opens under the same number if it can. libc puts the new file
/// under the number without closing it, where that is one of the standard ones.
///
/// # Safety
///
/// - `file` is an open file; `open` opens it anew, or returns null.
unsafe fn reopened(file: *mut FILE, open: impl FnOnce() -> *mut FILE) -> *mut FILE {
    let reopen = || {
        // SAFETY: the caller's file, in both.
        let fd = unsafe { number(file) };
        sched::renew_fd(fd);
        let opened_file = open();
        sched::renew_fd(fd);
        if !opened_file.is_null() {
            // SAFETY: open again.
            opened(unsafe { number(opened_file) });
        }
        opened_file
    };
    match may_park() {
        // SAFETY: the caller's file.
        Some(cx) => unsafe { in_turn(cx, file, reopen) },
        None => reopen(),
    }
}

macro_rules! reopening {
    ($($name:ident)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name(
                path: *const c_char,
                mode: *const c_char,
                file: *mut FILE,
            ) -> *mut FILE {
                // SAFETY: the caller's arguments.
                unsafe { reopened(file, || $name::next(path, mode, file)) }
            }
        );)*
    };
}

reopening! { freopen freopen64 }
