//! Event loops that hear of each change once (`EPOLLET`): `epoll(7)` tells them that a
//! call that was short, or said `EAGAIN`, has left nothing. Where a simulation has left
//! something all the same, they hear of it again.
//!
//! `/proc` says which epolls watch a file, and how. To watch it anew in the same way is to
//! be told what is there now.

use std::fs;
use std::os::fd::RawFd;

use crate::sys::fd::own;
use crate::sys::stat::identity;
use crate::sys::syscall::sys;

/// One file in an epoll.
#[derive(Debug, PartialEq, Eq)]
struct EpollWatch {
    /// The number by which it is known there.
    fd: RawFd,
    events: u32,
    data: u64,
    inode: u64,
}

/// Has every epoll that watches the file tell of what is there. False: one can't.
pub(super) fn tell_again(fd: RawFd) -> bool {
    let Ok((_, inode)) = identity(fd) else {
        return false;
    };
    let mut all = epolls().into_iter();
    all.all(|epoll| {
        let known = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}"));
        let known = known.unwrap_or_default();
        let mut watches = known.lines().filter_map(watch);
        watches.all(|watch| watch.inode != inode || renewed(epoll, &watch))
    })
}

/// The program's epolls.
fn epolls() -> Vec<RawFd> {
    let is_epoll = |fd: &RawFd| {
        let name = fs::read_link(format!("/proc/self/fd/{fd}"));
        name.is_ok_and(|name| name.as_os_str() == "anon_inode:[eventpoll]") && !own::is_own(*fd)
    };
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = numbers.filter(is_epoll).collect();
    found.sort_unstable();
    found
}

/// A line of `/proc/self/fdinfo`: `tfd: 8 events: 8000201d data: 2 pos:0 ino:3c sdev:9`.
fn watch(line: &str) -> Option<EpollWatch> {
    let mut words = line.split([' ', '\t', ':']).filter(|word| !word.is_empty());
    let mut after = |name| {
        words.find(|word| *word == name)?;
        words.next()
    };
    Some(EpollWatch {
        fd: after("tfd")?.parse().ok()?,
        events: u32::from_str_radix(after("events")?, 16).ok()?,
        data: u64::from_str_radix(after("data")?, 16).ok()?,
        inode: u64::from_str_radix(after("ino")?, 16).ok()?,
    })
}

fn renewed(epoll: RawFd, watch: &EpollWatch) -> bool {
    const SOME: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;
    const ONCE: u32 = libc::EPOLLET as u32;
    // By level it tells by itself; one that is not to tell is renewed by its program.
    if watch.events & ONCE == 0 || watch.events & SOME == 0 {
        return true;
    }
    let mut event = libc::epoll_event {
        events: watch.events,
        u64: watch.data,
    };
    let place = &raw mut event;
    // SAFETY: an event, which is only read.
    unsafe { sys!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_MOD, watch.fd, place) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let line = "tfd:        5 events: 8000201d data: ffffffff00000007  pos:0 ino:61af sdev:7";
        let expected = EpollWatch {
            fd: 5,
            events: 0x8000_201d,
            data: 0xffff_ffff_0000_0007,
            inode: 0x61af,
        };
        assert_eq!(watch(line), Some(expected));
        assert_eq!(watch("flags:\t02000002"), None);
    }

    #[test]
    fn what_is_there_is_told_again() {
        let (here, mut there) = UnixStream::pair().unwrap();
        // SAFETY: no pointers; a new descriptor.
        let epoll = unsafe {
            OwnedFd::from_raw_fd(sys!(SYS_epoll_create1, libc::EPOLL_CLOEXEC).unwrap() as RawFd)
        };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET) as u32,
            u64: 42,
        };
        let wait = || {
            let mut told = libc::epoll_event { events: 0, u64: 0 };
            let place = &raw mut told;
            // SAFETY: a place for one event.
            let some =
                unsafe { sys!(SYS_epoll_pwait, epoll.as_raw_fd(), place, 1, 0, 0, 8) }.unwrap();
            (some, { told.u64 })
        };
        // SAFETY: an event.
        unsafe {
            let (epoll, here) = (epoll.as_raw_fd(), here.as_raw_fd());
            sys!(
                SYS_epoll_ctl,
                epoll,
                libc::EPOLL_CTL_ADD,
                here,
                &raw mut event
            )
            .unwrap();
        }
        there.write_all(b"x").unwrap();
        assert_eq!(wait(), (1, 42));
        assert_eq!(wait().0, 0, "it is told once");
        assert!(tell_again(here.as_raw_fd()));
        assert_eq!(wait(), (1, 42));
        assert!(tell_again(there.as_raw_fd()), "nobody watches it");
        assert_eq!(wait().0, 0);
    }
}
