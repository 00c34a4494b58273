//! Readiness of descriptors: mio's epoll, edge-triggered.
//!
//! Lives here: registration and its checks, the blocking poll, the alarm that
//! ends it. Does not live here: what is known of a descriptor (`fd.rs`), and
//! what the alarm is set for (`mod.rs`).
//!
//! A descriptor is registered at its first wait, for both directions, and
//! stays registered: a wait on a registered one costs no system call. That is
//! only right while the number means the same file. Three things watch over it:
//!
//! 1. Whoever closes or replaces a descriptor through a hook bumps its epoch;
//!    the entry is stale from then on (`epoch.rs`, `fd.rs`).
//! 2. What no hook saw is found by asking: a waiter that has been parked for
//!    [`RECHECK`] without its registration having been checked since has it
//!    checked by `EPOLL_CTL_MOD`, once a park, or later when there is a crowd.
//!    (Who has been checked and is still parked when the number ends unseen
//!    goes on waiting, as a thread would in the kernel.)
//!    MOD reports a ready descriptor
//!    again; on another file it fails with `ENOENT` and the new file is
//!    registered; so a missed close costs a delay, not a wake-up. After that
//!    the waiter costs nothing for as long as it waits.
//! 3. Events carry the serial number of their registration. An old file that
//!    lives on through a `dup` keeps sending events under the old number, and
//!    they are ignored.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::clock;
use super::epoch;
use super::fd::{Direction, FdTable, Hint, Kind, Outcome, Ready, Registration};
use super::waiters::WaitKey;
use crate::sys::fd::{EBADF, TimerFd, is_tcp_stream};

/// How long a waiter is parked before its registration is checked, in ticks.
/// (Soon, for the fuzzer: it has much to see.)
const RECHECK: u64 = clock::ticks(Duration::from_millis(if cfg!(fuzzing) { 1 } else { 50 }));
/// Checks in one turn: a crowd that parks together is not checked in one go.
const CHECKS_A_TURN: u64 = 128;
/// Ticks that pass for each check before the next ones are made. A check is a
/// system call of half a microsecond: together they take under 1 % of the time.
const CHECK_PRICE: u64 = 1;
/// Descriptors looked at in one turn for waiters to check.
const LOOKS_A_TURN: u64 = 1024;
/// Events that one poll takes from the kernel.
const EVENTS: usize = 1024;
/// Unchecked waits for which memory is kept when nobody waits.
const KEPT: usize = 1024;

/// Urgent data is asked for so that it is seen: a read stops short at its
/// mark, which says nothing about what lies behind.
const INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

/// Tokens hold a descriptor in the low half; these two are not descriptors.
const REMOTE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const _: () = assert!(
    usize::BITS == 64,
    "a token holds a descriptor and a serial number"
);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Reactor {
    poll: Poll,
    events: Events,
    remote: Arc<mio::Waker>,
    alarm: TimerFd,
    /// The tick that the alarm is set for, until it goes off.
    armed: Option<u64>,
    table: FdTable,
    /// Descriptors that may have waiters whose registration was not made or
    /// checked for them, each once, with the tick of parking of one of these.
    /// In the order of their turns, so that a busy descriptor costs a look
    /// now and then, not one a wait.
    unchecked: VecDeque<(RawFd, u64)>,
    /// The tick before which no registration is checked.
    next_check: u64,
    /// Wakers of waits that were found closed outside a turn.
    late: Vec<Waker>,
    /// What the last poll brought, and how much of it has been delivered.
    news: Vec<News>,
    delivered: usize,
    serial: u32,
    /// The tick of the latest turn.
    now: u64,
}

/// An event that has not been delivered.
#[derive(Clone, Copy, Debug)]
struct News {
    fd: RawFd,
    serial: u32,
    ready: Ready,
}

#[cold]
fn kind_of(fd: RawFd) -> Kind {
    if is_tcp_stream(fd) {
        Kind::Stream
    } else {
        Kind::Other
    }
}

fn token(fd: RawFd, serial: u32) -> Token {
    Token((serial as usize) << 32 | fd as u32 as usize)
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let remote = Arc::new(mio::Waker::new(poll.registry(), REMOTE)?);
        let alarm = TimerFd::new()?;
        poll.registry()
            .register(&mut SourceFd(&alarm.as_raw_fd()), ALARM, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            remote,
            alarm,
            armed: None,
            table: FdTable::new(),
            unchecked: VecDeque::new(),
            next_check: 0,
            late: Vec::new(),
            news: Vec::new(),
            delivered: 0,
            serial: 0,
            now: 0,
        })
    }

    pub(super) fn remote_waker(&self) -> Arc<mio::Waker> {
        Arc::clone(&self.remote)
    }

    #[inline]
    pub(super) fn hint(&self, fd: RawFd, direction: Direction) -> Hint {
        self.table.hint(fd, direction)
    }

    #[inline]
    pub(super) fn set_drained(&mut self, fd: RawFd, direction: Direction) {
        self.table.set_drained(fd, direction);
    }

    #[inline]
    pub(super) fn is_stream(&mut self, fd: RawFd) -> bool {
        self.table.kind(fd, kind_of) == Kind::Stream
    }

    #[inline(always)]
    pub(super) fn moved_short(&mut self, fd: RawFd, direction: Direction) {
        self.table.moved_short(fd, direction, kind_of);
    }

    #[inline]
    pub(super) fn wait(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> io::Result<WaitKey> {
        let (key, to_queue) = match self.table.wait(fd, direction, waker, self.now) {
            Ok(waited) => waited,
            Err(waker) => {
                self.register_anew(fd)?;
                self.table.wait_registered(fd, direction, waker, self.now)
            }
        };
        // After a new registration, too: another thread may be in the middle
        // of closing the descriptor, past the bump and not yet in the kernel.
        if to_queue {
            self.unchecked.push_back((fd, self.now));
        }
        Ok(key)
    }

    #[inline(always)]
    pub(super) fn wait_if_drained(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> Option<WaitKey> {
        let drained = self.table.wait_if_drained(fd, direction, waker, self.now);
        let (key, to_queue) = drained?;
        if to_queue {
            self.unchecked.push_back((fd, self.now));
        }
        Some(key)
    }

    /// As [`Reactor::wait`], for a call that has waited for this descriptor
    /// before and was woken: if the number was closed since then, by another
    /// thread, it is not to wait for what it means next.
    pub(super) fn wait_again(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> io::Result<WaitKey> {
        if self.table.is_stale(fd) {
            return Err(io::Error::from_raw_os_error(EBADF));
        }
        self.wait(fd, direction, waker)
    }

    #[cold]
    fn register_anew(&mut self, fd: RawFd) -> io::Result<()> {
        // Those who still wait for the old file learn that it is gone, at the
        // next turn.
        self.table.release(fd, Outcome::Closed, &mut self.late);
        self.register(fd)
    }

    #[inline(always)]
    pub(super) fn finish(&mut self, key: WaitKey) -> Outcome {
        self.table.finish(key)
    }

    pub(super) fn fd_gone(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
        if self.table.is_stale(fd) {
            self.table.release(fd, Outcome::Closed, woken);
            // Fails if the descriptor is closed by now, and then it is not
            // needed, unless a dup keeps the file: see 3. in the header.
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// Registers what `fd` means now.
    fn register(&mut self, fd: RawFd) -> io::Result<()> {
        let word = epoch::track(fd).ok_or_else(|| io::Error::from_raw_os_error(EBADF))?;
        // Before the system call: a close that comes between makes it stale.
        self.register_under(fd, word, word.load(Ordering::Acquire))
    }

    fn register_under(
        &mut self,
        fd: RawFd,
        word: &'static AtomicU32,
        epoch: u32,
    ) -> io::Result<()> {
        let serial = self.serial.wrapping_add(1);
        let (registry, token) = (self.poll.registry(), token(fd, serial));
        match registry.register(&mut SourceFd(&fd), token, INTEREST) {
            // A bumped descriptor that was not closed after all.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                registry.reregister(&mut SourceFd(&fd), token, INTEREST)?;
            }
            result => result?,
        }
        self.serial = serial;
        self.table.registered(fd, word, epoch, serial);
        Ok(())
    }

    /// Sets the time, and delivers what became known outside a turn.
    pub(super) fn begin_turn(&mut self, now: u64, woken: &mut Vec<Waker>) {
        self.now = now;
        woken.append(&mut self.late);
    }

    /// Checks the registrations of those who have waited for long enough.
    #[inline]
    pub(super) fn recheck(&mut self, woken: &mut Vec<Waker>) {
        if self.next_check().is_some_and(|tick| tick <= self.now) {
            self.recheck_due(woken);
        }
    }

    #[inline(never)]
    fn recheck_due(&mut self, woken: &mut Vec<Waker>) {
        let (mut looks, mut checks) = (0, 0);
        while let Some(&(fd, since)) = self.unchecked.front() {
            let due = since + RECHECK <= self.now;
            if !due || looks == LOOKS_A_TURN || checks == CHECKS_A_TURN {
                break;
            }
            looks += 1;
            self.unchecked.pop_front();
            match self.table.longest_unchecked(fd, self.now) {
                Some(age) if age < RECHECK => self.unchecked.push_back((fd, self.now - age)),
                unchecked => {
                    self.table.unqueued(fd);
                    if unchecked.is_some() {
                        checks += 1;
                        self.check(fd, woken);
                    }
                }
            }
        }
        self.next_check = self.now + checks * CHECK_PRICE;
        if self.unchecked.capacity() > KEPT {
            self.unchecked.shrink_to(KEPT);
        }
    }

    /// When [`recheck`](Self::recheck) has something to do next.
    pub(super) fn next_check(&self) -> Option<u64> {
        let front = self.unchecked.front();
        front.map(|&(_, since)| (since + RECHECK).max(self.next_check))
    }

    /// Finds out whether a registration still means the file behind `fd`.
    fn check(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
        let Some(Registration {
            word,
            epoch,
            serial,
        }) = self.table.registration(fd)
        else {
            return self.fd_gone(fd, woken);
        };
        let token = token(fd, serial);
        let known = self
            .poll
            .registry()
            .reregister(&mut SourceFd(&fd), token, INTEREST);
        let result = match known {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Under the waiters' epoch: if it passes meanwhile, the new
                // registration is as stale as they are.
                self.register_under(fd, word, epoch)
            }
            result => result,
        };
        match result {
            Ok(()) => self.table.set_checked(fd),
            Err(e) if e.raw_os_error() == Some(EBADF) => {
                self.table.release(fd, Outcome::Closed, woken);
            }
            // What can't be watched is for the waiters to try again: the
            // error is theirs when they wait once more.
            Err(_) => self.table.release(fd, Outcome::Ready, woken),
        }
    }

    /// See [`FdTable::pending_all`].
    pub(super) fn pending_all(&self) -> impl Iterator<Item = (&Waker, RawFd, Direction, u32)> {
        self.table.pending_all()
    }

    /// The tick of the latest turn.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Whether no event could wake anybody.
    pub(super) fn is_idle(&self) -> bool {
        self.table.is_idle()
    }

    /// Makes sure that a blocking poll ends `delay` from now, at `tick`.
    ///
    /// An alarm that is set for an earlier tick stays: it goes off once for
    /// nothing, where setting it anew would cost a system call for every
    /// timeout that is taken back.
    pub(super) fn arm(&mut self, tick: u64, delay: Duration) -> io::Result<()> {
        if self.armed.is_none_or(|armed| tick < armed) {
            self.alarm.arm(delay)?;
            self.armed = Some(tick);
        }
        Ok(())
    }

    /// Takes events from the kernel; waits for one if `block`. To be called
    /// when all have been delivered that the last poll brought.
    pub(super) fn poll(&mut self, block: bool) -> io::Result<()> {
        debug_assert_eq!(self.backlog(), 0, "events are delivered first");
        self.news.clear();
        self.delivered = 0;
        let timeout = if block { None } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            // The caller turns again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let token = event.token();
            match token {
                REMOTE => {}
                ALARM => self.armed = None,
                Token(bits) => {
                    let ready = Ready {
                        read: event.is_readable(),
                        write: event.is_writable(),
                        read_closed: event.is_read_closed() || event.is_error(),
                        write_closed: event.is_write_closed() || event.is_error(),
                        urgent: event.is_priority(),
                    };
                    self.news.push(News {
                        fd: bits as u32 as RawFd,
                        serial: (bits >> 32) as u32,
                        ready,
                    });
                }
            }
        }
        Ok(())
    }

    /// How many events have not been delivered.
    #[inline(always)]
    pub(super) fn backlog(&self) -> usize {
        self.news.len() - self.delivered
    }

    /// Tells up to `most` of those whom events concern.
    pub(super) fn deliver(&mut self, most: usize, woken: &mut Vec<Waker>) {
        let news = &self.news[self.delivered..];
        let (now, later) = news.split_at(most.min(news.len()));
        for one in later.iter().take(most) {
            self.table.prefetch(one.fd);
        }
        for one in now {
            self.table.event(one.fd, one.serial, one.ready, woken);
        }
        self.delivered += now.len();
    }
}

/// What the tests look at.
#[cfg(test)]
impl Reactor {
    /// Whose events the last poll brought.
    pub(super) fn last_tokens(&self) -> impl Iterator<Item = Token> {
        self.events.iter().map(|event| event.token())
    }

    pub(super) fn is_pending(&self, key: &WaitKey) -> bool {
        self.table.pending(key).is_some()
    }
}
