//! Random traffic through hooked calls against a byte-exact oracle. For
//! `cargo test` and `cargo fuzz` alike.
//!
//! An input is one byte that shapes the run (what kind of pair, how large its
//! buffers, whether signals storm), then operations of three bytes each: what,
//! how, how much. Every input is valid. Two coroutines read and write one end
//! (`calls.rs`); the main coroutine is the peer, with plain non-blocking calls,
//! and a thief that takes what a reader was woken for. Every byte of either
//! direction is a function of its place in the stream.
//!
//! The kernel is the oracle of who may wait: when all are at rest a coroutine
//! may be parked only if a plain `poll` of its descriptor says "not ready".

mod calls;
mod storm;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use calls::{Direction, Seat, plain};
use storm::Storm;

/// What nobody may need to come to rest.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time limit that the user sets.
const LIMIT_MICROS: i64 = 500;

/// The byte at a place of a stream.
pub(crate) fn byte(direction: Direction, place: u64) -> u8 {
    let salt = place * 31 + (place >> 8) * 7 + (place >> 16);
    salt as u8 ^ if direction == Direction::In { 0 } else { 0xa5 }
}

/// Runs the operations of one input; how many bytes were compared.
pub(crate) fn run(input: &[u8]) -> u64 {
    let Some((&shape, operations)) = input.split_first() else {
        return 0;
    };
    // SAFETY: no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    crore::run(|| {
        let _storm = (shape & 0x80 != 0).then(Storm::begin);
        let mut play = Play::new(shape);
        for operation in operations.chunks_exact(3) {
            play.obey(operation[0], operation[1], usize::from(operation[2]));
            play.settle();
        }
        play.end()
    })
    .expect("the runtime runs")
}

/// The user's end (hooked, maybe by two numbers) and the peer's (plain).
struct Play {
    reader: Seat,
    writer: Seat,
    /// What the user reads from and writes to; the same number for sockets.
    read_end: OwnedFd,
    write_end: Option<OwnedFd>,
    /// `None` once closed.
    peer_reads: Option<OwnedFd>,
    peer_writes: Option<OwnedFd>,
    socket: bool,
    tcp: bool,
    /// Bytes that the peer wrote, and that the user or the thief read.
    sent_in: u64,
    got_in: u64,
    /// Bytes that the user wrote (so he was told), and that the peer read.
    sent_out: u64,
    got_out: u64,
    nonblocking: bool,
    /// The user will read an end, or may.
    read_ends: bool,
    /// His writes may fail.
    write_fails: bool,
    /// An error of the connection is due or was seen.
    broken: bool,
    /// The user's own end of reading: what is under way then may be lost.
    deaf: bool,
}

fn owned(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: a new descriptor that is nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn pair(make: impl FnOnce(*mut libc::c_int) -> libc::c_int) -> (OwnedFd, OwnedFd) {
    let mut both = [-1; 2];
    assert_eq!(make(both.as_mut_ptr()), 0, "{}", io::Error::last_os_error());
    (owned(both[0]), owned(both[1]))
}

fn tcp_pair() -> (OwnedFd, OwnedFd) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nodelay(true).unwrap();
    (near.into(), listener.accept().unwrap().0.into())
}

impl Play {
    fn new(shape: u8) -> Self {
        let stream = libc::SOCK_STREAM;
        // SAFETY: places for two descriptors.
        let unix = || pair(|at| unsafe { libc::socketpair(libc::AF_UNIX, stream, 0, at) });
        // SAFETY: as above.
        let pipe = || pair(|at| unsafe { libc::pipe2(at, 0) });
        let kind = shape % 4;
        let (read_end, write_end, peer_reads, peer_writes) = if kind == 2 {
            let (read_end, peer_writes) = pipe();
            let (peer_reads, write_end) = pipe();
            (read_end, Some(write_end), peer_reads, peer_writes)
        } else {
            let (near, far) = if kind == 1 { tcp_pair() } else { unix() };
            let again = far.try_clone().unwrap();
            (near, None, far, again)
        };
        if kind == 3 {
            calls::set_number(&read_end, libc::SO_SNDBUF, 4608);
            calls::set_number(&peer_writes, libc::SO_SNDBUF, 4608);
        }
        for fd in [&peer_reads, &peer_writes] {
            calls::set_nonblocking(fd.as_raw_fd(), true, false);
        }
        Self {
            reader: Seat::spawn(Direction::In),
            writer: Seat::spawn(Direction::Out),
            read_end,
            write_end,
            peer_reads: Some(peer_reads),
            peer_writes: Some(peer_writes),
            socket: kind != 2,
            tcp: kind == 1,
            sent_in: 0,
            got_in: 0,
            sent_out: 0,
            got_out: 0,
            nonblocking: false,
            read_ends: false,
            write_fails: false,
            broken: false,
            deaf: false,
        }
    }

    fn write_fd(&self) -> RawFd {
        self.write_end
            .as_ref()
            .unwrap_or(&self.read_end)
            .as_raw_fd()
    }

    fn obey(&mut self, what: u8, how: u8, amount: usize) {
        let some = match amount >> 6 {
            0 => amount % 64,
            1 => amount * 13,
            2 => amount * 127,
            _ => amount * 1021,
        };
        match what % 24 {
            0..=4 => self.read(how, some.min(1 << 20)),
            5..=8 => self.write(how, some),
            9..=12 => self.peer_write(some),
            13..=16 => _ = self.peer_read(some.max(1)),
            17 => self.steal(some),
            18..=19 => {
                self.nonblocking = how & 1 != 0;
                for fd in [self.read_end.as_raw_fd(), self.write_fd()] {
                    calls::set_nonblocking(fd, self.nonblocking, how & 2 != 0);
                }
                for seat in [&mut self.reader, &mut self.writer] {
                    seat.may_refuse |= self.nonblocking;
                }
            }
            20 if self.socket => {
                let limit = if how & 1 == 0 { 0 } else { LIMIT_MICROS };
                calls::set_limit(&self.read_end, how & 2 != 0, limit);
                let seat = if how & 2 != 0 {
                    &mut self.writer
                } else {
                    &mut self.reader
                };
                seat.limited = limit != 0;
                seat.may_be_late |= seat.limited;
            }
            21 => self.dup(how),
            22 if amount % 4 == 0 => self.peer_ends(how),
            23 if amount % 4 == 0 && self.socket => {
                let side = [libc::SHUT_RD, libc::SHUT_WR][usize::from(how) % 2];
                // SAFETY: no pointers.
                unsafe { libc::shutdown(self.read_end.as_raw_fd(), side) };
                self.deaf |= side == libc::SHUT_RD;
                self.read_ends |= self.deaf;
                self.write_fails |= side == libc::SHUT_WR;
                // TCP answers what comes after both with a reset.
                self.broken |= self.tcp && self.read_ends && self.write_fails;
            }
            _ => {}
        }
    }

    fn read(&mut self, how: u8, len: usize) {
        let fd = self.read_end.as_raw_fd();
        let there = calls::readable_bytes(fd);
        self.reader.start(
            fd,
            how,
            len,
            there,
            self.nonblocking,
            self.socket,
            self.got_in,
        );
    }

    fn write(&mut self, how: u8, len: usize) {
        let fd = self.write_fd();
        let place = self.sent_out;
        self.writer
            .start(fd, how, len, 0, self.nonblocking, self.socket, place);
    }

    fn peer_write(&mut self, len: usize) {
        let Some(fd) = &self.peer_writes else { return };
        let bytes: Vec<u8> = (self.sent_in..self.sent_in + len as u64)
            .map(|place| byte(Direction::In, place))
            .collect();
        if let Ok(count) = plain::write(fd.as_raw_fd(), &bytes) {
            self.sent_in += count as u64;
        }
    }

    /// Whether it read something.
    fn peer_read(&mut self, len: usize) -> bool {
        let Some(fd) = &self.peer_reads else {
            return false;
        };
        let mut bytes = vec![0; len];
        let count = match plain::read(fd.as_raw_fd(), &mut bytes) {
            Ok(count) => count,
            Err(libc::EAGAIN) => return false,
            Err(code) => {
                assert!(self.broken, "error {code} of the peer's read");
                return false;
            }
        };
        for &seen in &bytes[..count] {
            assert_eq!(
                seen,
                byte(Direction::Out, self.got_out),
                "at {}",
                self.got_out
            );
            self.got_out += 1;
        }
        let most = self.sent_out + self.writer.under_way() as u64;
        assert!(self.got_out <= most, "{} of {most} bytes", self.got_out);
        count > 0
    }

    /// Takes what the reader may have been woken for.
    fn steal(&mut self, len: usize) {
        if !self.socket || self.reader.collects() {
            return;
        }
        let mut bytes = vec![0; len];
        let fd = self.read_end.as_raw_fd();
        if let Ok(count) = plain::recv_now(fd, &mut bytes) {
            self.take_in(&bytes[..count]);
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        for (place, &seen) in (self.got_in..).zip(bytes) {
            assert_eq!(seen, byte(Direction::In, place), "at {place}");
        }
        self.got_in += bytes.len() as u64;
        assert!(self.got_in <= self.sent_in, "more than was sent");
    }

    /// The user goes on with another number for the same open file; the old
    /// one is closed, or lives on for a while.
    fn dup(&mut self, how: u8) {
        if !self.reader.is_idle() || !self.writer.is_idle() {
            return;
        }
        let old = self.read_end.as_raw_fd();
        // SAFETY: no pointers.
        let new = owned(unsafe { libc::dup(old) });
        if how & 1 != 0 {
            // By the old number; what is known of the new one must follow.
            calls::set_nonblocking(old, !self.nonblocking, how & 2 != 0);
            self.nonblocking = !self.nonblocking;
            if let Some(fd) = &self.write_end {
                calls::set_nonblocking(fd.as_raw_fd(), self.nonblocking, false);
            }
        }
        self.read_end = new;
    }

    fn peer_ends(&mut self, how: u8) {
        let half = how % 3 == 0 && self.socket;
        if let (true, Some(fd)) = (half, &self.peer_writes) {
            // SAFETY: no pointers.
            unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
            self.peer_writes = None;
        } else {
            if let (true, true, Some(fd)) = (self.tcp, how % 3 == 1, &self.peer_reads) {
                calls::reset_on_close(fd);
            }
            (self.peer_reads, self.peer_writes) = (None, None);
            self.write_fails = true;
            self.broken = true;
        }
        self.read_ends = true;
    }

    /// Lets both come to rest, and compares what they got.
    fn settle(&mut self) {
        let start = Instant::now();
        let mut turns = 0_u32;
        while !self.at_rest() {
            assert!(
                start.elapsed() < PATIENCE,
                "reader {:?}, writer {:?}",
                self.reader,
                self.writer
            );
            turns += 1;
            if turns % 8 == 0 {
                crore::sleep(Duration::from_micros(50));
            } else {
                crore::yield_now();
            }
        }
        for fd in [self.read_end.as_raw_fd(), self.write_fd()] {
            let seen = plain::is_nonblocking(fd);
            assert_eq!(seen, self.nonblocking, "the user's flag");
        }
    }

    fn at_rest(&mut self) -> bool {
        if let Some(done) = self.reader.done() {
            self.judge_read(done);
        }
        if let Some(done) = self.writer.done() {
            self.judge_write(done);
        }
        let waits = |seat: &Seat, fd| {
            seat.is_idle() || !seat.must_end() && !plain::is_ready(fd, seat.direction)
        };
        waits(&self.reader, self.read_end.as_raw_fd()) && waits(&self.writer, self.write_fd())
    }

    fn judge_read(&mut self, done: calls::Done) {
        let call = done.call;
        match done.result {
            Ok(0) => assert!(call.len == 0 || self.read_ends, "an end of the stream"),
            Ok(count) => {
                assert!(
                    count >= call.there.min(call.len),
                    "{count} bytes of {call:?}"
                );
                let place = self.got_in;
                self.take_in(&done.bytes[..count]);
                if call.peeks {
                    self.got_in = place;
                }
                let cut = self.read_ends || call.may_refuse || call.limited;
                assert!(!call.all || count == call.len || cut, "{count} of {call:?}");
            }
            Err(libc::EAGAIN) => {
                assert!(call.may_refuse || call.limited, "EAGAIN of {call:?}");
                assert!(call.there == 0 || call.len == 0, "{call:?} refused");
            }
            Err(libc::ECONNRESET) => assert!(self.broken, "{call:?}"),
            Err(code) => panic!("error {code} of {call:?}"),
        }
    }

    fn judge_write(&mut self, done: calls::Done) {
        let call = done.call;
        match done.result {
            Ok(count) => {
                assert!(count <= call.len);
                let cut = self.write_fails || call.may_refuse || call.limited;
                assert!(count == call.len || cut, "{count} of {call:?}");
                self.sent_out += count as u64;
            }
            Err(libc::EAGAIN) => assert!(call.may_refuse || call.limited, "{call:?}"),
            Err(libc::EPIPE | libc::ECONNRESET) => assert!(self.write_fails, "{call:?}"),
            Err(code) => panic!("error {code} of {call:?}"),
        }
    }

    /// Reads all that is left, on both sides; nothing may be missing.
    fn end(mut self) -> u64 {
        self.nonblocking = false;
        for fd in [self.read_end.as_raw_fd(), self.write_fd()] {
            calls::set_nonblocking(fd, false, false);
        }
        let start = Instant::now();
        // The writer ends when the peer has read enough, or is gone.
        while !self.writer.is_idle() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.writer);
            while self.peer_read(1 << 16) {}
            self.settle();
        }
        if !self.broken {
            while self.got_out < self.sent_out {
                assert!(
                    start.elapsed() < PATIENCE,
                    "{} of {}",
                    self.got_out,
                    self.sent_out
                );
                if !self.peer_read(1 << 16) {
                    crore::yield_now();
                }
            }
        }
        assert!(self.got_out <= self.sent_out);
        if let Some(fd) = self.peer_writes.take()
            && self.socket
        {
            // SAFETY: no pointers.
            unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
        }
        self.read_ends = true;
        self.reader.limited = false;
        if self.socket {
            calls::set_limit(&self.read_end, false, 0);
        }
        let whole = !(self.broken || self.deaf && self.tcp);
        loop {
            self.settle();
            assert!(
                self.reader.is_idle(),
                "the stream has ended: {:?}",
                self.reader
            );
            let before = self.got_in;
            self.read(0, 1 << 16);
            self.settle();
            if self.got_in == before {
                break;
            }
        }
        if whole {
            assert_eq!(self.got_in, self.sent_in, "nothing is lost");
        }
        self.reader.end();
        self.writer.end();
        self.got_in + self.got_out
    }
}
