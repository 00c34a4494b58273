//! The programs' Internet sockets and their ports: what the kernel, to which they are
//! Unix sockets, does not know of them.
//!
//! A socket is known by its cookie, which it shares with no other that ever was, so that
//! duplicates of descriptors and numbers that are used again are no matter. Nobody says
//! when the last descriptor is closed: from time to time those that are gone are swept
//! out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::c_int;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use super::address;
use super::wire::UnixName;
use crate::sys::fd::own::OwnFd;
use crate::sys::sockopt;
use crate::sys::syscall::Errno;

/// What tells a socket from all others.
pub(super) type Cookie = u64;

/// Linux's range of ports for who does not care.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// A program's socket.
pub(super) struct Socket {
    pub(super) node: usize,
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: c_int,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) phase: Phase,
    /// What the next call is told (`SO_ERROR`).
    pub(super) error: Option<Errno>,
    /// Options that the kernel's Unix socket does not have.
    pub(super) options: BTreeMap<(c_int, c_int), Vec<u8>>,
    /// Its Unix socket was connected, in vain, and cannot be once more.
    pub(super) spent: bool,
}

/// How far a socket has come.
pub(super) enum Phase {
    /// A TCP socket that is nothing yet.
    Fresh,
    Listening {
        name: UnixName,
        /// Connections that the kernel has in its queue, in the same order, with the
        /// addresses of both ends: the listener's first.
        pending: VecDeque<(u64, SocketAddr, SocketAddr)>,
    },
    /// On the way to be end 0 of a connection.
    Connecting,
    /// One end of that connection.
    Connected {
        id: u64,
        end: usize,
        /// Whether `connect` has said so.
        told: bool,
    },
    /// The connection could not be made.
    Failed,
    /// The connection was reset.
    Reset,
    /// A UDP socket, and the wire's end of it.
    Datagrams(OwnFd),
}

impl Socket {
    pub(super) fn new(node: usize, family: c_int, phase: Phase) -> Self {
        Self {
            node,
            family,
            local: None,
            peer: None,
            phase,
            error: None,
            options: BTreeMap::new(),
            spent: false,
        }
    }

    pub(super) fn is_udp(&self) -> bool {
        matches!(self.phase, Phase::Datagrams(_))
    }

    /// Whether a whole-number option is set, and not to 0.
    pub(super) fn is_on(&self, level: c_int, name: c_int) -> bool {
        let value = self.options.get(&(level, name));
        value.is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0))
    }

    /// An unsigned option.
    pub(super) fn number(&self, level: c_int, name: c_int) -> Option<u32> {
        let bytes = self.options.get(&(level, name))?;
        Some(u32::from_ne_bytes(*bytes.first_chunk()?))
    }

    /// Whether what is sent to that address is for it.
    pub(super) fn hears(&self, ip: IpAddr) -> bool {
        let only_v6 = self.is_on(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
        let bound = self.local.map(|local| local.ip());
        bound.is_some_and(|bound| address::accepts(bound, ip)) && !(only_v6 && ip.is_ipv4())
    }

    /// Whether its close is to be a reset: `SO_LINGER`, and no time.
    pub(super) fn lingers_not(&self) -> bool {
        let linger = self.options.get(&(libc::SOL_SOCKET, libc::SO_LINGER));
        linger.is_some_and(|bytes| {
            let (on, time) = bytes.split_at(bytes.len().min(4));
            on.iter().any(|&byte| byte != 0) && time.iter().all(|&byte| byte == 0)
        })
    }

    /// Whether two sockets may not have the same port: `self` is there already.
    fn excludes(&self, new: &Socket, ip: IpAddr) -> bool {
        let Some(own) = self.local else { return false };
        let apart = |one: &Socket, other: IpAddr| {
            other.is_ipv4() && one.is_on(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)
        };
        let meet = address::accepts(own.ip(), ip) || address::accepts(ip, own.ip());
        if !meet || apart(self, ip) || apart(new, own.ip()) {
            return false;
        }
        let both = |name| self.is_on(libc::SOL_SOCKET, name) && new.is_on(libc::SOL_SOCKET, name);
        let listens = matches!(self.phase, Phase::Listening { .. });
        !(both(libc::SO_REUSEPORT) || both(libc::SO_REUSEADDR) && !listens)
    }
}

/// All sockets, and who has which port.
#[derive(Default)]
pub(super) struct Sockets {
    all: HashMap<Cookie, Socket>,
    ports: BTreeMap<PortKey, Vec<Cookie>>,
    /// Of each node, the ephemeral port that is tried next.
    next_port: BTreeMap<(usize, bool), u16>,
    /// As many as this are swept.
    limit: usize,
}

/// A port: the node, whether it is UDP's, the number.
type PortKey = (usize, bool, u16);

impl Sockets {
    pub(super) fn get(&self, cookie: Cookie) -> Option<&Socket> {
        self.all.get(&cookie)
    }

    pub(super) fn get_mut(&mut self, cookie: Cookie) -> Option<&mut Socket> {
        self.all.get_mut(&cookie)
    }

    /// The socket of a descriptor.
    pub(super) fn find(&self, fd: RawFd) -> Option<(Cookie, &Socket)> {
        let cookie = sockopt::cookie(fd)?;
        Some((cookie, self.all.get(&cookie)?))
    }

    pub(super) fn add(&mut self, fd: RawFd, socket: Socket) {
        const FEW: usize = 256;
        if self.all.len() >= self.limit.max(FEW) {
            self.sweep();
            self.limit = 2 * self.all.len();
        }
        if let Some(cookie) = sockopt::cookie(fd) {
            self.all.insert(cookie, socket);
        }
    }

    /// A socket is another descriptor's from here on.
    pub(super) fn rename(&mut self, from: Cookie, to: Cookie) {
        if let Some(socket) = self.all.remove(&from) {
            self.all.insert(to, socket);
        }
        let holders = self.ports.values_mut().flatten();
        holders
            .filter(|cookie| **cookie == from)
            .for_each(|it| *it = to);
    }

    pub(super) fn remove(&mut self, cookie: Cookie) -> Option<Socket> {
        let socket = self.all.remove(&cookie)?;
        if let Some(local) = socket.local {
            self.give_back((socket.node, socket.is_udp(), local.port()), cookie);
        }
        Some(socket)
    }

    fn give_back(&mut self, port: PortKey, cookie: Cookie) {
        if let Some(holders) = self.ports.get_mut(&port) {
            holders.retain(|holder| *holder != cookie);
            if holders.is_empty() {
                self.ports.remove(&port);
            }
        }
    }

    /// Gives a socket its local address; port 0 is any that is free.
    pub(super) fn bind(&mut self, cookie: Cookie, addr: SocketAddr) -> Result<(), Errno> {
        let socket = self.all.get(&cookie).ok_or(libc::EBADF)?;
        let (node, udp) = (socket.node, socket.is_udp());
        let number = match addr.port() {
            0 => self.ephemeral(node, udp).ok_or(libc::EADDRINUSE)?,
            number => number,
        };
        if self.is_taken(cookie, addr.ip(), number) {
            self.sweep();
            if self.is_taken(cookie, addr.ip(), number) {
                return Err(libc::EADDRINUSE);
            }
        }
        let socket = self.all.get_mut(&cookie).ok_or(libc::EBADF)?;
        socket.local = Some(SocketAddr::new(addr.ip(), number));
        let holders = self.ports.entry((node, udp, number)).or_default();
        holders.push(cookie);
        Ok(())
    }

    /// Whether another listens where the socket wants to.
    pub(super) fn another_listens(&self, cookie: Cookie) -> bool {
        let address = self.get(cookie).and_then(|socket| socket.local);
        address.is_some_and(|local| {
            let others = self.at(self.all[&cookie].node, false, local.port());
            others.into_iter().any(|other| {
                let there = &self.all[&other];
                other != cookie
                    && matches!(there.phase, Phase::Listening { .. })
                    && there.excludes(&self.all[&cookie], local.ip())
            })
        })
    }

    fn is_taken(&self, cookie: Cookie, ip: IpAddr, number: u16) -> bool {
        let Some(socket) = self.get(cookie) else {
            return false;
        };
        let holders = self.at(socket.node, socket.is_udp(), number);
        let mut others = holders.into_iter().filter(|holder| *holder != cookie);
        others.any(|other| self.all[&other].excludes(socket, ip))
    }

    /// The sockets that have a port, in the order in which they got it.
    pub(super) fn at(&self, node: usize, udp: bool, number: u16) -> Vec<Cookie> {
        let holders = self.ports.get(&(node, udp, number));
        let holders = holders.into_iter().flatten().copied();
        holders
            .filter(|cookie| self.all.contains_key(cookie))
            .collect()
    }

    fn ephemeral(&mut self, node: usize, udp: bool) -> Option<u16> {
        let first = *EPHEMERAL.start();
        for swept in [false, true] {
            for _ in EPHEMERAL {
                let next = self.next_port.entry((node, udp)).or_insert(first);
                let port = *next;
                *next = if port == *EPHEMERAL.end() {
                    first
                } else {
                    port + 1
                };
                if !self.ports.contains_key(&(node, udp, port)) {
                    return Some(port);
                }
            }
            if !swept {
                self.sweep();
            }
        }
        None
    }

    /// The descriptors of a node's sockets.
    pub(super) fn of(&self, node: usize) -> Vec<RawFd> {
        let is_its = |cookie| self.get(cookie).is_some_and(|it| it.node == node);
        let open = open_sockets().into_iter();
        let its = open.filter(|(_, cookie)| is_its(*cookie));
        its.map(|(fd, _)| fd).collect()
    }

    /// Forgets those that no descriptor is left of.
    fn sweep(&mut self) {
        let open: HashSet<_> = open_sockets().into_iter().map(|(_, it)| it).collect();
        let gone = self.all.keys().filter(|cookie| !open.contains(cookie));
        for cookie in gone.copied().collect::<Vec<_>>() {
            self.remove(cookie);
        }
    }

    /// Forgets a node's sockets, and says which descriptors they have.
    pub(super) fn remove_all(&mut self, node: usize) -> Vec<RawFd> {
        let is_its = |cookie| self.get(cookie).is_some_and(|it| it.node == node);
        let found = self.of(node);
        let all: Vec<_> = self.all.keys().copied().filter(|it| is_its(*it)).collect();
        for cookie in all {
            self.remove(cookie);
        }
        found
    }
}

/// The process's descriptors of sockets, in order.
fn open_sockets() -> Vec<(RawFd, Cookie)> {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = numbers
        .filter_map(|fd| Some((fd, sockopt::cookie(fd)?)))
        .collect();
    found.sort_unstable();
    found
}
