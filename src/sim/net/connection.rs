//! A TCP connection: its two ends, and what is under way between them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::link::Nanos;
use super::socket::Cookie;
use crate::sys::fd::own::OwnFd;

/// Bytes of a connection that the wire has, each way, before it takes no more: with what
/// the kernel's Unix sockets hold at both ends, what TCP's buffers do.
pub(super) const WINDOW: usize = 256 << 10;

/// What is sent from one end to the other, in order.
#[derive(Debug)]
pub(super) enum Item {
    Syn,
    SynAck,
    Bytes(Vec<u8>),
    Fin,
}

impl Item {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    pub(super) fn is_handshake(&self) -> bool {
        matches!(self, Self::Syn | Self::SynAck)
    }
}

/// One end.
pub(super) struct Side {
    pub(super) node: usize,
    pub(super) address: SocketAddr,
    /// The program's socket; `None` until it is accepted.
    pub(super) socket: Option<Cookie>,
    /// The other end of the program's socket; `None` when the program's is closed, or
    /// reset, or not there yet.
    pub(super) wire: Option<OwnFd>,
    /// The program has ended its sending.
    pub(super) fin_sent: bool,
    /// The program has heard that nothing more comes.
    pub(super) fin_told: bool,
    /// The program has called `shutdown` for both ways: it is not its `close` that we see.
    pub(super) shut: bool,
    /// A close is a reset (`SO_LINGER` of no time).
    pub(super) lingers_not: bool,
}

impl Side {
    pub(super) fn new(node: usize, address: SocketAddr) -> Self {
        Self {
            node,
            address,
            socket: None,
            wire: None,
            fin_sent: false,
            fin_told: false,
            shut: false,
            lingers_not: false,
        }
    }
}

/// One way.
#[derive(Default)]
pub(super) struct Lane {
    /// What has not left: something before it was lost and is sent again.
    pub(super) queue: VecDeque<Item>,
    /// Bytes taken from the sender that the receiver does not have.
    pub(super) held: usize,
    /// The sender has more, for which there was no room.
    pub(super) is_full: bool,
    /// Bytes for which the receiver has no room, and how many of the first it has.
    pub(super) arrived: VecDeque<Vec<u8>>,
    pub(super) offset: usize,
    pub(super) fin_arrived: bool,
    /// Nothing arrives before what was sent before it.
    pub(super) last_arrival: Nanos,
    /// How often the first of the queue was lost, in a row.
    pub(super) attempts: u32,
    /// It waits to be sent again.
    pub(super) stalled: bool,
    /// When it was first lost.
    pub(super) stalled_since: Nanos,
    /// A check for answers that never come is under way.
    pub(super) watched: bool,
}

impl Lane {
    /// Nobody is left who could read it.
    pub(super) fn forget_arrived(&mut self) {
        let bytes: usize = self.arrived.drain(..).map(|piece| piece.len()).sum();
        self.held -= bytes - std::mem::take(&mut self.offset);
    }
}

/// End 0 has connected, end 1 listened. Lane `n` leads away from end `n`.
pub(super) struct Connection {
    pub(super) ends: [Side; 2],
    pub(super) lanes: [Lane; 2],
    /// End 0 knows that end 1 is there. Until then its socket is kept full.
    pub(super) established: bool,
    /// Bytes with which it is.
    pub(super) filled: usize,
}

impl Connection {
    pub(super) fn nodes(&self, lane: usize) -> (usize, usize) {
        (self.ends[lane].node, self.ends[1 - lane].node)
    }
}
