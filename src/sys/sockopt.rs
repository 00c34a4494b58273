//! Socket options at level `SOL_SOCKET`.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::time::Duration;

use super::syscall::{Answer, Errno, sys, syscall};

/// Reads an option into `value`.
///
/// # Safety
///
/// - Any bytes are a valid `T`.
unsafe fn get<T>(fd: RawFd, name: c_int, mut value: T) -> Result<T, Errno> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let place: *mut c_void = (&raw mut value).cast();
    let level = libc::SOL_SOCKET;
    // SAFETY: a place of `len` bytes, in which the caller allows any bytes.
    unsafe { sys!(SYS_getsockopt, fd, level, name, place, &raw mut len) }?;
    Ok(value)
}

/// A whole-number option.
pub(crate) fn number(fd: RawFd, name: c_int) -> Result<c_int, Errno> {
    // SAFETY: any bytes are an int.
    unsafe { get(fd, name, 0) }
}

/// Sets a whole-number option.
pub(crate) fn set_number(fd: RawFd, name: c_int, value: c_int) -> Answer {
    let (level, len) = (libc::SOL_SOCKET, size_of_val(&value));
    // SAFETY: an int, of that length.
    unsafe { sys!(SYS_setsockopt, fd, level, name, &raw const value, len) }
}

/// A time limit (`SO_RCVTIMEO`, `SO_SNDTIMEO`), where set.
pub(crate) fn time_limit(fd: RawFd, name: c_int) -> Option<Duration> {
    let none = libc::timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    // SAFETY: any bytes are two longs.
    let time = unsafe { get(fd, name, none) }.ok()?;
    let micros = u32::try_from(time.tv_usec).ok()?;
    let limit = Duration::new(time.tv_sec.try_into().ok()?, micros * 1000);
    (!limit.is_zero()).then_some(limit)
}

/// Whether the close of the socket waits (`SO_LINGER`).
pub(crate) fn lingers(fd: RawFd) -> bool {
    let none = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    // SAFETY: any bytes are two ints.
    let linger = unsafe { get(fd, libc::SO_LINGER, none) };
    linger.is_ok_and(|linger| linger.l_onoff != 0 && linger.l_linger > 0)
}

/// What tells a socket from all others that ever were; `None` for other files.
pub(crate) fn cookie(fd: RawFd) -> Option<u64> {
    // SAFETY: any bytes are a number.
    unsafe { get(fd, libc::SO_COOKIE, 0) }
        .ok()
        .filter(|&cookie| cookie != 0)
}

/// Whether the error queue of a socket may hold something: not if the socket is
/// charged for nothing received (which time stamps are) and no options (which reports
/// of `MSG_ZEROCOPY` are). Not a socket: no.
pub(crate) fn may_queue_errors(fd: RawFd) -> bool {
    /// `SK_MEMINFO_VARS` of them, in the kernel's order.
    const SO_MEMINFO: c_int = 55;
    const RECEIVED: usize = 0;
    const OPTIONS: usize = 6;
    // SAFETY: any bytes are numbers.
    let charged = unsafe { get(fd, SO_MEMINFO, [0_u32; 9]) };
    charged.is_ok_and(|charged| charged[RECEIVED] | charged[OPTIONS] != 0)
}

/// Whether `fd` is a socket that listens.
pub(crate) fn listens(fd: RawFd) -> bool {
    number(fd, libc::SO_ACCEPTCONN) == Ok(1)
}

/// Whether the socket, or the one that it is connected to, has a name.
pub(crate) fn has_name(fd: RawFd) -> bool {
    let named = |call: c_long| {
        let mut address = [0_u8; size_of::<libc::sockaddr_storage>()];
        let mut len = address.len() as libc::socklen_t;
        let args = [
            fd as usize,
            address.as_mut_ptr().expose_provenance(),
            (&raw mut len).expose_provenance(),
            0,
            0,
            0,
        ];
        // SAFETY: a place of `len` bytes.
        let got = unsafe { syscall(call, args) };
        // The family alone is no name.
        got.is_ok() && len as usize > size_of::<libc::sa_family_t>()
    };
    named(libc::SYS_getpeername) || named(libc::SYS_getsockname)
}

/// Whether `fd` is a TCP connection (or listener). Anything else, a closed
/// descriptor included, is not.
pub(crate) fn is_tcp_stream(fd: RawFd) -> bool {
    // A raw IP socket may have TCP's protocol number, and other families
    // have other meanings for it.
    number(fd, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP)
        && number(fd, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
        && matches!(
            number(fd, libc::SO_DOMAIN),
            Ok(libc::AF_INET | libc::AF_INET6)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_tcp_is_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (unix, _) = UnixStream::pair().unwrap();
        let (pipe, _) = io::pipe().unwrap();
        assert!(is_tcp_stream(tcp.as_raw_fd()));
        assert!(!is_tcp_stream(udp.as_raw_fd()));
        assert!(!is_tcp_stream(unix.as_raw_fd()));
        assert!(!is_tcp_stream(pipe.as_raw_fd()));
        assert!(!is_tcp_stream(-1));
    }

    #[test]
    fn options_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listens(listener.as_raw_fd()) && !listens(udp.as_raw_fd()) && !listens(-1));
        assert_eq!(number(-1, libc::SO_TYPE), Err(libc::EBADF));
        assert_eq!(time_limit(udp.as_raw_fd(), libc::SO_RCVTIMEO), None);
        let limit = Duration::from_millis(1500);
        udp.set_read_timeout(Some(limit)).unwrap();
        assert_eq!(time_limit(udp.as_raw_fd(), libc::SO_RCVTIMEO), Some(limit));
        let cookies = [&listener.as_raw_fd(), &udp.as_raw_fd()].map(|&fd| cookie(fd));
        assert!(cookies[0].is_some() && cookies[1].is_some() && cookies[0] != cookies[1]);
        assert_eq!(cookie(io::pipe().unwrap().0.as_raw_fd()), None);
    }
}
