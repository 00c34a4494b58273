//! Moving bytes between descriptors without waiting, as bare system calls: on those that
//! are non-blocking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::syscall::{sys, to_io, uninterrupted};

/// A pipe: its end to read from, and its end to write to.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1_i32; 2];
    // SAFETY: room for two numbers.
    to_io(unsafe { sys!(SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: fresh descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Moves up to `most` bytes, one side being a pipe, which is not waited for.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: no offsets.
    to_io(uninterrupted(|| unsafe {
        sys!(SYS_splice, from, 0, to, 0, most, flags)
    }))
}

/// Reads into `buffer`.
pub(crate) fn read(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (from, len) = (from.as_raw_fd(), buffer.len());
    // SAFETY: the buffer has so many bytes.
    to_io(uninterrupted(|| unsafe {
        sys!(SYS_read, from, buffer.as_mut_ptr(), len)
    }))
}

/// Writes what it can of `bytes`.
pub(crate) fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let to = to.as_raw_fd();
    // SAFETY: so many bytes are there.
    to_io(uninterrupted(|| unsafe {
        sys!(SYS_write, to, bytes.as_ptr(), bytes.len())
    }))
}

/// Tells a socket's peer that nothing more comes. What is no socket, or no longer
/// connected, is told nothing.
pub(crate) fn end_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { sys!(SYS_shutdown, fd.as_raw_fd(), libc::SHUT_WR) } {
        Err(libc::ENOTSOCK | libc::ENOTCONN) => Ok(()),
        answer => to_io(answer).map(drop),
    }
}
