//! TCP sockets that std can't make: one that has begun to connect, listeners that
//! share an address. Does not live here: waiting for either.

use std::ffi::c_int;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::sockopt;
use super::syscall::{Answer, sys, to_io};

/// A non-blocking TCP socket on its way to `addr`: connected when it is
/// writable and has no error.
///
/// # Errors
///
/// What `socket` and `connect` say, but not `EINPROGRESS`.
pub(crate) fn start_connect(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(addr, libc::SOCK_NONBLOCK)?;
    let fd = socket.as_raw_fd();
    // SAFETY: a socket address of that length.
    let connected = with_name(addr, |name, len| unsafe {
        sys!(SYS_connect, fd, name, len)
    });
    match connected {
        Ok(_) | Err(libc::EINPROGRESS) => Ok(socket),
        Err(code) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A listener at `addr`, at which so many connections may wait, as far as the kernel
/// allows. If it is to be beside others it lets others listen there, too
/// (`SO_REUSEPORT`): the kernel gives each connection to one of them.
///
/// # Errors
///
/// What `socket`, `setsockopt`, `bind` and `listen` say.
pub(crate) fn listen(
    addr: &SocketAddr,
    backlog: c_int,
    beside_others: bool,
) -> io::Result<TcpListener> {
    let socket = tcp(addr, 0)?;
    let fd = socket.as_raw_fd();
    to_io(sockopt::set_number(fd, libc::SO_REUSEADDR, 1))?;
    if beside_others {
        to_io(sockopt::set_number(fd, libc::SO_REUSEPORT, 1))?;
    }
    // SAFETY: a socket address of that length.
    to_io(with_name(addr, |name, len| unsafe {
        sys!(SYS_bind, fd, name, len)
    }))?;
    // SAFETY: no pointers.
    to_io(unsafe { sys!(SYS_listen, fd, backlog) })?;
    Ok(socket.into())
}

fn tcp(addr: &SocketAddr, flags: c_int) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers.
    let raw = to_io(unsafe { sys!(SYS_socket, family, kind, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as c_int) })
}

/// Calls `f` with `addr` as C has it, and its length.
fn with_name(addr: &SocketAddr, f: impl FnOnce(*const u8, usize) -> Answer) -> Answer {
    match addr {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            f(ptr::from_ref(&name).cast(), size_of_val(&name))
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
            f(ptr::from_ref(&name).cast(), size_of_val(&name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ready::poll;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

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
