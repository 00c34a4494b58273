//! Calls that wait for the disk: `sync`, `msync`, `sync_file_range`, and those that
//! change how much of it a file takes. Helpers make them, as they do `fsync`
//! (`positioned.rs`).
//!
//! What only looks something up or changes a name (`stat`, `rename`, `unlink`,
//! `readdir`) is made where it is called: it rarely waits, and is called too often.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libc::{off_t, size_t};

use crate::hook::libc::hook;
use crate::hook::wait::call::{in_coroutine, on_helper, uncancellable};
use crate::sys::fd::table::Meaning;
use crate::sys::simulated;
use crate::sys::syscall::sys;

hook!(
    next_or({
        let _ = sys!(SYS_sync);
    }),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sync() {
        // SAFETY: no arguments.
        let _: c_int = uncancellable(|| on_helper(cx, [], || unsafe { sys!(SYS_sync) }));
    }
);

hook!(
    next_or(SYS_msync),
    Some(cx) = in_coroutine().filter(|_| flags & libc::MS_SYNC != 0),
    unsafe extern "C-unwind" fn msync(start: *mut c_void, len: size_t, flags: c_int) -> c_int {
        let start = start.expose_provenance();
        // SAFETY: the kernel looks at the mapping, not at what is in it.
        let job = move || unsafe { sys!(SYS_msync, start, len, flags) };
        uncancellable(|| on_helper(cx, [], job))
    }
);

/// Calls with numbers only.
macro_rules! on_disk {
    ($(fn $name:ident($fd:ident: c_int, $($arg:ident: $ty:ty),*): $number:ident;)*) => {
        $(hook!(
            next_or($number),
            Some(cx) = in_coroutine(),
            unsafe extern "C-unwind" fn $name($fd: c_int, $($arg: $ty),*) -> c_int {
                // SAFETY: no pointers.
                let job = move || unsafe { sys!($number, $fd $(, $arg)*) };
                uncancellable(|| on_helper(cx, [Meaning::of($fd)], job))
            }
        );)*
    };
}

on_disk! {
    fn sync_file_range(fd: c_int, at: off_t, len: off_t, flags: c_uint): SYS_sync_file_range;
    fn fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t): SYS_fallocate;
    fn fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t): SYS_fallocate;
    fn ftruncate(fd: c_int, len: off_t): SYS_ftruncate;
    fn ftruncate64(fd: c_int, len: off_t): SYS_ftruncate;
}

macro_rules! truncated {
    ($(fn $name:ident;)*) => {
        $(hook!(
            next_or(SYS_truncate),
            Some(cx) = in_coroutine().filter(|_| !path.is_null()),
            unsafe extern "C-unwind" fn $name(path: *const c_char, len: off_t) -> c_int {
                // SAFETY: the caller's string.
                let path = unsafe { CStr::from_ptr(path) }.to_owned();
                // SAFETY: our own string.
                let job = move || unsafe { sys!(SYS_truncate, path.as_ptr(), len) };
                uncancellable(|| on_helper(cx, [], job))
            }
        );)*
    };
}

truncated! {
    fn truncate;
    fn truncate64;
}

macro_rules! allocated {
    ($(fn $name:ident;)*) => {
        $(hook!(
            next_or(sys!(SYS_fallocate, fd, 0, at, len).err().unwrap_or(0)),
            Some(cx) = in_coroutine(),
            /// Returns an error number. libc writes zeros where the file system can't.
            unsafe extern "C-unwind" fn $name(fd: c_int, at: off_t, len: off_t) -> c_int {
                // SAFETY: no pointers.
                let allocate = move || unsafe {
                    match simulated::world() {
                        None => $name::next(fd, at, len),
                        Some(_) => sys!(SYS_fallocate, fd, 0, at, len).err().unwrap_or(0),
                    }
                };
                let job = move || match allocate() {
                    0 => Ok(()),
                    code => Err(code),
                };
                let mut result = 0;
                let _: c_int = uncancellable(|| {
                    result = on_helper(cx, [Meaning::of(fd)], job).err().unwrap_or(0);
                    Ok(0)
                });
                result
            }
        );)*
    };
}

allocated! {
    fn posix_fallocate;
    fn posix_fallocate64;
}
