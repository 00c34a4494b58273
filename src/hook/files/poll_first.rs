//! One try at what has no `RWF_NOWAIT`: FIFOs, terminals, devices; on old kernels pipes
//! and sockets, too.
//!
//! `poll` says that some bytes can be moved. The plain call may want to move more than
//! these, or others may have been faster, and then it would wait in the kernel. So:
//!
//! - a socket is asked by `MSG_DONTWAIT`;
//! - a pipe or a terminal is opened once more, with `O_NONBLOCK`, for this one call: the
//!   user's own open file stays as it is;
//! - where that can't be done (no `/proc`, no permission, no number left, the master of
//!   a pseudoterminal), a piece is moved for which there is room after `poll`, as long
//!   as nobody else writes there. So it is where somebody holds a record lock (`fcntl`,
//!   `lockf`) on the file: to close any number of it would end those of this process.

use std::ffi::{c_int, c_long};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::driver::Direction;
use crate::hook::fd::lifecycle;
use crate::hook::files::refused::refuses;
use crate::hook::wait::retry::event;
use crate::hook::wait::transfer::Buffers;
use crate::sys::fcntl::status_flags;
use crate::sys::fd::table;
use crate::sys::ready::poll_now;
use crate::sys::stat::{is_pipe, kind};
use crate::sys::syscall::{Answer, sys, syscall};
use crate::sys::terminal;

/// The room of a terminal is counted in units of so many bytes, and none of them is left
/// over: a pseudoterminal whose `poll` says that there is room has this much.
const TERMINAL_ROOM: usize = 256;

/// `readv` or `writev`.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
pub(crate) unsafe fn plain(fd: RawFd, dir: Direction, buffers: Buffers) -> Answer {
    let number: c_long = match dir {
        Direction::Read => libc::SYS_readv,
        Direction::Write => libc::SYS_writev,
    };
    let args = [fd as usize, buffers.first as usize, buffers.count, 0, 0, 0];
    // SAFETY: forwarded.
    unsafe { syscall(number, args) }
}

/// The call, if `poll` says that some bytes can be moved; else `EAGAIN`. What no `poll`
/// would ever find ready, since it is refused, is made at once.
///
/// A pipe of which all pages are taken may have room in the last: it is asked by a write.
///
/// # Safety
///
/// - As for [`plain`].
#[cold]
pub(crate) unsafe fn if_ready(fd: RawFd, dir: Direction, buffers: Buffers) -> Answer {
    // SAFETY: forwarded.
    let moves = match unsafe { buffers.refused() } {
        true => 0,
        // SAFETY: forwarded.
        false => unsafe { buffers.total() },
    };
    let answers = || kind(fd) == libc::S_IFSOCK || poll_now(fd, event(dir)) != 0;
    if moves > 0 && answers() {
        // SAFETY: forwarded.
        return unsafe { once_ready(fd, dir, buffers) };
    }
    // What moves nothing, or is refused, never waits.
    if moves == 0 || refuses(fd, dir, moves) {
        // SAFETY: forwarded.
        return unsafe { plain(fd, dir, buffers) };
    }
    let to_pipe = dir == Direction::Write && is_pipe(fd);
    let again = to_pipe.then(|| {
        status_flags(fd)
            .ok()
            .and_then(|flags| reopened(fd, dir, flags))
    });
    match again.flatten() {
        // SAFETY: forwarded.
        Some(again) => unsafe { plain(again.as_raw_fd(), dir, buffers) },
        None => Err(libc::EAGAIN),
    }
}

/// The call, when `poll` has said that some bytes can be moved: says `EAGAIN` instead of
/// waiting for more.
///
/// # Safety
///
/// - As for [`plain`].
#[cold]
pub(crate) unsafe fn once_ready(fd: RawFd, dir: Direction, buffers: Buffers) -> Answer {
    let room = match kind(fd) {
        // SAFETY: forwarded.
        libc::S_IFSOCK => return unsafe { of_socket(fd, dir, buffers) },
        libc::S_IFIFO => libc::PIPE_BUF,
        // SAFETY: forwarded.
        0 if dir == Direction::Write && unsafe { overflows(fd, buffers) } => {
            return Err(libc::EAGAIN);
        }
        libc::S_IFCHR if table::known(fd, table::TERMINAL) => TERMINAL_ROOM,
        // SAFETY: forwarded.
        _ => return unsafe { plain(fd, dir, buffers) },
    };
    let flags = status_flags(fd)?;
    if flags & libc::O_NONBLOCK != 0 {
        // SAFETY: forwarded.
        return unsafe { plain(fd, dir, buffers) };
    }
    match reopened(fd, dir, flags) {
        // SAFETY: forwarded.
        Some(again) => unsafe { plain(again.as_raw_fd(), dir, buffers) },
        // SAFETY: the first of the caller's buffers.
        None if dir == Direction::Write => unsafe {
            let piece = buffers.first_bytes(room);
            plain(fd, dir, Buffers::new(piece.as_ptr(), piece.len()))
        },
        // SAFETY: forwarded.
        None => unsafe { plain(fd, dir, buffers) },
    }
}

/// # Safety
///
/// - As for [`plain`].
unsafe fn of_socket(fd: RawFd, dir: Direction, buffers: Buffers) -> Answer {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = buffers.first.cast_mut();
    header.msg_iovlen = buffers.count;
    let number = match dir {
        Direction::Read => libc::SYS_recvmsg,
        Direction::Write => libc::SYS_sendmsg,
    };
    let header = &raw mut header;
    let args = [
        fd as usize,
        header as usize,
        libc::MSG_DONTWAIT as usize,
        0,
        0,
        0,
    ];
    // SAFETY: the caller's buffers.
    unsafe { syscall(number, args) }
}

/// Whether an eventfd has no room for what is to be added: `poll` speaks of 1 only.
///
/// # Safety
///
/// - As for [`plain`], to write.
unsafe fn overflows(fd: RawFd, buffers: Buffers) -> bool {
    // SAFETY: forwarded.
    let all = unsafe { buffers.rest(0) };
    let [first] = all[..] else { return false };
    if first.iov_len != size_of::<u64>() {
        return false;
    }
    // SAFETY: the caller's buffer has eight bytes.
    let value = unsafe { first.iov_base.cast::<u64>().read_unaligned() };
    // (The largest is refused.)
    let waits = (2..u64::MAX).contains(&value);
    waits && count_of(fd).is_some_and(|count| count.saturating_add(value) == u64::MAX)
}

/// An eventfd's count, as `/proc` says it.
fn count_of(eventfd: RawFd) -> Option<u64> {
    let file = open(format_args!("/proc/self/fdinfo/{eventfd}"), libc::O_RDONLY)?;
    let mut info = [0_u8; 512];
    // SAFETY: a buffer with its length.
    let len = unsafe { sys!(SYS_read, file.as_raw_fd(), info.as_mut_ptr(), info.len()) }.ok()?;
    let info = std::str::from_utf8(&info[..len]).ok()?;
    let count = info.split_once("eventfd-count:")?.1.lines().next()?;
    u64::from_str_radix(count.trim(), 16).ok()
}

/// The same pipe or terminal, opened once more without waiting. `None` where it can't
/// be, or where the user's own would refuse the call.
fn reopened(fd: RawFd, dir: Direction, flags: c_int) -> Option<OwnedFd> {
    let (way, other) = match dir {
        Direction::Read => (libc::O_RDONLY, libc::O_WRONLY),
        Direction::Write => (libc::O_WRONLY, libc::O_RDONLY),
    };
    // A pipe of packets can't be opened; and /dev/ptmx would be another terminal.
    let refused = flags & libc::O_ACCMODE == other || flags & libc::O_DIRECT != 0;
    if refused || terminal::is_master(fd) || is_locked(fd) {
        return None;
    }
    open(
        format_args!("/proc/self/fd/{fd}"),
        way | libc::O_NONBLOCK | libc::O_NOCTTY,
    )
}

/// Whether there are record locks on the file, of this process or of others. Asked in
/// the name of an open file, for which those of its own process are another's, too.
fn is_locked(fd: RawFd) -> bool {
    // SAFETY: zeros are a valid one: all of the file.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as i16;
    // SAFETY: a valid range.
    let asked = unsafe { sys!(SYS_fcntl, fd, libc::F_OFD_GETLK, &raw mut range) };
    asked.is_err() || range.l_type != libc::F_UNLCK as i16
}

fn open(name: std::fmt::Arguments<'_>, flags: c_int) -> Option<OwnedFd> {
    let mut path = [0_u8; 40];
    (&mut path[..39]).write_fmt(name).ok()?;
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: a path with its nul.
    let fd = unsafe { sys!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }.ok()?;
    // SAFETY: made just now.
    Some(unsafe { OwnedFd::from_raw_fd(lifecycle::opened(fd as RawFd)) })
}
