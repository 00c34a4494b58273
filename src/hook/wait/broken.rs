//! Broken connections: how calls that never wait fail in a coroutine that is to end.
//!
//! A cancellation makes waits fail. A call that its caller made non-blocking is
//! none: it is made, and says what the kernel does. Event loops make such calls,
//! and abort if an `eventfd` or a pipe of their own fails. But their connections
//! are to end in time, so these say what the kernel says of a connection that the
//! network has broken: `ETIMEDOUT` if the coroutine is late, `ECONNRESET` if it is
//! cancelled.

use std::os::fd::RawFd;

use crate::driver::Direction;
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::sockopt::{self, has_name, listens};
use crate::sys::syscall::Errno;

/// For a call on `fd` in a coroutine that may be ending: why it fails.
/// `never_waits`: whatever the descriptor's flags.
#[cold]
#[inline(never)]
pub(super) fn refuse(
    cx: CurrentTask,
    (fd, dir): (RawFd, Direction),
    never_waits: bool,
) -> Result<(), Errno> {
    let ends = cx.is_ending() || cx.is_asked();
    let goes_on = ends && (never_waits || is_nonblocking(fd) == Ok(true));
    if goes_on && !is_connection(fd) {
        return Ok(());
    }
    // Who is only asked to end is not told by what never waits.
    let checked = if goes_on {
        cx.check()
    } else {
        cx.check_for(dir)
    };
    checked.map_err(|error| match error.raw_os_error() {
        Some(libc::ECANCELED) if goes_on => libc::ECONNRESET,
        code => code.unwrap_or(libc::EIO),
    })
}

/// Whether `fd` is a connection to somebody else, made or being made: what the
/// network, or the other process, may break. Pairs of sockets and pipes are not:
/// programs talk to themselves by these, and no pipe ever breaks.
#[cold]
pub(crate) fn is_connection(fd: RawFd) -> bool {
    if sockopt::number(fd, libc::SO_TYPE) != Ok(libc::SOCK_STREAM) || listens(fd) {
        return false;
    }
    match sockopt::number(fd, libc::SO_DOMAIN) {
        Ok(libc::AF_UNIX) => has_name(fd),
        Ok(libc::AF_INET | libc::AF_INET6 | libc::AF_VSOCK) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn connections_are_told_from_what_a_program_tells_itself() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (server, _) = tcp.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pair, _) = UnixStream::pair().unwrap();
        let path = std::env::temp_dir().join(format!("crore-broken-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        let unix_client = UnixStream::connect(&path).unwrap();
        let (unix_server, _) = unix.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        let (pipe, _into) = std::io::pipe().unwrap();
        for fd in [
            client.as_raw_fd(),
            server.as_raw_fd(),
            unix_client.as_raw_fd(),
            unix_server.as_raw_fd(),
        ] {
            assert!(is_connection(fd));
        }
        for fd in [
            tcp.as_raw_fd(),
            unix.as_raw_fd(),
            udp.as_raw_fd(),
            pair.as_raw_fd(),
            pipe.as_raw_fd(),
            -1,
        ] {
            assert!(!is_connection(fd));
        }
    }
}
