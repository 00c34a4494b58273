//! Reactor: which descriptors are registered with the kernel's event queue,
//! and whether a registration still holds. mio's epoll, edge-triggered.
//!
//! Lives here: registration and its validation, the blocking poll, the timer fd
//! that ends it. Does not live here: what is known of a descriptor
//! (`fd_table.rs`), and what the timer fd is set for (`mod.rs`).
//!
//! A descriptor is registered at its first wait, for both directions, and
//! stays registered: a wait on a registered one costs no system call. That is
//! only right while the number means the same file. Three things watch over it:
//!
//! 1. Whoever closes or replaces a descriptor through a hook bumps its
//!    generation; the entry is stale from then on (`epoch.rs`, `fd_table.rs`).
//! 2. What no hook saw is found by asking: a waiter that has been parked for
//!    [`REVALIDATE_AFTER`] without its registration having been validated since
//!    has it validated by `EPOLL_CTL_MOD`, once a park, or later when there are
//!    many. (One that has been validated and is still parked when the number
//!    ends unseen goes on waiting, as a thread would in the kernel.)
//!    MOD reports a ready descriptor again; on another file it fails with
//!    `ENOENT` and the new file is registered; so a missed close costs a delay,
//!    not a wake-up. After that the waiter costs nothing for as long as it waits.
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
use super::fd_table::{FdKind, FdTable, Readiness, Registration};
use super::wait_queue::{Direction, Outcome, WaitKey};
use crate::sys::fd::{EBADF, TimerFd, is_tcp_stream};

/// How long a waiter is parked before its registration is validated, in ticks.
/// (Soon, for the fuzzer: it has much to see.)
const REVALIDATE_AFTER: u64 =
    clock::ticks(Duration::from_millis(if cfg!(fuzzing) { 1 } else { 50 }));
/// Validations in one go: many that park together are not validated at once.
const VALIDATIONS_A_TURN: u64 = 128;
/// Ticks that pass for each before the next ones are made. A validation is a
/// system call of half a microsecond: together they take under 1 % of the time.
const VALIDATION_TICKS: u64 = 1;
/// Descriptors looked at in one go for waiters to validate.
const LOOKS_A_TURN: u64 = 1024;
/// Events that one poll takes from the kernel.
const EVENTS: usize = 1024;
/// Unvalidated waits for which memory is kept when nobody waits.
const KEPT: usize = 1024;

/// Urgent data is asked for so that it is seen: a read stops short at its
/// mark, which says nothing about what lies behind.
const INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

/// Tokens hold a descriptor in the low half; these two are not descriptors.
const NOTIFIER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const _: () = assert!(
    usize::BITS == 64,
    "a token holds a descriptor and a serial number"
);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    notifier: Arc<mio::Waker>,
    timer_fd: TimerFd,
    /// The tick that the timer fd is set for, until it goes off.
    armed: Option<u64>,
    pub(crate) table: FdTable,
    /// Descriptors that may have waiters whose registration was not made or
    /// validated for them, each once, with the tick of parking of one of these.
    /// In the order in which they are due, so that a busy descriptor costs a look
    /// now and then, not one a wait.
    unvalidated: VecDeque<(RawFd, u64)>,
    /// The tick before which no registration is validated.
    next_validation: u64,
    /// Wakers of waits that were found closed between two looks at the kernel.
    closed_early: Vec<Waker>,
    /// What the last poll brought, and how much of it has been dispatched.
    events_read: Vec<ReadyEvent>,
    dispatched: usize,
    serial: u32,
    /// The tick of the latest look.
    now: u64,
}

/// An event that has not been dispatched.
#[derive(Clone, Copy, Debug)]
struct ReadyEvent {
    fd: RawFd,
    serial: u32,
    ready: Readiness,
}

#[cold]
fn kind_of(fd: RawFd) -> FdKind {
    if is_tcp_stream(fd) {
        FdKind::Stream
    } else {
        FdKind::Other
    }
}

fn token(fd: RawFd, serial: u32) -> Token {
    Token((serial as usize) << 32 | fd as u32 as usize)
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let notifier = Arc::new(mio::Waker::new(poll.registry(), NOTIFIER)?);
        let timer_fd = TimerFd::new()?;
        poll.registry().register(
            &mut SourceFd(&timer_fd.as_raw_fd()),
            TIMER,
            Interest::READABLE,
        )?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            notifier,
            timer_fd,
            armed: None,
            table: FdTable::new(),
            unvalidated: VecDeque::new(),
            next_validation: 0,
            closed_early: Vec::new(),
            events_read: Vec::new(),
            dispatched: 0,
            serial: 0,
            now: 0,
        })
    }

    /// Ends a blocking poll, now or the next one, from any thread.
    pub(crate) fn notifier(&self) -> Arc<mio::Waker> {
        Arc::clone(&self.notifier)
    }

    /// Whether a short read or write on `fd` shows that it is not ready any
    /// more. Says no for a descriptor that was never waited for.
    ///
    /// True of plain TCP without urgent data. Where something in the kernel
    /// sits on the connection (kTLS, sockmap) a read may end short at a
    /// record; the validation of parked waiters then finds what is left.
    #[inline]
    pub(crate) fn is_stream(&mut self, fd: RawFd) -> bool {
        self.table.kind(fd, kind_of) == FdKind::Stream
    }

    /// Notes that a call moved something, but less than asked: what
    /// [is a stream](Self::is_stream) is not ready then.
    #[inline(always)]
    pub(crate) fn moved_short(&mut self, fd: RawFd, direction: Direction) {
        self.table.moved_short(fd, direction, kind_of);
    }

    /// Parks `waker` until the direction is ready. To be called when the hint
    /// was [`Hint::NotReady`](super::Hint::NotReady) or a call has failed with
    /// `EAGAIN` since the last look: what was ready before is not reported again.
    ///
    /// # Errors
    ///
    /// `EBADF`; `EPERM` for files that are always ready; `ENOSPC` at
    /// `fs.epoll.max_user_watches`; `ENOMEM`.
    #[inline]
    pub(crate) fn wait(
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
            self.unvalidated.push_back((fd, self.now));
        }
        Ok(key)
    }

    /// As [`Reactor::wait`] if the direction is not ready.
    #[inline(always)]
    pub(crate) fn wait_if_not_ready(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> Option<WaitKey> {
        let waited = self.table.wait_if_not_ready(fd, direction, waker, self.now);
        let (key, to_queue) = waited?;
        if to_queue {
            self.unvalidated.push_back((fd, self.now));
        }
        Some(key)
    }

    /// As [`Reactor::wait`], for a call that has waited for this descriptor
    /// before and was woken, without any other wait here since: `EBADF` also
    /// if the number was closed since then, by another thread. It is not to
    /// wait for what the number means next.
    pub(crate) fn wait_again(
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
        // Those that still wait for the old file learn that it is gone, at the
        // next look.
        self.table
            .release(fd, Outcome::Closed, &mut self.closed_early);
        self.register(fd)
    }

    /// Ends all waits on a descriptor whose generation was bumped: call
    /// [`epoch::bump`], then this on every worker, then close or replace it.
    /// It may come late: what was registered after the bump stays.
    pub(crate) fn fd_gone(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
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
        generation: u32,
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
        self.table.registered(fd, word, generation, serial);
        Ok(())
    }

    /// Sets the time, and hands out what became known since the last look.
    pub(super) fn set_now(&mut self, now: u64, woken: &mut Vec<Waker>) {
        self.now = now;
        woken.append(&mut self.closed_early);
    }

    /// Validates the registrations of those that have waited for long enough.
    #[inline]
    pub(super) fn revalidate(&mut self, woken: &mut Vec<Waker>) {
        if self.next_validation().is_some_and(|tick| tick <= self.now) {
            self.revalidate_due(woken);
        }
    }

    #[inline(never)]
    fn revalidate_due(&mut self, woken: &mut Vec<Waker>) {
        let (mut looks, mut validations) = (0, 0);
        while let Some(&(fd, since)) = self.unvalidated.front() {
            let due = since + REVALIDATE_AFTER <= self.now;
            if !due || looks == LOOKS_A_TURN || validations == VALIDATIONS_A_TURN {
                break;
            }
            looks += 1;
            self.unvalidated.pop_front();
            match self.table.longest_unvalidated(fd, self.now) {
                Some(age) if age < REVALIDATE_AFTER => {
                    self.unvalidated.push_back((fd, self.now - age))
                }
                unvalidated => {
                    self.table.unqueued(fd);
                    if unvalidated.is_some() {
                        validations += 1;
                        self.validate(fd, woken);
                    }
                }
            }
        }
        self.next_validation = self.now + validations * VALIDATION_TICKS;
        if self.unvalidated.capacity() > KEPT {
            self.unvalidated.shrink_to(KEPT);
        }
    }

    /// When [`revalidate`](Self::revalidate) has something to do next.
    pub(super) fn next_validation(&self) -> Option<u64> {
        let front = self.unvalidated.front();
        front.map(|&(_, since)| (since + REVALIDATE_AFTER).max(self.next_validation))
    }

    /// Finds out whether a registration still means the file behind `fd`.
    fn validate(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
        let Some(Registration {
            word,
            generation,
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
                // Under the waiters' generation: if it passes meanwhile, the new
                // registration is as stale as they are.
                self.register_under(fd, word, generation)
            }
            result => result,
        };
        match result {
            Ok(()) => self.table.set_validated(fd),
            Err(e) if e.raw_os_error() == Some(EBADF) => {
                self.table.release(fd, Outcome::Closed, woken);
            }
            // What can't be watched is for the waiters to try again: the
            // error is theirs when they wait once more.
            Err(_) => self.table.release(fd, Outcome::Ready, woken),
        }
    }

    /// The tick of the latest look.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Makes sure that a blocking poll ends `delay` from now, at `tick`.
    ///
    /// A timer fd that is set for an earlier tick stays: it goes off once for
    /// nothing, where setting it anew would cost a system call for every
    /// timeout that is taken back.
    pub(super) fn arm(&mut self, tick: u64, delay: Duration) -> io::Result<()> {
        if self.armed.is_none_or(|armed| tick < armed) {
            self.timer_fd.arm(delay)?;
            self.armed = Some(tick);
        }
        Ok(())
    }

    /// Takes events from the kernel; waits for one if `block`. To be called
    /// when all have been dispatched that the last poll brought.
    pub(super) fn poll(&mut self, block: bool) -> io::Result<()> {
        debug_assert_eq!(self.pending_events(), 0, "events are dispatched first");
        self.events_read.clear();
        self.dispatched = 0;
        let timeout = if block { None } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            // The caller looks again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let token = event.token();
            match token {
                NOTIFIER => {}
                TIMER => self.armed = None,
                Token(bits) => {
                    let ready = Readiness {
                        read: event.is_readable(),
                        write: event.is_writable(),
                        read_closed: event.is_read_closed() || event.is_error(),
                        write_closed: event.is_write_closed() || event.is_error(),
                        urgent: event.is_priority(),
                    };
                    self.events_read.push(ReadyEvent {
                        fd: bits as u32 as RawFd,
                        serial: (bits >> 32) as u32,
                        ready,
                    });
                }
            }
        }
        Ok(())
    }

    /// How many events have not been dispatched.
    #[inline(always)]
    pub(crate) fn pending_events(&self) -> usize {
        self.events_read.len() - self.dispatched
    }

    /// Appends the wakers of all that the next `most` events concern. What
    /// those after them need is prefetched for the next call: who dispatches a
    /// few, lets them run and comes again waits for memory but once, where a
    /// thousand are evicted again before they run.
    pub(crate) fn dispatch(&mut self, most: usize, woken: &mut Vec<Waker>) {
        let events_read = &self.events_read[self.dispatched..];
        let (now, later) = events_read.split_at(most.min(events_read.len()));
        for one in later.iter().take(most) {
            self.table.prefetch(one.fd);
        }
        for one in now {
            self.table.event(one.fd, one.serial, one.ready, woken);
        }
        self.dispatched += now.len();
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
