//! `O_NONBLOCK` as the user knows it: what we did to a listener does not count.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::{shared_listener, table};
use crate::sys::fcntl::{set_status_flags, status_flags};
use crate::sys::syscall::Errno;

/// Whether the user made it non-blocking.
pub(crate) fn is_nonblocking(fd: RawFd) -> Result<bool, Errno> {
    let flags = shared_listener::mask(fd, status_flags(fd)?);
    Ok(flags & libc::O_NONBLOCK != 0)
}

/// Switches it and returns what it was.
///
/// # Errors
///
/// What `fcntl` says.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, yes: bool) -> io::Result<bool> {
    let fd = fd.as_raw_fd();
    let switch = || {
        let flags = shared_listener::mask(fd, status_flags(fd)?);
        let was = flags & libc::O_NONBLOCK != 0;
        if was != yes {
            set_status_flags(fd, flags ^ libc::O_NONBLOCK)?;
            status_flags_changed(fd);
        }
        Ok(was)
    };
    switch().map_err(io::Error::from_raw_os_error)
}

/// The user has set the status flags: what they are now is what is wanted.
pub(crate) fn status_flags_changed(fd: RawFd) {
    shared_listener::forget(fd);
    table::invalidate(fd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_flag_is_switched_and_reported() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!set_nonblocking(a.as_fd(), true).unwrap());
        assert!(set_nonblocking(a.as_fd(), true).unwrap());
        assert!(set_nonblocking(a.as_fd(), false).unwrap());
        assert!(!set_nonblocking(a.as_fd(), false).unwrap());
    }
}
