//! UDP: datagrams from the call that sends them to the wire end of a socket.
//!
//! On the wire each has a header: who has sent it, or that there is an error to be told,
//! which makes the socket readable.

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use super::address::{self, Route};
use super::socket::{Cookie, Phase};
use super::state::{Net, NetEvent, Packet};
use super::wire;
use crate::sys::syscall::{Answer, Errno, sys, uninterrupted};

/// Bytes before each datagram: what it is, a port, an address.
pub(super) const HEADER: usize = 20;
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// No datagram is longer.
const LONGEST: usize = 65_507;

/// What has been received.
pub(super) struct Got {
    pub(super) count: usize,
    pub(super) from: Option<SocketAddr>,
    pub(super) flags: c_int,
}

impl Net {
    pub(super) fn connect_datagrams(&mut self, cookie: Cookie, addr: SocketAddr) -> Answer {
        let to = SocketAddr::new(address::target(addr.ip()), addr.port());
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        let own = match address::route(socket.node, self.names.len(), to.ip()) {
            Route::Node(_, own) => own,
            Route::Nobody => address::of_node(socket.node).into(),
            Route::Outside => return Err(libc::ENETUNREACH),
        };
        self.bind_anywhere(cookie)?;
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        let local = socket.local.as_mut();
        if let Some(local) = local.filter(|local| local.ip().is_unspecified()) {
            local.set_ip(own);
        }
        socket.peer = Some(to);
        Ok(0)
    }

    pub(super) fn send_datagram(
        &mut self,
        cookie: Cookie,
        to: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) -> Answer {
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        if let Some(code) = socket.error.take() {
            return Err(code);
        }
        let to = to.or(socket.peer).ok_or(libc::EDESTADDRREQ)?;
        if to.is_ipv6() && socket.family == libc::AF_INET {
            return Err(libc::EAFNOSUPPORT);
        }
        let count = bytes.len();
        if count > LONGEST {
            return Err(libc::EMSGSIZE);
        }
        let to = SocketAddr::new(address::target(to.ip()), to.port());
        let node = socket.node;
        let (target, own) = match address::route(node, self.names.len(), to.ip()) {
            Route::Node(target, own) => (target, own),
            // It goes out, and no one is there.
            Route::Nobody => return Ok(count),
            Route::Outside => return Err(libc::ENETUNREACH),
        };
        let mut from = self.bind_anywhere(cookie)?;
        if from.ip().is_unspecified() {
            from.set_ip(own);
        }
        for at in self.links.arrivals(self.now, node, target, count) {
            let packet = Packet {
                sender: cookie,
                nodes: (node, target),
                from,
                to,
                bytes: bytes.clone(),
            };
            self.schedule(at, NetEvent::Datagram(packet));
        }
        Ok(count)
    }

    /// A datagram arrives: at the socket that is connected to its sender, or else at one
    /// that is connected to nobody.
    pub(super) fn deliver(&mut self, packet: Packet) {
        let at = self.sockets.at(packet.nodes.1, true, packet.to.port());
        let mut found: Vec<(bool, Cookie)> = at
            .into_iter()
            .filter_map(|cookie| {
                let socket = self.sockets.get(cookie)?;
                let from = socket.peer.unwrap_or(packet.from);
                let is_its = socket.hears(packet.to.ip()) && from == packet.from;
                is_its.then_some((socket.peer.is_none(), cookie))
            })
            .collect();
        found.sort_by_key(|(unconnected, _)| *unconnected);
        for (_, cookie) in found {
            let Some(socket) = self.sockets.get(cookie) else {
                continue;
            };
            let Phase::Datagrams(end) = &socket.phase else {
                continue;
            };
            let header = header(DATA, packet.from);
            match wire::send_parts(end.as_raw_fd(), [&header, &packet.bytes]) {
                Err(libc::ECONNREFUSED | libc::EPIPE | libc::ECONNRESET) => {
                    // It is closed.
                    self.sockets.remove(cookie);
                }
                // If its buffer is full the datagram is lost.
                _ => return,
            }
        }
        let (from, to) = packet.nodes;
        if !self.links.loses(to, from) {
            let at = self.links.arrival(self.now, to, from, 0);
            self.schedule(at, NetEvent::Unreachable(packet.sender, packet.to));
        }
    }

    pub(super) fn unreachable(&mut self, sender: Cookie, to: SocketAddr) {
        let Some(socket) = self.sockets.get_mut(sender) else {
            return;
        };
        let Phase::Datagrams(end) = &socket.phase else {
            return;
        };
        if socket.peer == Some(to) && socket.error.is_none() {
            let header = header(ERROR, to);
            if wire::send_parts(end.as_raw_fd(), [&header, &[]]).is_ok() {
                socket.error = Some(libc::ECONNREFUSED);
            }
        }
    }

    /// Receives a datagram without its header.
    ///
    /// # Safety
    ///
    /// - The vectors' bytes may be written.
    pub(super) unsafe fn receive(
        &mut self,
        fd: RawFd,
        cookie: Cookie,
        vectors: &[libc::iovec],
        flags: c_int,
    ) -> Result<Got, Errno> {
        if flags & libc::MSG_ERRQUEUE != 0 {
            return Err(libc::EAGAIN);
        }
        loop {
            let mut header = [0_u8; HEADER];
            let mut all = vec![libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: HEADER,
            }];
            all.extend_from_slice(vectors);
            // SAFETY: zeros are a message.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = all.as_mut_ptr();
            message.msg_iovlen = all.len() as _;
            let place = &raw mut message;
            // SAFETY: our header, and the caller's vectors.
            let count = uninterrupted(|| unsafe {
                sys!(SYS_recvmsg, fd, place, flags | libc::MSG_DONTWAIT)
            })?;
            let Some(count) = count.checked_sub(HEADER) else {
                // It was shut down.
                return Ok(Got {
                    count: 0,
                    from: None,
                    flags: 0,
                });
            };
            if header[0] == DATA {
                return Ok(Got {
                    count,
                    from: Some(sender(&header)),
                    flags: message.msg_flags,
                });
            }
            if flags & libc::MSG_PEEK != 0 {
                // An error is not looked at, but told.
                // SAFETY: no place to receive anything.
                let _ = unsafe { sys!(SYS_recvfrom, fd, 0, 0, libc::MSG_DONTWAIT, 0, 0) };
            }
            // Unless another call has told it.
            if let Some(code) = self.sockets.get_mut(cookie).and_then(|it| it.error.take()) {
                return Err(code);
            }
        }
    }
}

fn header(what: u8, addr: SocketAddr) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let ip = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    header[0] = what;
    header[2..4].copy_from_slice(&addr.port().to_ne_bytes());
    header[4..].copy_from_slice(&ip.octets());
    header
}

fn sender(header: &[u8; HEADER]) -> SocketAddr {
    let port = u16::from_ne_bytes([header[2], header[3]]);
    let ip: [u8; 16] = std::array::from_fn(|at| header[4 + at]);
    SocketAddr::new(address::canonical(IpAddr::from(ip)), port)
}
