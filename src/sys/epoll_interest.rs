//! What an epoll waits for, as the kernel lists it in `/proc`.

use std::ffi::CString;
use std::os::fd::RawFd;

use libc::epoll_event;

use super::proc;
use super::syscall::Errno;

/// A descriptor that an epoll waits for.
pub(crate) struct Interest {
    pub(crate) fd: RawFd,
    /// What it waits for, and what its caller wants to be told.
    pub(crate) event: epoll_event,
}

/// All that the epoll waits for; nothing where there is no `/proc`.
pub(crate) fn read(epoll: RawFd) -> impl Iterator<Item = Interest> {
    let text = text(epoll).unwrap_or_default();
    let lines = text.lines().filter_map(parse).collect::<Vec<_>>();
    lines.into_iter()
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:...`, all but the
/// first in hexadecimal.
fn parse(line: &str) -> Option<Interest> {
    let mut words = line.split_ascii_whitespace();
    let mut value = |name: &str| words.next().filter(|&word| word == name).and(words.next());
    let fd = value("tfd:")?.parse().ok()?;
    let events = u32::from_str_radix(value("events:")?, 16).ok()?;
    let data = u64::from_str_radix(value("data:")?, 16).ok()?;
    let event = epoll_event { events, u64: data };
    Some(Interest { fd, event })
}

fn text(epoll: RawFd) -> Result<String, Errno> {
    let path = CString::new(format!("/proc/thread-self/fdinfo/{epoll}"));
    proc::read(&path.expect("a number has no nul"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    #[test]
    fn an_epoll_says_what_it_waits_for() {
        let (pipe, into) = std::io::pipe().unwrap();
        // SAFETY: no pointers; made just now; a live event.
        let epoll = unsafe {
            let epoll = OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC));
            for (fd, events, data) in [
                (
                    pipe.as_raw_fd(),
                    libc::EPOLLIN | libc::EPOLLET,
                    u64::MAX - 5,
                ),
                (into.as_raw_fd(), libc::EPOLLOUT, 7),
            ] {
                let mut event = epoll_event {
                    events: events as u32,
                    u64: data,
                };
                let add = libc::EPOLL_CTL_ADD;
                assert_eq!(
                    libc::epoll_ctl(epoll.as_raw_fd(), add, fd, &raw mut event),
                    0
                );
            }
            epoll
        };
        let mut seen: Vec<_> = read(epoll.as_raw_fd())
            .map(|one| {
                let wanted = one.event.events & (libc::EPOLLIN | libc::EPOLLOUT) as u32;
                (one.fd, wanted, { one.event.u64 })
            })
            .collect();
        seen.sort_unstable();
        let expected = [
            (pipe.as_raw_fd(), libc::EPOLLIN as u32, u64::MAX - 5),
            (into.as_raw_fd(), libc::EPOLLOUT as u32, 7),
        ];
        assert_eq!(seen, expected);
        assert_eq!(read(pipe.as_raw_fd()).count(), 0);
        assert_eq!(read(-1).count(), 0);
    }
}
