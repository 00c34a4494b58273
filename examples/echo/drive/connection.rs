//! One connection: at most one message on its way, checked as it comes back.
//!
//! There is no state "connecting": until the connection stands, a write says
//! `WouldBlock`; if it came to nothing, the write says why.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::pattern::Pattern;

/// Connections from one source address to one destination. The kernel hands
/// out 28 232 ports by default, but searches long once half of them are taken.
const PER_SOURCE: usize = 14_000;

/// A connection and the message that it has on its way.
///
/// `received <= sent <= size`; busy while `received < size`.
pub(crate) struct Connection {
    socket: Socket,
    at: usize,
    sent: usize,
    received: usize,
    since: Instant,
}

/// What an event on a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More has to come, or nothing was asked.
    Waiting,
    /// The whole message came back as it was sent.
    Replied,
}

impl Connection {
    /// Starts connecting; [`request`](Self::request) may follow at once.
    pub(crate) fn open(to: SocketAddr, index: usize, pattern: &Pattern) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(to),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        // Closing sends a reset: thousands of ports must not wait in TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(source) = source(to, index) {
            socket.bind(&SockAddr::from(source))?;
        }
        match socket.connect(&to.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        let size = pattern.size();
        Ok(Self {
            socket,
            at: Pattern::start(index),
            sent: size,
            received: size,
            since: Instant::now(),
        })
    }

    /// The file descriptor, for registration.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// When the message on its way was given to the kernel.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether a message is on its way.
    pub(crate) fn is_busy(&self, pattern: &Pattern) -> bool {
        self.received < pattern.size()
    }

    /// Sends the next message, or as much of it as the kernel takes now.
    pub(crate) fn request(&mut self, pattern: &Pattern, now: Instant) -> io::Result<()> {
        debug_assert!(!self.is_busy(pattern), "one message at a time");
        self.at = pattern.after(self.at);
        (self.sent, self.received, self.since) = (0, 0, now);
        self.write(pattern)
    }

    /// Goes on after an event: writes what is left, reads and checks what came.
    pub(crate) fn advance(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> io::Result<Step> {
        self.write(pattern)?;
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Step::Waiting),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.check(pattern, &buffer[..count])?;
            if !self.is_busy(pattern) {
                return Ok(Step::Replied);
            }
            // A short read has drained the socket; the next byte is a new edge.
            if count < buffer.len() {
                return Ok(Step::Waiting);
            }
        }
    }

    fn write(&mut self, pattern: &Pattern) -> io::Result<()> {
        let message = pattern.message(self.at);
        while self.sent < message.len() {
            match self.socket.write(&message[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn check(&mut self, pattern: &Pattern, bytes: &[u8]) -> io::Result<()> {
        let expected = &pattern.message(self.at)[self.received..self.sent];
        if bytes.len() > expected.len() {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "more bytes came back than were sent",
            ));
        }
        if bytes != &expected[..bytes.len()] {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "other bytes came back than were sent",
            ));
        }
        self.received += bytes.len();
        Ok(())
    }
}

/// The source address to bind, where one does not have ports enough: on
/// loopback every address of 127.0.0.0/8 is ours.
fn source(to: SocketAddr, index: usize) -> Option<SocketAddr> {
    let IpAddr::V4(to) = to.ip() else { return None };
    let step = u32::try_from(index / PER_SOURCE)
        .ok()
        .filter(|&step| step > 0 && to.is_loopback())?;
    Some(SocketAddr::from((
        Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + step),
        0,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_gets_more_source_addresses() {
        let loopback = "127.0.0.1:7".parse().unwrap();
        assert_eq!(source(loopback, PER_SOURCE - 1), None);
        assert_eq!(
            source(loopback, PER_SOURCE),
            Some("127.0.0.2:0".parse().unwrap())
        );
        assert_eq!(
            source(loopback, 999_999),
            Some("127.0.0.72:0".parse().unwrap())
        );
        assert_eq!(source("10.0.0.1:7".parse().unwrap(), PER_SOURCE), None);
        assert_eq!(source("[::1]:7".parse().unwrap(), PER_SOURCE), None);
    }
}
