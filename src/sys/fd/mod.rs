//! Descriptors: what the process knows of their numbers ([`table`]), which are the
//! runtime's ([`own`]), and the timer and the counter that are some.

pub(crate) mod bell;
pub(crate) mod nonblocking;
pub(crate) mod own;
pub(crate) mod shared_listener;
pub(crate) mod table;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use self::own::OwnFd;
use super::syscall::{sys, to_io};

/// A one-shot timer on the monotonic clock that epoll can watch.
///
/// It is never read: setting it forgets an expiry, and an edge-triggered
/// poll reports each expiry once.
#[derive(Debug)]
pub(crate) struct TimerFd {
    fd: OwnFd,
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
        let fd = OwnFd::new(unsafe { OwnedFd::from_raw_fd(fd) });
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
/// An edge-triggered poll reports each write, so it need not be read; and no
/// machine lives to see it full.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = to_io(unsafe { sys!(SYS_eventfd2, 0, libc::EFD_CLOEXEC) })?;
        // SAFETY: made just now, and nobody else's.
        let fd = OwnFd::new(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        Ok(Self { fd })
    }

    /// Ends a wait, now or the next one. May be called anywhere: in a coroutine
    /// with locks held, and in a signal handler.
    pub(crate) fn signal(&self) {
        let one = 1_u64;
        // SAFETY: a live value of eight bytes. (It does not block: nobody writes
        // 2⁶⁴ times.)
        let _ = unsafe { sys!(SYS_write, self.fd.as_raw_fd(), &raw const one, 8) };
    }

    /// Blocks the thread, not just a coroutine, until somebody has notified since
    /// the last wait. May return early.
    pub(crate) fn wait(&self) {
        let mut count = 0_u64;
        // SAFETY: a live place of eight bytes.
        let _ = unsafe { sys!(SYS_read, self.fd.as_raw_fd(), &raw mut count, 8) };
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl EventFd {
    /// It stays open for ever.
    pub(crate) fn leak(self) -> RawFd {
        self.fd.leak()
    }
}

/// An epoll does not watch the number any more, if it did. May be called anywhere.
pub(crate) fn unwatch(epoll: RawFd, fd: RawFd) {
    // SAFETY: no pointer is read: this operation takes no event.
    let _ = unsafe { sys!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_DEL, fd, 0) };
}

/// Descriptors behind the back of every hook, for tests.
#[cfg(test)]
pub(crate) mod unseen {
    use std::os::fd::IntoRawFd;

    use super::{AsRawFd, FromRawFd, OwnedFd, RawFd, sys};

    /// Closes by the system call itself.
    pub(crate) fn close(fd: OwnedFd) {
        // SAFETY: the descriptor is ours, and given up.
        unsafe { sys!(SYS_close, fd.into_raw_fd()) }.unwrap();
    }

    /// Makes `target`'s number mean the file of `source`.
    pub(crate) fn replace(source: &OwnedFd, target: &OwnedFd) {
        // SAFETY: both are open and ours; dup3 takes no pointers.
        unsafe { sys!(SYS_dup3, source.as_raw_fd(), target.as_raw_fd(), 0) }.unwrap();
    }

    /// A second descriptor of `source`'s file with a number that was free.
    pub(crate) fn open_as(source: &OwnedFd, number: RawFd) -> OwnedFd {
        // SAFETY: no pointers; the caller's number is free.
        let fd = unsafe { sys!(SYS_dup3, source.as_raw_fd(), number, 0) }.unwrap();
        // SAFETY: made just now.
        unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
    }

    /// An eventfd, not blocking.
    pub(crate) fn eventfd() -> OwnedFd {
        // SAFETY: no pointers.
        let fd = unsafe { sys!(SYS_eventfd2, 0, libc::EFD_NONBLOCK) }.unwrap();
        // SAFETY: made just now.
        unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
    }

    /// Sends one byte of urgent data.
    pub(crate) fn send_urgent(fd: RawFd, byte: u8) {
        let place = &raw const byte;
        // SAFETY: one readable byte.
        let sent = unsafe { sys!(SYS_sendto, fd, place, 1, libc::MSG_OOB, 0, 0) };
        assert_eq!(sent, Ok(1));
    }
}
