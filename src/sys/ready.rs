//! Readiness of descriptors: `poll`. Does not live here: waiting that parks a
//! coroutine.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};
use std::{io, ptr};

use super::sockopt::may_queue_errors;
use super::syscall::{Answer, sys, to_io, uninterrupted};

/// What holds of `fd` now, of `events` and errors; `events` if there is no answer:
/// the call itself will say what is wrong.
pub(crate) fn poll_now(fd: RawFd, events: i16) -> i16 {
    let mut entry = pollfd(fd, events);
    match uninterrupted(|| ppoll(&mut entry, Some(Duration::ZERO))) {
        Ok(_) => entry.revents,
        Err(_) => events,
    }
}

/// Whether an error waits for the next call on `fd`. `POLLERR` alone does not say so: a
/// socket says it, too, while its error queue holds something (time stamps, what
/// became of `MSG_ZEROCOPY`, `IP_RECVERR`), which no send or receive ever meets.
///
/// The error can't be looked at without taking it: where both may be, it is the queue.
#[cold]
pub(crate) fn error_waits(fd: RawFd) -> bool {
    poll_now(fd, 0) & libc::POLLERR != 0 && !may_queue_errors(fd)
}

/// Blocks the thread until `fd` is readable (or writable), has hung up or has
/// an error; false when `deadline` passed first. A deadline that has passed
/// asks without waiting.
///
/// # Errors
///
/// What `poll` says, and `EBADF` for a descriptor that is not open.
pub(crate) fn poll(fd: BorrowedFd<'_>, write: bool, deadline: Option<Instant>) -> io::Result<bool> {
    let events = if write { libc::POLLOUT } else { libc::POLLIN };
    let mut entry = pollfd(fd.as_raw_fd(), events);
    let left = || deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let ready = to_io(uninterrupted(|| ppoll(&mut entry, left())))?;
    if entry.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(ready > 0)
}

fn pollfd(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

fn ppoll(entry: &mut libc::pollfd, limit: Option<Duration>) -> Answer {
    let mut limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    // The kernel writes the rest of the time back.
    let limit = limit.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: one entry, and null or a time; both live across the call.
    unsafe { sys!(SYS_ppoll, ptr::from_mut(entry), 1, limit, 0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn poll_sees_bytes_and_deadlines() {
        let (mut tx, rx) = std::os::unix::net::UnixStream::pair().unwrap();
        let soon = Instant::now() + Duration::from_millis(3);
        assert!(!poll(rx.as_fd(), false, Some(soon)).unwrap());
        assert!(Instant::now() >= soon);
        tx.write_all(b"x").unwrap();
        assert!(poll(rx.as_fd(), false, None).unwrap());
        assert!(poll(rx.as_fd(), true, Some(Instant::now())).unwrap());
    }
}
