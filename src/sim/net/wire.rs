//! Wire ends: the kernel's Unix sockets whose other ends are the programs' sockets.
//!
//! All are non-blocking, have high numbers, so that programs get the low ones as if
//! there were no network, and are the runtime's own ([`OwnFd`]). Does not live here: what
//! the bytes mean.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::sys::fd::own::OwnFd;
use crate::sys::ready::poll_now;
use crate::sys::syscall::{Answer, Errno, sys, uninterrupted};

const FLAGS: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
const SEND: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The address of a Unix socket.
#[derive(Clone, Copy)]
pub(super) struct UnixName {
    name: libc::sockaddr_un,
    len: libc::socklen_t,
}

/// Events of the wire's ends.
pub(super) struct Wire {
    epoll: OwnFd,
    /// Where programs' sockets that connect are connected to.
    door: OwnFd,
    door_name: UnixName,
}

impl Wire {
    pub(super) fn new() -> Result<Self, Errno> {
        // SAFETY: no pointers.
        let epoll = unsafe { sys!(SYS_epoll_create1, libc::EPOLL_CLOEXEC) };
        let (epoll, door) = (high(own(epoll)?)?, high(unix_stream(FLAGS)?)?);
        let door_name = listen(door.as_raw_fd(), c_int::MAX)?;
        Ok(Self {
            epoll,
            door,
            door_name,
        })
    }

    /// Connects a program's socket and returns the other end.
    pub(super) fn connect(&self, fd: RawFd) -> Result<OwnFd, Errno> {
        connect(fd, &self.door_name)?;
        let door = self.door.as_raw_fd();
        // SAFETY: no address is asked for.
        high(own(unsafe { sys!(SYS_accept4, door, 0, 0, FLAGS) })?)
    }

    /// Reports what happens at an end from now on, each change once, as `token`.
    pub(super) fn watch(&self, end: &OwnFd, token: u64) -> Result<(), Errno> {
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: token,
        };
        let (epoll, fd) = (self.epoll.as_raw_fd(), end.as_raw_fd());
        // SAFETY: an event, which is only read.
        unsafe {
            sys!(
                SYS_epoll_ctl,
                epoll,
                libc::EPOLL_CTL_ADD,
                fd,
                &raw mut event
            )
        }?;
        Ok(())
    }

    /// The tokens of the ends at which something has happened, in their order.
    pub(super) fn happened(&self) -> Vec<u64> {
        const MOST: usize = 256;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let (epoll, place) = (self.epoll.as_raw_fd(), events.as_mut_ptr());
        let mut tokens = Vec::new();
        loop {
            // SAFETY: room for as many events; no time and no signals.
            let wait = || unsafe { sys!(SYS_epoll_pwait, epoll, place, MOST, 0, 0, 8) };
            let count = uninterrupted(wait).unwrap_or(0);
            tokens.extend(events[..count].iter().map(|event| event.u64));
            if count < MOST {
                break;
            }
        }
        // The kernel's order is that of its own lists.
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }
}

/// Makes a program's stream socket, with its flags.
pub(super) fn unix_stream(flags: c_int) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_STREAM | flags;
    // SAFETY: no pointers.
    own(unsafe { sys!(SYS_socket, libc::AF_UNIX, kind, 0) })
}

/// Makes a program's datagram socket, with its flags, and the wire's end of it.
pub(super) fn unix_datagrams(flags: c_int) -> Result<(OwnedFd, OwnFd), Errno> {
    let mut pair = [-1 as c_int; 2];
    let kind = libc::SOCK_DGRAM | flags;
    // SAFETY: a place for two numbers.
    unsafe { sys!(SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) }?;
    // SAFETY: both are new.
    let [program, wire] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((program, high(wire)?))
}

/// Lets a socket listen at a name that the kernel chooses.
pub(super) fn listen(fd: RawFd, backlog: c_int) -> Result<UnixName, Errno> {
    let mut name = UnixName {
        // SAFETY: zeros are a `sockaddr_un`.
        name: unsafe { std::mem::zeroed() },
        len: size_of::<libc::sockaddr_un>() as libc::socklen_t,
    };
    name.name.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let place = &raw mut name.name;
    // SAFETY: a name of the family alone; a place for a name, and its length.
    unsafe {
        sys!(SYS_bind, fd, place, size_of::<libc::sa_family_t>())?;
        sys!(SYS_listen, fd, backlog)?;
        sys!(SYS_getsockname, fd, place, &raw mut name.len)?;
    }
    Ok(name)
}

/// A new wire end that waits to be accepted at `name`.
pub(super) fn knock(name: &UnixName) -> Result<OwnFd, Errno> {
    let end = high(unix_stream(FLAGS)?)?;
    connect(end.as_raw_fd(), name)?;
    Ok(end)
}

fn connect(fd: RawFd, name: &UnixName) -> Result<(), Errno> {
    // SAFETY: a name of that length.
    unsafe { sys!(SYS_connect, fd, &raw const name.name, name.len) }?;
    Ok(())
}

/// Fills what a socket may send until it is not writable, and says with how many bytes.
pub(super) fn fill(fd: RawFd) -> usize {
    static FILLER: [u8; 1 << 16] = [0; 1 << 16];
    let mut filled = 0;
    while let Ok(sent) = send(fd, &FILLER) {
        filled += sent;
    }
    filled
}

pub(super) fn send(fd: RawFd, bytes: &[u8]) -> Answer {
    // SAFETY: bytes that are only read.
    uninterrupted(|| unsafe { sys!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), SEND, 0, 0) })
}

/// Sends a datagram that is made of two parts.
pub(super) fn send_parts(fd: RawFd, parts: [&[u8]; 2]) -> Answer {
    let mut vectors = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: zeros are a message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    // SAFETY: a message whose parts are only read.
    uninterrupted(|| unsafe { sys!(SYS_sendmsg, fd, &raw const message, SEND) })
}

pub(super) fn receive(fd: RawFd, room: &mut [u8]) -> Answer {
    let (place, len) = (room.as_mut_ptr(), room.len());
    // SAFETY: room for as many bytes.
    uninterrupted(|| unsafe { sys!(SYS_recvfrom, fd, place, len, libc::MSG_DONTWAIT, 0, 0) })
}

/// Nothing more is sent from this end.
pub(super) fn end_sending(fd: RawFd) {
    // SAFETY: no pointers. It fails where the other end is gone.
    let _ = unsafe { sys!(SYS_shutdown, fd, libc::SHUT_WR) };
}

/// Whether both ways are over: the other end is closed, or as good as that.
pub(super) fn has_hung_up(fd: RawFd) -> bool {
    poll_now(fd, 0) & libc::POLLHUP != 0
}

fn own(answer: Answer) -> Result<OwnedFd, Errno> {
    // SAFETY: a new descriptor.
    answer.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Moves a descriptor to a high number.
fn high(low: OwnedFd) -> Result<OwnFd, Errno> {
    /// Higher than this need none be.
    const HIGH: u64 = 1 << 12;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a place for a limit; no pointers.
    let moved = unsafe {
        let none = ptr::null::<libc::rlimit>();
        sys!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, none, &raw mut limit)?;
        let from = (limit.rlim_cur / 2).min(HIGH);
        sys!(SYS_fcntl, low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, from)
    };
    Ok(OwnFd::new(own(moved)?))
}
