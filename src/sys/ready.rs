//! Readiness of descriptors: the non-blocking flag, `poll`, and a socket that
//! has begun to connect. Does not live here: waiting that parks a coroutine.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Switches `O_NONBLOCK` of the open file and returns what it was.
///
/// # Errors
///
/// What `fcntl` says.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, yes: bool) -> io::Result<bool> {
    // SAFETY: F_GETFL takes no pointer.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let was = flags & libc::O_NONBLOCK != 0;
    if was != yes {
        // SAFETY: F_SETFL takes no pointer.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags ^ libc::O_NONBLOCK) })?;
    }
    Ok(was)
}

/// Blocks the thread until `fd` is readable (or writable), has hung up or has
/// an error; false when `deadline` passed first. A deadline that has passed
/// asks without waiting.
///
/// # Errors
///
/// What `poll` says, and `EBADF` for a descriptor that is not open.
pub(crate) fn poll(fd: BorrowedFd<'_>, write: bool, deadline: Option<Instant>) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: if write { libc::POLLOUT } else { libc::POLLIN },
        revents: 0,
    };
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // SAFETY: one entry, which lives across the call.
        match check(unsafe { libc::poll(&raw mut entry, 1, millis(left)) }) {
            Ok(0) if left == Some(Duration::ZERO) => return Ok(false),
            Ok(0) => {}
            Ok(_) if entry.revents & libc::POLLNVAL != 0 => {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Rounded up: never wakes before the deadline, never spins short of it.
fn millis(left: Option<Duration>) -> libc::c_int {
    let Some(left) = left else { return -1 };
    let up = left.as_nanos().div_ceil(1_000_000);
    libc::c_int::try_from(up).unwrap_or(libc::c_int::MAX)
}

/// A non-blocking TCP socket on its way to `addr`: connected when it is
/// writable and has no error.
///
/// # Errors
///
/// What `socket` and `connect` say, but not `EINPROGRESS`.
pub(crate) fn start_connect(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let raw = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let result = match addr {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            connect(raw, &name)
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            connect(raw, &name)
        }
    };
    match result {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(socket),
    }
}

fn connect<A>(socket: libc::c_int, name: &A) -> io::Result<libc::c_int> {
    // SAFETY: `name` is a socket address of exactly this length.
    check(unsafe {
        libc::connect(
            socket,
            std::ptr::from_ref(name).cast(),
            size_of::<A>() as libc::socklen_t,
        )
    })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn the_flag_is_switched_and_reported() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!set_nonblocking(a.as_fd(), true).unwrap());
        assert!(set_nonblocking(a.as_fd(), true).unwrap());
        assert!(set_nonblocking(a.as_fd(), false).unwrap());
        assert!(!set_nonblocking(a.as_fd(), false).unwrap());
    }

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

    #[test]
    fn a_started_connection_arrives() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(any) else {
                continue;
            };
            let socket = start_connect(&listener.local_addr().unwrap()).unwrap();
            assert!(poll(socket.as_fd(), true, None).unwrap());
            let mut stream = std::net::TcpStream::from(socket);
            let (mut peer, from) = listener.accept().unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
            peer.write_all(b"hi").unwrap();
            let mut two = [0; 2];
            stream.set_nonblocking(false).unwrap();
            stream.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"hi");
        }
    }
}
