//! TCP between the wire's ends: handshakes, bytes in order, ends and resets.
//!
//! What a program writes is taken from its wire end, travels, and is written to the
//! other's. What is lost is sent again, later and later, and all that was sent after it
//! waits. The acknowledgements are not sent, only missed: who has sent something over a
//! link whose way back is cut gives up as if none had come.

use std::mem;
use std::os::fd::AsRawFd;

use super::connection::{Item, Side, WINDOW};
use super::link::Nanos;
use super::socket::{Cookie, Phase, Socket};
use super::state::{Net, NetEvent};
use super::wire;
use crate::sys::fd::own::OwnFd;
use crate::sys::syscall::Errno;

const SECOND: Nanos = 1_000_000_000;

/// Bytes of a packet.
const PACKET: usize = 1460;
/// Packets that may arrive as one.
const MERGED: u64 = 4;
/// Bytes taken at once.
const PIECE: usize = 1 << 16;

/// A handshake is tried this often: for 127 s.
const TRIES: u32 = 7;
/// The time until something is sent again the first time, and the longest.
const FIRST_PAUSE: Nanos = SECOND / 5;
const LAST_PAUSE: Nanos = 120 * SECOND;
/// Who has heard nothing for so long gives up (15 tries).
const PATIENCE: Nanos = 924_600_000_000;

/// What was found at the end of what a program has written.
enum Tail {
    More,
    /// It sends no more.
    End,
    /// It has closed the socket and left bytes unread.
    Unread,
}

impl Net {
    /// Sends what is queued, up to what is lost.
    pub(super) fn transmit(&mut self, id: u64, lane: usize) {
        while let Some(connection) = self.connections.get_mut(&id) {
            let (from, to) = connection.nodes(lane);
            let way = &mut connection.lanes[lane];
            let (false, Some(item)) = (way.stalled, way.queue.front()) else {
                return;
            };
            let (len, handshake) = (item.len(), item.is_handshake());
            if self.links.loses(from, to) {
                return self.stall(id, lane);
            }
            let at = self.links.arrival(self.now, from, to, len);
            let answerless = self.links.cut_since(to, from).is_some();
            way.last_arrival = way.last_arrival.max(at);
            let at = way.last_arrival;
            if !handshake {
                way.attempts = 0;
            }
            let overdue = answerless && !mem::replace(&mut way.watched, answerless);
            let item = way.queue.pop_front();
            if overdue {
                let late = self.now + self.patience(id, lane);
                self.schedule(late, NetEvent::Overdue(id, lane, self.now));
            }
            if let Some(item) = item {
                self.schedule(at, NetEvent::Arrive(id, lane, item));
            }
        }
    }

    /// The first of the queue is lost: it is sent again after a pause.
    fn stall(&mut self, id: u64, lane: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = &mut connection.lanes[lane];
        if way.attempts == 0 {
            way.stalled_since = self.now;
        }
        let doubled = 1 << way.attempts.min(30);
        let handshake = way.queue.front().is_some_and(Item::is_handshake);
        let pause = if handshake {
            SECOND * doubled
        } else {
            (FIRST_PAUSE * doubled).min(LAST_PAUSE)
        };
        way.attempts += 1;
        way.stalled = true;
        self.schedule(self.now + pause, NetEvent::Retransmit(id, lane));
    }

    pub(super) fn retransmit(&mut self, id: u64, lane: usize) {
        let patience = self.patience(id, lane);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = &mut connection.lanes[lane];
        way.stalled = false;
        match way.queue.front() {
            Some(item) if item.is_handshake() && way.attempts >= TRIES => {
                way.queue.clear();
                self.reset(id, 0, libc::ETIMEDOUT);
                self.reset(id, 1, libc::ETIMEDOUT);
            }
            Some(item) if !item.is_handshake() && self.now - way.stalled_since >= patience => {
                way.queue.clear();
                self.reset(id, lane, libc::ETIMEDOUT);
            }
            _ => self.transmit(id, lane),
        }
    }

    /// No answer came since then if the way back was cut all the time.
    pub(super) fn overdue(&mut self, id: u64, lane: usize, since: Nanos) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.lanes[lane].watched = false;
        let (from, to) = connection.nodes(lane);
        let cut_since = self.links.cut_since(to, from);
        if cut_since.is_some_and(|cut| cut <= since) {
            self.reset(id, lane, libc::ETIMEDOUT);
        }
    }

    /// How long the sender of a lane waits for answers (`TCP_USER_TIMEOUT`).
    fn patience(&self, id: u64, lane: usize) -> Nanos {
        let socket = self.socket_of(id, lane);
        let set = socket.and_then(|it| it.number(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT));
        match set {
            None | Some(0) => PATIENCE,
            Some(millis) => Nanos::from(millis) * (SECOND / 1000),
        }
    }

    fn socket_of(&self, id: u64, end: usize) -> Option<&Socket> {
        let cookie = self.connections.get(&id)?.ends[end].socket?;
        self.sockets.get(cookie)
    }

    pub(super) fn arrive(&mut self, id: u64, lane: usize, item: Item) {
        let to = 1 - lane;
        match item {
            Item::Syn => return self.knock(id),
            Item::SynAck => return self.establish(id),
            Item::Bytes(bytes) => {
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                if connection.ends[to].wire.is_none() {
                    connection.lanes[lane].held -= bytes.len();
                    self.send_reset(id, lane);
                    return;
                }
                connection.lanes[lane].arrived.push_back(bytes);
            }
            Item::Fin => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.lanes[lane].fin_arrived = true;
                }
            }
        }
        self.flush(id, to);
    }

    /// A connection arrives where somebody may listen.
    fn knock(&mut self, id: u64) {
        // (An answer may have come after it was asked again.)
        let connection = self.connections.get(&id);
        let Some(connection) = connection.filter(|it| !it.established) else {
            return;
        };
        let [client, server] = [&connection.ends[0], &connection.ends[1]];
        let (node, from, address) = (server.node, client.address, server.address);
        let at = self.sockets.at(node, false, address.port());
        let mut listeners: Vec<_> = at
            .into_iter()
            .filter(|cookie| {
                let socket = self.sockets.get(*cookie);
                socket.is_some_and(|it| {
                    matches!(it.phase, Phase::Listening { .. }) && it.hears(address.ip())
                })
            })
            .collect();
        while !listeners.is_empty() {
            // Several share the port.
            let chosen = match listeners.len() {
                1 => 0,
                many => self.chance.below(many as u64) as usize,
            };
            let cookie = listeners.remove(chosen);
            let Some(socket) = self.sockets.get_mut(cookie) else {
                continue;
            };
            let Phase::Listening { name, pending } = &mut socket.phase else {
                continue;
            };
            match wire::knock(name) {
                Ok(wire) => {
                    pending.push_back((id, address, from));
                    return self.let_in(id, wire);
                }
                Err(libc::ECONNREFUSED) => {
                    // It is closed.
                    self.sockets.remove(cookie);
                }
                // Its queue is full: as if it had not come.
                Err(_) => return self.drop_syn(id),
            }
        }
        let (client, server) = self.connections[&id].nodes(0);
        if self.links.loses(server, client) {
            return self.drop_syn(id);
        }
        self.send_reset(id, 0);
    }

    fn drop_syn(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.lanes[0].queue.push_front(Item::Syn);
            self.stall(id, 0);
        }
    }

    fn let_in(&mut self, id: u64, end: OwnFd) {
        let watched = self.wire.watch(&end, id << 1 | 1);
        debug_assert_eq!(watched, Ok(()));
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ends[1].wire = Some(end);
            connection.lanes[1].queue.push_back(Item::SynAck);
            self.transmit(id, 1);
        }
    }

    /// The other end is there: the program's socket gets writable.
    fn establish(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(wire) = &connection.ends[0].wire else {
            return;
        };
        let fd = wire.as_raw_fd();
        let mut room = mem::take(&mut self.room);
        room.resize(PIECE, 0);
        let mut left = connection.filled;
        while left > 0 {
            match wire::receive(fd, &mut room[..left.min(PIECE)]) {
                Ok(count @ 1..) => left -= count,
                _ => break,
            }
        }
        self.room = room;
        connection.established = true;
        for way in &mut connection.lanes {
            way.attempts = 0;
        }
        let cookie = connection.ends[0].socket;
        if let Some(socket) = cookie.and_then(|cookie| self.sockets.get_mut(cookie)) {
            socket.phase = Phase::Connected {
                id,
                end: 0,
                told: false,
            };
        }
        self.take_up(id, 0);
    }

    /// Writes what has arrived to the wire end, as far as there is room.
    pub(super) fn flush(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if end == 0 && !connection.established {
            return;
        }
        let (side, way) = (&mut connection.ends[end], &mut connection.lanes[1 - end]);
        let Some(wire) = &side.wire else { return };
        let fd = wire.as_raw_fd();
        let mut is_gone = false;
        while let Some(bytes) = way.arrived.front() {
            let left = bytes.len() - way.offset;
            let written = match wire::send(fd, &bytes[way.offset..]) {
                Ok(count) => count,
                Err(libc::EAGAIN) => break,
                Err(_) if wire::has_hung_up(fd) => {
                    is_gone = true;
                    break;
                }
                // The program reads no more: what comes is accepted.
                Err(_) => left,
            };
            way.held -= written;
            way.offset += written;
            if written == left {
                way.arrived.pop_front();
                way.offset = 0;
            }
        }
        if way.arrived.is_empty() && way.fin_arrived && !side.fin_told {
            side.fin_told = true;
            wire::end_sending(fd);
        }
        if is_gone {
            self.take_up(id, end);
            // What came too late is answered by a reset.
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.lanes[1 - end].forget_arrived();
                self.send_reset(id, 1 - end);
            }
        } else if way.is_full && way.held < WINDOW {
            self.take_up(id, 1 - end);
        }
    }

    /// Takes what a program has written, or that it has ended.
    pub(super) fn take_up(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(wire) = &connection.ends[end].wire else {
            return;
        };
        let fd = wire.as_raw_fd();
        if end == 0 && !connection.established {
            // The program has given up.
            if wire::has_hung_up(fd) {
                self.abort(id, 0);
            }
            return;
        }
        let (from, to) = connection.nodes(end);
        let way = &mut connection.lanes[end];
        let mut room = mem::take(&mut self.room);
        room.resize(PIECE, 0);
        way.is_full = false;
        let found = loop {
            if way.held >= WINDOW {
                way.is_full = true;
                break Tail::More;
            }
            let most = PIECE.min(WINDOW - way.held);
            match wire::receive(fd, &mut room[..most]) {
                Ok(0) => break Tail::End,
                Ok(count) => {
                    way.held += count;
                    let mut rest = &room[..count];
                    while !rest.is_empty() {
                        let merged = if from == to {
                            count
                        } else {
                            PACKET * (1 + self.chance.below(MERGED) as usize)
                        };
                        let (packet, after) = rest.split_at(merged.min(rest.len()));
                        way.queue.push_back(Item::Bytes(packet.to_vec()));
                        rest = after;
                    }
                }
                Err(libc::EAGAIN) => break Tail::More,
                Err(_) => break Tail::Unread,
            }
        };
        self.room = room;
        self.transmit(id, end);
        match found {
            Tail::More => {}
            Tail::End => self.ended(id, end),
            Tail::Unread => self.abort(id, end),
        }
    }

    /// A program has shut down or closed its socket, and all it had written is taken.
    fn ended(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let side = &mut connection.ends[end];
        let Some(wire) = &side.wire else { return };
        let hung_up = wire::has_hung_up(wire.as_raw_fd());
        let is_closed = hung_up && !side.shut;
        if is_closed && side.lingers_not {
            return self.abort(id, end);
        }
        if !mem::replace(&mut side.fin_sent, true) {
            connection.lanes[end].queue.push_back(Item::Fin);
        }
        if hung_up {
            self.close(id, end);
        }
        self.transmit(id, end);
    }

    /// Closes a wire end whose program's is over. The connection is over when both are.
    fn close(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let side = &mut connection.ends[end];
        side.wire = None;
        // Otherwise the descriptor may be open.
        let is_closed = !side.shut && !side.fin_told;
        let cookie: Option<Cookie> = side.socket.filter(|_| is_closed);
        if connection.ends.iter().all(|side| side.wire.is_none()) {
            self.connections.remove(&id);
        }
        if let Some(cookie) = cookie {
            self.sockets.remove(cookie);
        }
    }

    /// A program's end is over without a word: the other gets a reset.
    pub(super) fn abort(&mut self, id: u64, end: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let queue = &mut connection.lanes[end].queue;
        // The answer to who connects was lost, and is not sent again any more.
        let mut is_unheard = queue.front().is_some_and(Item::is_handshake);
        queue.clear();
        let in_handshake = end == 1 && !connection.established;
        if connection.ends[end].wire.is_some() {
            is_unheard = !self.send_reset(id, 1 - end);
            self.close(id, end);
        }
        if in_handshake && is_unheard {
            self.knock_again(id);
        }
    }

    /// Who connects has no answer, and nobody is left who would give one: it asks again.
    fn knock_again(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let server = &mut connection.ends[1];
            *server = Side::new(server.node, server.address);
            self.drop_syn(id);
        }
    }

    /// Sends a reset to an end; whether it will arrive.
    fn send_reset(&mut self, id: u64, to: usize) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let (from_node, to_node) = connection.nodes(1 - to);
        if self.links.loses(from_node, to_node) {
            return false;
        }
        let at = self.links.arrival(self.now, from_node, to_node, 0);
        let at = at.max(connection.lanes[1 - to].last_arrival);
        self.schedule(at, NetEvent::Reset(id, to));
        true
    }

    /// An end is over, and its program is to know why.
    pub(super) fn reset(&mut self, id: u64, end: usize, code: Errno) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let in_vain = end == 0 && !connection.established;
        connection.lanes[end].queue.clear();
        connection.lanes[1 - end].forget_arrived();
        let side = &mut connection.ends[end];
        let Some(wire) = side.wire.take() else { return };
        let code = match code {
            libc::ECONNRESET if in_vain => Some(libc::ECONNREFUSED),
            // It has read the end, and has heard of nothing else.
            _ if side.fin_told && side.fin_sent => None,
            _ if side.fin_told => Some(libc::EPIPE),
            code => Some(code),
        };
        let cookie = side.socket;
        if side.fin_told {
            // Bytes that are left in it would be an error to the kernel.
            let mut room = mem::take(&mut self.room);
            room.resize(PIECE, 0);
            while let Ok(1..) = wire::receive(wire.as_raw_fd(), &mut room) {}
            self.room = room;
        }
        drop(wire);
        if let Some(socket) = cookie.and_then(|cookie| self.sockets.get_mut(cookie)) {
            socket.error = code;
            socket.phase = if in_vain { Phase::Failed } else { Phase::Reset };
            socket.spent = in_vain;
        }
        if connection.ends.iter().all(|side| side.wire.is_none()) {
            self.connections.remove(&id);
        } else if connection.lanes[1 - end].is_full {
            // Who waits for room is to learn it, too.
            self.take_up(id, 1 - end);
        }
    }
}
