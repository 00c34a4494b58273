//! The network: nodes, their sockets, connections, links, and what is under way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;

use super::address;
use super::connection::{Connection, Item};
use super::link::{Link, LinkTable, Nanos};
use super::socket::{Cookie, Phase, Sockets};
use super::wire::Wire;
use crate::sim::chance::Chance;
use crate::sys::syscall::Errno;

/// The network between the nodes of a simulation; see the [module](super).
pub(crate) struct Net {
    pub(super) now: Nanos,
    pub(super) names: Vec<String>,
    pub(super) links: LinkTable,
    /// For what is no link's.
    pub(super) chance: Chance,
    pub(super) wire: Wire,
    pub(super) sockets: Sockets,
    /// By number, of which none is used twice.
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) serial: u64,
    /// Where bytes lie between two calls of the kernel: a coroutine's stack is small.
    pub(super) room: Vec<u8>,
    /// By time, and in the order in which they were made.
    timeline: BTreeMap<(Nanos, u64), NetEvent>,
}

/// What happens at some time.
pub(super) enum NetEvent {
    /// Something arrives, over a lane.
    Arrive(u64, usize, Item),
    /// What was lost is sent again.
    Retransmit(u64, usize),
    /// A reset arrives at an end.
    Reset(u64, usize),
    /// A connection could not be made.
    Fail(u64, Errno),
    /// An answer to what was sent then over a lane is overdue.
    Overdue(u64, usize, Nanos),
    /// A datagram arrives.
    Datagram(Packet),
    /// A datagram found nobody: its sender, if it is connected to that address.
    Unreachable(Cookie, SocketAddr),
}

/// A datagram under way.
pub(super) struct Packet {
    pub(super) sender: Cookie,
    pub(super) nodes: (usize, usize),
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl NetEvent {
    /// Of which connection, if any.
    fn connection(&self) -> Option<u64> {
        match self {
            Self::Arrive(id, ..)
            | Self::Retransmit(id, _)
            | Self::Reset(id, _)
            | Self::Fail(id, _)
            | Self::Overdue(id, ..) => Some(*id),
            Self::Datagram(_) | Self::Unreachable(..) => None,
        }
    }
}

impl Net {
    /// # Panics
    ///
    /// If the kernel has no descriptors left.
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            now: 0,
            names: Vec::new(),
            links: LinkTable::new(chance.draw()),
            chance,
            wire: Wire::new().expect("descriptors for a network"),
            sockets: Sockets::default(),
            connections: BTreeMap::new(),
            serial: 0,
            room: Vec::new(),
            timeline: BTreeMap::new(),
        }
    }

    /// A further node: 0, 1, … Its address is 10.0.0.1, 10.0.0.2, …
    pub(crate) fn add_node(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// The address of a node.
    pub(crate) fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(address::of_node(at))
    }

    /// The node of an address.
    pub(crate) fn name_of(&self, address: Ipv4Addr) -> Option<&str> {
        let node = address::node_of(address, self.names.len())?;
        Some(&self.names[node])
    }

    /// From here on what is sent from one node to the other goes over such a link.
    pub(crate) fn set_link(&mut self, from: usize, to: usize, link: Link) {
        self.links.set(from, to, link);
    }

    /// Loses all that is sent from one node to the other from here on, or none.
    pub(crate) fn partition(&mut self, from: usize, to: usize, cut: bool) {
        self.links.cut(self.now, from, to, cut);
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.timeline.keys().next().map(|(at, _)| *at)
    }

    /// Does all that is due by then.
    pub(crate) fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        while let Some(first) = self.timeline.first_entry() {
            let at = first.key().0;
            let is_void = first.get().connection();
            let is_void = is_void.is_some_and(|id| !self.connections.contains_key(&id));
            // Nobody is to wait for what means nothing any more.
            if !is_void && at > now {
                break;
            }
            let event = first.remove();
            if !is_void {
                self.happen(event);
            }
        }
    }

    pub(super) fn schedule(&mut self, at: Nanos, event: NetEvent) {
        self.serial += 1;
        self.timeline.insert((at, self.serial), event);
    }

    fn happen(&mut self, event: NetEvent) {
        match event {
            NetEvent::Arrive(id, lane, item) => self.arrive(id, lane, item),
            NetEvent::Retransmit(id, lane) => self.retransmit(id, lane),
            NetEvent::Reset(id, end) => self.reset(id, end, libc::ECONNRESET),
            NetEvent::Fail(id, code) => self.reset(id, 0, code),
            NetEvent::Overdue(id, lane, since) => self.overdue(id, lane, since),
            NetEvent::Datagram(packet) => self.deliver(packet),
            NetEvent::Unreachable(sender, to) => self.unreachable(sender, to),
        }
    }

    /// Takes up what programs have written or closed, and delivers what is due.
    pub(crate) fn pump(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        for token in self.wire.happened() {
            let (id, end) = (token >> 1, (token & 1) as usize);
            self.flush(id, end);
            self.take_up(id, end);
        }
        self.advance(now);
    }

    /// Resets a node's connections at their peers and forgets its sockets. Returns their
    /// descriptors, which the caller closes.
    pub(crate) fn crash(&mut self, node: usize) -> Vec<RawFd> {
        self.pump(self.now);
        let descriptors = self.sockets.remove_all(node);
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            for end in 0..2 {
                let connection = self.connections.get(&id);
                if connection.is_some_and(|it| it.ends[end].node == node) {
                    self.abort(id, end);
                }
            }
        }
        descriptors
    }

    /// Resets all connections between two nodes, at both ends.
    pub(crate) fn reset_all(&mut self, from: usize, to: usize) {
        self.pump(self.now);
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let nodes = self.connections[&id].nodes(0);
            if nodes == (from, to) || nodes == (to, from) {
                self.reset(id, 0, libc::ECONNRESET);
                self.reset(id, 1, libc::ECONNRESET);
            }
        }
    }

    /// What a descriptor is, for who reads a trace: "a:40001 → b:7000".
    pub(crate) fn describe(&self, fd: RawFd) -> Option<String> {
        let (_, socket) = self.sockets.find(fd)?;
        let shown = |addr: SocketAddr| match addr.ip() {
            IpAddr::V4(v4) if self.name_of(v4).is_some() => {
                format!("{}:{}", self.name_of(v4).unwrap_or_default(), addr.port())
            }
            ip if ip.is_loopback() || ip.is_unspecified() => {
                format!("{}:{}", self.names[socket.node], addr.port())
            }
            _ => addr.to_string(),
        };
        Some(match (socket.local, socket.peer) {
            (Some(local), Some(peer)) => format!("{} → {}", shown(local), shown(peer)),
            (Some(local), None) => match socket.phase {
                Phase::Listening { .. } => format!("{} (listening)", shown(local)),
                _ => shown(local),
            },
            (None, Some(peer)) => format!("→ {}", shown(peer)),
            (None, None) => format!("{} (unbound)", self.names[socket.node]),
        })
    }
}
