//! Reactor: which descriptors are registered with the kernel's event queue,
//! and whether a registration still holds.
//!
//! Lives here: policy alone, when to register and to validate, and which events
//! are pending. Does not live here: any system call (`poller.rs`), what is known
//! of a descriptor (`fd_table.rs`), and what the timer is set for (`mod.rs`). So
//! `fuzz_ops/reactor.rs` runs it without a kernel.
//!
//! A descriptor is registered at its first wait, for both directions, and
//! stays registered: a wait on a registered one costs no system call. That is
//! only right while the number means the same file. Three things watch over it:
//!
//! 1. A hook that closes or replaces a descriptor moves the generation of its
//!    number; the entry is stale from then on (`sys/fd/table.rs`, `fd_table.rs`).
//! 2. What no hook saw is found by asking: a waiter that has been parked for
//!    [`REVALIDATE_AFTER`] without its registration having been validated since
//!    has it validated by [`Poller::reregister`], once a park, or later when
//!    there are many. (One that has been validated and is still parked when the number
//!    ends unseen goes on waiting, as a thread would in the kernel.)
//!    That reports a ready descriptor again; another file is found and registered, and
//!    what waits for it tries again, because it may want no wait. So a missed close
//!    costs a delay, not a wake-up. After that the waiter costs nothing for as long as
//!    it waits.
//! 3. Events carry the serial number of their registration. An old file that
//!    lives on through a `dup` keeps sending events under the old number, and
//!    they are ignored.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::Duration;

use super::clock;
use super::fd_table::{FdKind, FdTable, Registration};
use super::poller::{DeregisterFn, Notifier, Poller, ReadyEvent, WatchError};
use super::wait_queue::{Condition, Direction, Outcome, WaitKey};
use crate::sys::fd;
use crate::sys::fd::table::Record;

/// How long a waiter is parked before its registration is validated, in ticks.
/// (Soon, for the fuzzer: it has much to see.)
pub(super) const REVALIDATE_AFTER: u64 =
    clock::ticks(Duration::from_millis(if cfg!(fuzzing) { 1 } else { 50 }));
/// Validations in one go: many that park together are not validated at once.
const VALIDATIONS_A_TURN: u64 = 128;
/// Ticks that pass for each before the next ones are made. A validation is a
/// system call of half a microsecond: together they take under 1 % of the time.
const VALIDATION_TICKS: u64 = 1;
/// Descriptors looked at in one go for waiters to validate.
const LOOKS_A_TURN: u64 = 1024;
/// Unvalidated waits for which memory is kept when nobody waits.
const KEPT: usize = 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Reactor {
    poller: Box<dyn Poller>,
    /// The tick that the poller's timer is set for, until it goes off.
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
    events: Vec<ReadyEvent>,
    dispatched: usize,
    serial: u32,
    /// The tick of the latest look.
    now: u64,
}

#[cold]
fn kind_of(poller: &dyn Poller, fd: RawFd) -> FdKind {
    if poller.is_tcp_stream(fd) {
        FdKind::Stream
    } else {
        FdKind::Other
    }
}

impl Reactor {
    pub(super) fn new(poller: Box<dyn Poller>) -> Self {
        Self {
            poller,
            armed: None,
            table: FdTable::new(),
            unvalidated: VecDeque::new(),
            next_validation: 0,
            closed_early: Vec::new(),
            events: Vec::new(),
            dispatched: 0,
            serial: 0,
            now: 0,
        }
    }

    /// Ends a blocking poll, now or the next one, from any thread.
    pub(crate) fn notifier(&self) -> Notifier {
        self.poller.notifier()
    }

    /// Deregisters a number that is about to end, from the reactor's own thread,
    /// whatever is borrowed.
    pub(crate) fn deregister_by_number(&self) -> DeregisterFn {
        self.poller.deregister_by_number()
    }

    /// Whether a short read or write on `fd` shows that it is not ready any
    /// more. Says no for a descriptor that was never waited for.
    ///
    /// True of plain TCP without urgent data. Where something in the kernel
    /// sits on the connection (kTLS, sockmap) a read may end short at a
    /// record; the validation of parked waiters then finds what is left.
    #[inline]
    pub(crate) fn is_stream(&mut self, fd: RawFd) -> bool {
        let poller = &*self.poller;
        self.table.kind(fd, |fd| kind_of(poller, fd)) == FdKind::Stream
    }

    /// Notes that a call moved something, but less than asked: what
    /// [is a stream](Self::is_stream) is not ready then.
    #[inline(always)]
    pub(crate) fn moved_short(&mut self, fd: RawFd, direction: Direction) {
        let poller = &*self.poller;
        self.table
            .moved_short(fd, direction, |fd| kind_of(poller, fd));
    }

    /// Parks `waker` until the condition is met. To be called when the hint
    /// was [`Hint::NotReady`](super::Hint::NotReady) or a call has failed with
    /// `EAGAIN` since the last look: what was ready before is not reported again.
    ///
    /// # Errors
    ///
    /// Any but [`WatchError::NotRegistered`].
    #[inline(always)]
    pub(crate) fn wait(
        &mut self,
        fd: RawFd,
        condition: impl Into<Condition>,
        waker: Waker,
    ) -> Result<WaitKey, WatchError> {
        let condition = condition.into();
        let (key, to_queue) = match self.table.wait(fd, condition, waker, self.now) {
            Ok(waited) => waited,
            Err(waker) => {
                self.register_anew(fd)?;
                self.table.wait_registered(fd, condition, waker, self.now)
            }
        };
        // After a new registration, too: another thread may be in the middle
        // of closing the descriptor, past `renew` and not yet in the kernel.
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
    /// before and was woken, without any other wait here since: not
    /// open also if the number was closed since then, by another thread. It is not to
    /// wait for what the number means next.
    pub(crate) fn wait_again(
        &mut self,
        fd: RawFd,
        condition: impl Into<Condition>,
        waker: Waker,
    ) -> Result<WaitKey, WatchError> {
        if self.table.is_stale(fd) {
            return Err(WatchError::NotOpen);
        }
        self.wait(fd, condition, waker)
    }

    #[cold]
    fn register_anew(&mut self, fd: RawFd) -> Result<(), WatchError> {
        // Those that still wait for the old file learn that it is gone, at the
        // next look.
        self.table
            .release(fd, Outcome::Closed, &mut self.closed_early);
        self.register(fd)
    }

    /// Ends all waits on a descriptor whose generation has moved: call
    /// [`renew`](fd::table::renew), then this on every worker. It may come long after
    /// the number was closed or replaced: what was registered since then stays.
    pub(crate) fn fd_gone(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
        if self.table.is_stale(fd) {
            self.table.release(fd, Outcome::Closed, woken);
            // In vain if the number is closed by now, and then it is not needed,
            // unless a dup keeps the file: see 3. in the header.
            self.poller.deregister(fd);
        }
    }

    /// [`Reactor::fd_gone`] for whatever descriptors it concerns.
    pub(crate) fn any_gone(&mut self, woken: &mut Vec<Waker>) {
        for fd in self.table.numbers() {
            self.fd_gone(fd, woken);
        }
    }

    /// Registers what `fd` means now.
    fn register(&mut self, fd: RawFd) -> Result<(), WatchError> {
        let (record, generation) = fd::table::register(fd).ok_or(WatchError::NotOpen)?;
        // Before the system call: a close that comes between makes it stale.
        self.register_under(fd, record, generation)
    }

    fn register_under(
        &mut self,
        fd: RawFd,
        record: &'static Record,
        generation: u32,
    ) -> Result<(), WatchError> {
        let serial = self.serial.wrapping_add(1);
        self.poller.register(fd, serial)?;
        self.serial = serial;
        self.table.registered(fd, record, generation, serial);
        Ok(())
    }

    /// Sets the time, and hands out what became known since the last look.
    #[inline]
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
            record,
            generation,
            serial,
        }) = self.table.registration(fd)
        else {
            return self.fd_gone(fd, woken);
        };
        let result = match self.poller.reregister(fd, serial) {
            Err(WatchError::NotRegistered) => {
                // What is known of the number is of another file: the waiters try again,
                // and ask.
                fd::table::invalidate(fd);
                self.table.release(fd, Outcome::Ready, woken);
                // Under their generation: if it passes meanwhile, the new registration
                // is as stale as they are.
                self.register_under(fd, record, generation)
            }
            result => result,
        };
        match result {
            Ok(()) => self.table.set_validated(fd),
            Err(WatchError::NotOpen) => {
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
    /// A timer that is set for an earlier tick stays: it goes off once for
    /// nothing, where setting it anew would cost a system call for every
    /// timeout that is taken back.
    pub(super) fn arm(&mut self, tick: u64, delay: Duration) -> io::Result<()> {
        if self.armed.is_none_or(|armed| tick < armed) {
            self.poller.arm(delay)?;
            self.armed = Some(tick);
        }
        Ok(())
    }

    /// Takes events from the kernel; waits for one if `block`. To be called
    /// when all have been dispatched that the last poll brought.
    pub(super) fn poll(&mut self, block: bool) -> io::Result<()> {
        debug_assert_eq!(self.pending_events(), 0, "events are dispatched first");
        self.events.clear();
        self.dispatched = 0;
        if self.poller.wait(block, &mut self.events)? {
            self.armed = None;
        }
        Ok(())
    }

    /// How many events have not been dispatched.
    #[inline(always)]
    pub(crate) fn pending_events(&self) -> usize {
        self.events.len() - self.dispatched
    }

    /// Appends the wakers of all that the next `most` events concern. What
    /// those after them need is prefetched for the next call: who dispatches a
    /// few, lets them run and comes again waits for memory but once, where a
    /// thousand are evicted again before they run.
    pub(crate) fn dispatch(&mut self, most: usize, woken: &mut Vec<Waker>) {
        let events = &self.events[self.dispatched..];
        let (now, later) = events.split_at(most.min(events.len()));
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
#[cfg(any(test, fuzzing))]
impl Reactor {
    /// What the last poll brought.
    pub(super) fn last_events(&self) -> &[ReadyEvent] {
        &self.events
    }

    pub(super) fn is_pending(&self, key: &WaitKey) -> bool {
        self.table.pending(key).is_some()
    }
}
