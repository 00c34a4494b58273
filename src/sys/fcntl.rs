//! The status flags of an open file (`fcntl`), as the kernel has them.

use std::os::fd::RawFd;

use super::syscall::{Errno, sys};

/// `F_GETFL`.
pub(crate) fn status_flags(fd: RawFd) -> Result<i32, Errno> {
    // SAFETY: F_GETFL takes no pointer.
    unsafe { sys!(SYS_fcntl, fd, libc::F_GETFL) }.map(|flags| flags as i32)
}

/// `F_SETFL`.
pub(crate) fn set_status_flags(fd: RawFd, flags: i32) -> Result<(), Errno> {
    // SAFETY: F_SETFL takes no pointer.
    unsafe { sys!(SYS_fcntl, fd, libc::F_SETFL, flags) }.map(drop)
}
