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

/// The kind of file: `S_IFREG` and so on; 0 for what has no name, and what is not open.
pub(crate) fn kind(fd: RawFd) -> libc::mode_t {
    kind_of_open(fd).unwrap_or(0)
}

/// The kind of file; `EBADF` for what is not open.
pub(crate) fn kind_of_open(fd: RawFd) -> Result<libc::mode_t, Errno> {
    stat(fd).map(|stat| stat.st_mode & libc::S_IFMT)
}

/// Whether it is `/dev/random` or `/dev/urandom`, by whatever name.
#[cfg(feature = "sim")]
pub(crate) fn gives_chance(fd: RawFd) -> bool {
    stat(fd).is_ok_and(|stat| {
        let device = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR && matches!(device, (1, 8 | 9))
    })
}

/// Whether it is a pipe, with a name or without.
pub(crate) fn is_pipe(fd: RawFd) -> bool {
    kind(fd) == libc::S_IFIFO
}

/// Whether it may be one of the files that tell each change to one `poll` only: those
/// of `/proc` and of control groups.
pub(crate) fn tells_once(fd: RawFd) -> bool {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a place for the answer; zeros are a valid `statfs`.
    let kind = unsafe {
        match sys!(SYS_fstatfs, fd, stat.as_mut_ptr()) {
            Ok(_) => stat.assume_init().f_type,
            Err(_) => 0,
        }
    };
    kind == libc::PROC_SUPER_MAGIC || kind == libc::CGROUP2_SUPER_MAGIC
}
