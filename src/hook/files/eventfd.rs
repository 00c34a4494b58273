//! `eventfd_read` and `eventfd_write`: eight bytes by `read` and `write`, which libc
//! calls inside of itself.

use std::ffi::{c_int, c_void};

use libc::ssize_t;

use crate::hook::libc::hook;

const BYTES: usize = size_of::<u64>();

fn result(moved: ssize_t) -> c_int {
    if moved == BYTES as ssize_t { 0 } else { -1 }
}

hook!(
    unsafe extern "C" fn eventfd_read(fd: c_int, value: *mut u64) -> c_int {
        // SAFETY: the caller's place.
        result(unsafe { libc::read(fd, value.cast::<c_void>(), BYTES) })
    }
);

hook!(
    unsafe extern "C" fn eventfd_write(fd: c_int, value: u64) -> c_int {
        // SAFETY: our own value.
        result(unsafe { libc::write(fd, (&raw const value).cast::<c_void>(), BYTES) })
    }
);
