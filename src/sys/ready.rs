//! Readiness of descriptors: `poll`, and a socket that has begun to connect. Does
//! not live here: waiting that parks a coroutine.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use std::{io, ptr};

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
    let raw = to_io(unsafe { sys!(SYS_socket, family, kind, 0) })? as RawFd;
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
        Ok(_) | Err(libc::EINPROGRESS) => Ok(socket),
        Err(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

fn connect<A>(socket: RawFd, name: &A) -> Answer {
    // SAFETY: `name` is a socket address of exactly this length.
    unsafe { sys!(SYS_connect, socket, ptr::from_ref(name), size_of::<A>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
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
