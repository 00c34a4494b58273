//! A network without programs: one thread makes their calls.

mod connections;
mod datagrams;
mod faults;
mod names;

use std::ffi::{c_int, c_long};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::link::Nanos;
use super::{Link, Net, address};
use crate::sys::ready::poll_now;
use crate::sys::syscall::{Answer, syscall};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

/// Nodes a, b, c, …, and their clock.
struct Lab {
    net: Net,
    now: Nanos,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let mut net = Net::new(seed);
        for name in ["a", "b", "c"] {
            net.add_node(name);
        }
        Self { net, now: 0 }
    }

    /// Links that take 1 ms and not a bit longer.
    fn exact(seed: u64) -> Self {
        let mut lab = Self::new(seed);
        let jitter = std::time::Duration::ZERO;
        lab.links(Link {
            jitter,
            ..Link::default()
        });
        lab
    }

    fn links(&mut self, link: Link) {
        for from in 0..3 {
            for to in 0..3 {
                self.net.set_link(from, to, link);
            }
        }
    }

    fn cut(&mut self, cut: bool) {
        self.net.partition(0, 1, cut);
        self.net.partition(1, 0, cut);
    }

    /// As a program would make it, and the wire sees at once what it did.
    fn call(&mut self, node: usize, number: c_long, args: [usize; 6]) -> Answer {
        // SAFETY: the tests' arguments.
        let answer = unsafe {
            let own = self.net.call(self.now, node, number, args);
            own.unwrap_or_else(|| syscall(number, args))
        };
        self.net.pump(self.now);
        answer
    }

    fn socket(&mut self, node: usize, kind: c_int) -> OwnedFd {
        self.socket_of(node, libc::AF_INET, kind)
    }

    fn socket_of(&mut self, node: usize, family: c_int, kind: c_int) -> OwnedFd {
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let args = [family as usize, kind as usize, 0, 0, 0, 0];
        let fd = self.call(node, libc::SYS_socket, args).unwrap();
        // SAFETY: new.
        unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
    }

    fn named(&mut self, number: c_long, fd: &OwnedFd, addr: &str) -> Answer {
        let addr: SocketAddr = addr.parse().unwrap();
        let family = if addr.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let (mut place, mut len) = ([0_u8; 64], 64 as libc::socklen_t);
        let at = place.as_mut_ptr().expose_provenance();
        // SAFETY: places of that length.
        unsafe { address::write(addr, family, at, (&raw mut len).expose_provenance()) };
        self.call(
            0,
            number,
            [fd.as_raw_fd() as usize, at, len as usize, 0, 0, 0],
        )
    }

    fn bind(&mut self, fd: &OwnedFd, addr: &str) -> Answer {
        self.named(libc::SYS_bind, fd, addr)
    }

    fn connect(&mut self, fd: &OwnedFd, addr: &str) -> Answer {
        self.named(libc::SYS_connect, fd, addr)
    }

    fn listen(&mut self, fd: &OwnedFd, backlog: usize) -> Answer {
        let args = [fd.as_raw_fd() as usize, backlog, 0, 0, 0, 0];
        self.call(0, libc::SYS_listen, args)
    }

    fn listener(&mut self, node: usize, addr: &str) -> OwnedFd {
        let fd = self.socket(node, libc::SOCK_STREAM);
        self.bind(&fd, addr).unwrap();
        self.listen(&fd, 128).unwrap();
        fd
    }

    fn accept(&mut self, fd: &OwnedFd) -> Result<(OwnedFd, SocketAddr), c_int> {
        let (mut place, mut len) = ([0_u8; 64], 64 as libc::socklen_t);
        let at = place.as_mut_ptr().expose_provenance();
        let length = (&raw mut len).expose_provenance();
        let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as usize;
        let args = [fd.as_raw_fd() as usize, at, length, flags, 0, 0];
        let new = self.call(0, libc::SYS_accept4, args)?;
        // SAFETY: new; an address of that length.
        unsafe {
            let from = address::read(at, len as usize).unwrap();
            Ok((OwnedFd::from_raw_fd(new as RawFd), from))
        }
    }

    fn name(&mut self, number: c_long, fd: &OwnedFd) -> Result<SocketAddr, c_int> {
        let (mut place, mut len) = ([0_u8; 64], 64 as libc::socklen_t);
        let at = place.as_mut_ptr().expose_provenance();
        let length = (&raw mut len).expose_provenance();
        self.call(0, number, [fd.as_raw_fd() as usize, at, length, 0, 0, 0])?;
        // SAFETY: an address of that length.
        unsafe { address::read(at, len as usize) }
    }

    fn local(&mut self, fd: &OwnedFd) -> SocketAddr {
        self.name(libc::SYS_getsockname, fd).unwrap()
    }

    fn peer(&mut self, fd: &OwnedFd) -> Result<SocketAddr, c_int> {
        self.name(libc::SYS_getpeername, fd)
    }

    fn option(&mut self, fd: &OwnedFd, level: c_int, name: c_int) -> Result<c_int, c_int> {
        let (mut value, mut len): (c_int, libc::socklen_t) = (-1, 4);
        let args = [
            fd.as_raw_fd() as usize,
            level as usize,
            name as usize,
            (&raw mut value).expose_provenance(),
            (&raw mut len).expose_provenance(),
            0,
        ];
        self.call(0, libc::SYS_getsockopt, args)?;
        Ok(value)
    }

    fn set<T>(&mut self, fd: &OwnedFd, level: c_int, name: c_int, value: T) -> Answer {
        let args = [
            fd.as_raw_fd() as usize,
            level as usize,
            name as usize,
            (&raw const value).expose_provenance(),
            size_of::<T>(),
            0,
        ];
        self.call(0, libc::SYS_setsockopt, args)
    }

    fn error(&mut self, fd: &OwnedFd) -> c_int {
        let error = self.option(fd, libc::SOL_SOCKET, libc::SO_ERROR);
        error.unwrap()
    }

    fn write(&mut self, fd: &OwnedFd, bytes: &[u8]) -> Answer {
        let flags = libc::MSG_NOSIGNAL as usize;
        let at = bytes.as_ptr().expose_provenance();
        let args = [fd.as_raw_fd() as usize, at, bytes.len(), flags, 0, 0];
        self.call(0, libc::SYS_sendto, args)
    }

    fn read(&mut self, fd: &OwnedFd, most: usize) -> Result<Vec<u8>, c_int> {
        let mut bytes = vec![0; most];
        let at = bytes.as_mut_ptr().expose_provenance();
        let args = [fd.as_raw_fd() as usize, at, most, 0, 0, 0];
        let count = self.call(0, libc::SYS_read, args)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn shut(&mut self, fd: &OwnedFd, how: c_int) {
        let args = [fd.as_raw_fd() as usize, how as usize, 0, 0, 0, 0];
        self.call(0, libc::SYS_shutdown, args).unwrap();
    }

    fn close(&mut self, fd: OwnedFd) {
        drop(fd);
        self.net.pump(self.now);
    }

    /// Lets time pass.
    fn pass(&mut self, time: Nanos) {
        let end = self.now + time;
        while let Some(at) = self.net.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.net.advance(self.now);
            self.net.pump(self.now);
        }
        self.now = end;
        self.net.advance(end);
    }

    /// Lets time pass until the descriptor is ready.
    ///
    /// # Panics
    ///
    /// If it never is.
    fn until(&mut self, fd: &OwnedFd, events: i16) -> Nanos {
        while poll_now(fd.as_raw_fd(), events) == 0 {
            let next = self.net.next().expect("it never gets ready");
            self.now = self.now.max(next);
            self.net.advance(self.now);
            self.net.pump(self.now);
        }
        self.now
    }

    /// A connection from node a to node b, which listens at port 80.
    fn pair(&mut self) -> [OwnedFd; 2] {
        let listener = self.listener(1, "0.0.0.0:80");
        let client = self.socket(0, libc::SOCK_STREAM);
        assert_eq!(self.connect(&client, "10.0.0.2:80"), Err(libc::EINPROGRESS));
        self.until(&client, libc::POLLOUT);
        assert_eq!(self.error(&client), 0);
        let (server, _) = self.accept(&listener).unwrap();
        [client, server]
    }

    fn ready(&self, fd: &OwnedFd) -> i16 {
        poll_now(fd.as_raw_fd(), libc::POLLIN | libc::POLLOUT)
    }
}
