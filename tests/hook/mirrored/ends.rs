//! The ends of which a world is made: each kind of descriptor that bytes go through.

use std::ffi::c_int;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use crate::files::path;
use crate::hook_common::tcp_pair;

/// What a pair of ends is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pipe,
    Fifo,
    Tcp,
    Udp,
    UnixStream,
    UnixDatagram,
    UnixPacket,
    Terminal,
    /// Of one end, twice.
    Eventfd,
    File,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Pipe,
        Self::Fifo,
        Self::Tcp,
        Self::Udp,
        Self::UnixStream,
        Self::UnixDatagram,
        Self::UnixPacket,
        Self::Terminal,
        Self::Eventfd,
        Self::File,
    ];

    /// Two ends: what is written to the second is read from the first.
    pub(super) fn ends(self) -> [OwnedFd; 2] {
        match self {
            Self::Pipe => small(
                std::io::pipe()
                    .map(|(from, to)| [from.into(), to.into()])
                    .unwrap(),
            ),
            Self::Fifo => small(fifo()),
            Self::Tcp => {
                let (a, b) = tcp_pair();
                a.set_nodelay(true).unwrap();
                b.set_nodelay(true).unwrap();
                [a.into(), b.into()]
            }
            Self::Udp => {
                let [a, b] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
                a.connect(b.local_addr().unwrap()).unwrap();
                b.connect(a.local_addr().unwrap()).unwrap();
                [a.into(), b.into()]
            }
            Self::UnixStream => socketpair(libc::SOCK_STREAM),
            Self::UnixDatagram => socketpair(libc::SOCK_DGRAM),
            Self::UnixPacket => socketpair(libc::SOCK_SEQPACKET),
            Self::Terminal => terminal(),
            Self::Eventfd => {
                // SAFETY: no pointers.
                let fd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
                [fd.try_clone().unwrap(), fd]
            }
            Self::File => {
                let file = crate::files::file();
                file.set_len(3000).unwrap();
                [file.try_clone().unwrap().into(), file.into()]
            }
        }
    }

    pub(super) fn is_socket(self) -> bool {
        use Kind::{Tcp, Udp, UnixDatagram, UnixPacket, UnixStream};
        matches!(self, Tcp | Udp | UnixStream | UnixDatagram | UnixPacket)
    }
}

/// With room for one page.
fn small(ends: [OwnedFd; 2]) -> [OwnedFd; 2] {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(ends[0].as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    ends
}

fn fifo() -> [OwnedFd; 2] {
    let path = path();
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let open = |how: c_int| {
        // SAFETY: a path.
        let fd = unsafe { libc::open(name.as_ptr(), how) };
        assert!(fd >= 0);
        // SAFETY: made just now.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let from = open(libc::O_RDONLY | libc::O_NONBLOCK);
    let to = open(libc::O_WRONLY);
    set_nonblocking(from.as_raw_fd(), false);
    std::fs::remove_file(path).unwrap();
    [from, to]
}

/// With as little room as can be.
fn socketpair(kind: c_int) -> [OwnedFd; 2] {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: places for two descriptors and an int, and one of that length.
    unsafe {
        assert_eq!(
            libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()),
            0
        );
        for fd in ends {
            let (size, len) = (4096_i32, 4);
            let size = (&raw const size).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, size, len);
        }
        ends.map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// A raw one: its slave is read, its master written.
fn terminal() -> [OwnedFd; 2] {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: places for two descriptors; a termios of our own.
    unsafe {
        let opened = libc::openpty(
            &mut master,
            &mut slave,
            none,
            std::ptr::null(),
            std::ptr::null(),
        );
        assert_eq!(opened, 0);
        let mut modes: libc::termios = std::mem::zeroed();
        libc::tcgetattr(slave, &mut modes);
        libc::cfmakeraw(&mut modes);
        libc::tcsetattr(slave, libc::TCSANOW, &modes);
        [slave, master].map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

pub(super) fn set_nonblocking(fd: RawFd, yes: bool) {
    // SAFETY: no pointers.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK;
        libc::fcntl(
            fd,
            libc::F_SETFL,
            flags | if yes { libc::O_NONBLOCK } else { 0 },
        );
    }
}
