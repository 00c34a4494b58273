//! Which reads and writes the kernel refuses at once, asked of it without moving a byte.

use std::os::fd::RawFd;

use crate::driver::Direction;
use crate::sys::stat::kind;
use crate::sys::syscall::sys;

/// The kind of what has no name: `/proc` says `anon_inode:[eventfd]`, `anon_inode:inotify`.
const ANONYMOUS: libc::mode_t = 0;
/// No buffer can be there: the upper half of all addresses is the kernel's.
const NOWHERE: usize = usize::MAX & !0xfff;

/// Whether it is an inotify or fanotify descriptor.
pub(super) fn notifies(fd: RawFd) -> bool {
    name(fd).has(b"notify")
}

/// Whether a call for so many bytes is refused, though nothing is ready. Not of sockets.
#[cold]
pub(super) fn refuses(fd: RawFd, dir: Direction, bytes: usize) -> bool {
    has_no(fd, dir) || dir == Direction::Read && bytes < least_bytes(fd)
}

/// The smallest read that is not refused: a count, or what is known of a signal.
fn least_bytes(fd: RawFd) -> usize {
    if kind(fd) != ANONYMOUS {
        return 0;
    }
    let name = name(fd);
    if name.has(b"[eventfd]") || name.has(b"[timerfd]") {
        size_of::<u64>()
    } else if name.has(b"[signalfd]") {
        size_of::<libc::signalfd_siginfo>()
    } else {
        0
    }
}

/// Whether it is not open for that, or is of a kind that has no such call (pidfds, epolls):
/// the kernel says so before it looks at the buffer.
fn has_no(fd: RawFd, dir: Direction) -> bool {
    // SAFETY: no byte is moved from or to where no buffer can be: that is `EFAULT`.
    let answer = unsafe {
        match dir {
            Direction::Read => sys!(SYS_read, fd, NOWHERE, 1),
            Direction::Write => sys!(SYS_write, fd, NOWHERE, 1),
        }
    };
    matches!(answer, Err(libc::EBADF | libc::EINVAL))
}

struct InodeName {
    bytes: [u8; 64],
    len: usize,
}

impl InodeName {
    fn has(&self, part: &[u8]) -> bool {
        self.bytes[..self.len]
            .windows(part.len())
            .any(|here| here == part)
    }
}

/// What `/proc` says, as far as it is needed; empty where it can't be asked.
fn name(fd: RawFd) -> InodeName {
    let link = format!("/proc/self/fd/{fd}\0");
    let mut bytes = [0; 64];
    // SAFETY: a path with its nul, and a place for the answer.
    let len = unsafe {
        sys!(
            SYS_readlinkat,
            libc::AT_FDCWD,
            link.as_ptr(),
            bytes.as_mut_ptr(),
            bytes.len()
        )
    };
    InodeName {
        bytes,
        len: len.unwrap_or(0),
    }
}
