//! Descriptors: what they are, and the timer and the counter that are some.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::syscall::{six, syscall};

/// A one-shot timer on the monotonic clock that epoll can watch.
///
/// It is never read: setting it forgets an expiry, and an edge-triggered
/// poll reports each expiry once.
#[derive(Debug)]
pub(crate) struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: timerfd_create takes no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was made above and that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Expires once, `delay` from now; at once if that is zero. An earlier
    /// setting is void.
    pub(crate) fn arm(&self, delay: Duration) -> io::Result<()> {
        // Zero would disarm it.
        let delay = delay.max(Duration::from_nanos(1));
        let timer = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: delay.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: delay.subsec_nanos().into(),
            },
        };
        // SAFETY: `timer` outlives the call, which only reads it; a null
        // pointer says that the old setting is not wanted.
        let result =
            unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &timer, ptr::null_mut()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A counter that epoll can watch: what one thread writes ends another's sleep.
///
/// It is never read: an edge-triggered poll reports each write, and no machine
/// lives to see it full.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was made above and that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Past the hooks: the write is the runtime's own, not that of the
    /// coroutine that causes it.
    pub(crate) fn signal(&self) {
        let one = 1u64;
        let args = six([self.fd.as_raw_fd() as usize, (&raw const one).addr(), 8]);
        // SAFETY: eight bytes that can be read, as long as the call takes.
        let written = unsafe { syscall(libc::SYS_write, args) };
        debug_assert_eq!(written, Ok(8), "an open eventfd can be written");
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether `fd` is a TCP connection (or listener). Anything else, a closed
/// descriptor included, is not.
pub(crate) fn is_tcp_stream(fd: RawFd) -> bool {
    // A raw IP socket may have TCP's protocol number, and other families
    // have other meanings for it.
    socket_option(fd, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP)
        && socket_option(fd, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
        && matches!(
            socket_option(fd, libc::SO_DOMAIN),
            Some(libc::AF_INET | libc::AF_INET6)
        )
}

/// An integer option of a socket; `None` if `fd` is no socket.
fn socket_option(fd: RawFd, option: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` and `len` are valid for writes, and `len` is the size
    // of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(value)
}

/// Descriptors behind the back of every hook, for tests.
#[cfg(test)]
pub(crate) mod unseen {
    use super::{FromRawFd, OwnedFd, RawFd, io};

    fn check(result: libc::c_long) -> io::Result<RawFd> {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result as RawFd)
        }
    }

    /// Closes by the system call itself.
    pub(crate) fn close(fd: OwnedFd) {
        use std::os::fd::IntoRawFd;
        // SAFETY: the descriptor is ours, and given up.
        check(unsafe { libc::syscall(libc::SYS_close, fd.into_raw_fd()) }).unwrap();
    }

    /// Makes `target`'s number mean the file of `source`.
    pub(crate) fn replace(source: &OwnedFd, target: &OwnedFd) {
        use std::os::fd::AsRawFd;
        // SAFETY: both are open and ours; dup3 takes no pointers.
        check(unsafe { libc::syscall(libc::SYS_dup3, source.as_raw_fd(), target.as_raw_fd(), 0) })
            .unwrap();
    }

    /// A second descriptor of `source`'s file with a number that was free.
    pub(crate) fn open_as(source: &OwnedFd, number: RawFd) -> OwnedFd {
        use std::os::fd::AsRawFd;
        // SAFETY: no pointers; the caller's number is free.
        let fd = unsafe { libc::syscall(libc::SYS_dup3, source.as_raw_fd(), number, 0) };
        // SAFETY: made just now.
        unsafe { OwnedFd::from_raw_fd(check(fd).unwrap()) }
    }

    /// An eventfd, not blocking.
    pub(crate) fn eventfd() -> OwnedFd {
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        // SAFETY: made just now.
        unsafe { OwnedFd::from_raw_fd(check(fd.into()).unwrap()) }
    }

    /// Sends one byte of urgent data.
    pub(crate) fn send_urgent(fd: RawFd, byte: u8) {
        // SAFETY: one readable byte.
        let sent = unsafe { libc::send(fd, (&raw const byte).cast(), 1, libc::MSG_OOB) };
        assert_eq!(sent, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
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
}
