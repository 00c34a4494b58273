//! `fstat`: which file a descriptor names, and of what kind.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::syscall::{Errno, sys};

/// `fstat`.
fn stat(fd: RawFd) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a place for the answer; zeros are a valid `stat`.
    unsafe {
        sys!(SYS_fstat, fd, stat.as_mut_ptr())?;
        Ok(stat.assume_init())
    }
}

/// Which file it is: its device and its number there.
pub(crate) fn identity(fd: RawFd) -> Result<(u64, u64), Errno> {
    stat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The kind of file: `S_IFREG` and so on; 0 for what is not open.
pub(crate) fn kind(fd: RawFd) -> libc::mode_t {
    stat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT)
}
