//! What the kernel tells in `/proc`, read past the hooks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::syscall::{Errno, sys, uninterrupted};

/// All that a file says.
///
/// # Errors
///
/// What `open` and `read` say.
pub(crate) fn read(path: &CStr) -> Result<String, Errno> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a path with its nul.
    let file = unsafe { sys!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }?;
    // SAFETY: made just now.
    let file = unsafe { OwnedFd::from_raw_fd(file as RawFd) };
    let mut text = Vec::new();
    loop {
        let mut part = [0_u8; 1024];
        let (place, len) = (part.as_mut_ptr(), part.len());
        // SAFETY: a place for so many bytes.
        match uninterrupted(|| unsafe { sys!(SYS_read, file.as_raw_fd(), place, len) })? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            len => text.extend_from_slice(&part[..len]),
        }
    }
}
