//! What the kernel tells in `/proc`, read past the hooks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::syscall::{Errno, sys, uninterrupted};

/// # Errors
///
/// What `open` says.
pub(crate) fn open(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a path with its nul.
    let file = unsafe { sys!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }?;
    // SAFETY: made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(file as RawFd) })
}

/// All that an open file says now, from its beginning.
///
/// # Errors
///
/// What `pread` says.
pub(crate) fn contents(file: &impl AsRawFd) -> Result<String, Errno> {
    let mut text = Vec::new();
    loop {
        let mut part = [0_u8; 1024];
        let (file, at) = (file.as_raw_fd(), text.len());
        let (place, len) = (part.as_mut_ptr(), part.len());
        // SAFETY: a place for so many bytes.
        match uninterrupted(|| unsafe { sys!(SYS_pread64, file, place, len, at) })? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            len => text.extend_from_slice(&part[..len]),
        }
    }
}

/// All that a file says.
///
/// # Errors
///
/// What `open` and `pread` say.
pub(crate) fn read(path: &CStr) -> Result<String, Errno> {
    contents(&open(path)?)
}
