//! Descriptor table: the readiness of each descriptor, and its wait queue.
//!
//! Lives here: the table by descriptor number, hints, staleness. Does not live
//! here: any system call (`poller.rs`), when a registration is made or
//! validated (`reactor.rs`), and how waiters are kept (`wait_queue.rs`).
//!
//! - A direction is **not ready** when a call has shown so and no event has
//!   come since: its readiness is cleared. Any event of the direction ends
//!   that. `poll` has a readiness of its own: it may find a direction not ready
//!   where a call would succeed. Closed ends and errors are **latched**: the readiness of such a
//!   direction is never cleared again, because it may be ready without a
//!   further edge.
//! - An entry is **current** while its registration stands and the generation
//!   of its number (`sys/fd/table.rs`) is the one under which that was made. An entry
//!   that is not current hints nothing and makes way for a new one.
//! - A waiter lives until [`FdTable::finish`], which reads its outcome; one
//!   whose generation has passed meanwhile reads [`Outcome::Closed`], whatever
//!   came before: the number may be another file by now.

use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::task::Waker;

use super::poller::Readiness;
use super::wait_queue::{Condition, Direction, FdWaiter, Outcome, WaitKey, WaitQueue, WaitQueues};
use crate::sys::fd::table::Record;
use crate::util::prefetch;

/// What is known before a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Nothing speaks against trying the call.
    Try,
    /// Not ready when last tried, and no event since: wait without trying.
    NotReady,
}

/// What an event of a direction is for: calls and `poll`.
const READ_BITS: u8 = Condition::Read.bit() | Condition::PollRead.bit();
const WRITE_BITS: u8 = Condition::Write.bit() | Condition::PollWrite.bit();

impl Readiness {
    /// Conditions of which something happened.
    #[inline(always)]
    fn bits(self) -> u8 {
        let [read, write] = [self.read | self.read_closed, self.write | self.write_closed];
        let exception = self.urgent | self.read_closed | self.write_closed;
        (u8::from(read) * READ_BITS)
            | (u8::from(write) * WRITE_BITS)
            | (u8::from(exception) * Condition::Exception.bit())
    }

    /// Directions that are closed. (An exception is told once each time.)
    #[inline(always)]
    fn closed_bits(self) -> u8 {
        (u8::from(self.read_closed) * READ_BITS) | (u8::from(self.write_closed) * WRITE_BITS)
    }
}

/// Whether a short transfer shows that a direction is not ready any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FdKind {
    /// Not asked yet.
    Unknown,
    /// TCP: it does.
    Stream,
    /// Anything else, where it may be the end of a message, or of a page.
    Other,
}

/// A cache line, which is all that a wait and its event touch here.
#[derive(Debug)]
#[repr(align(64))]
struct FdEntry {
    /// What the process knows of this number; `None` before the first registration.
    record: Option<&'static Record>,
    /// That of the number, before the registration was made.
    generation: u32,
    /// The number of the registration, which its events carry.
    serial: u32,
    queue: WaitQueue,
    /// Conditions (bits) that are not met: directions that are not ready, and no
    /// exception since a waiter last heard of one.
    not_ready: u8,
    /// Directions (bits) whose readiness is never cleared again.
    latched: u8,
    registered: bool,
    kind: FdKind,
    /// Queued by the reactor for a look at its unvalidated waiters.
    queued: bool,
}

// ARCHITECTURE.md counts with it.
const _: () = assert!(size_of::<FdEntry>() == 64);

/// What a registration was made under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) record: &'static Record,
    pub(super) generation: u32,
    pub(super) serial: u32,
}

impl FdEntry {
    const NEW: FdEntry = FdEntry {
        record: None,
        generation: 0,
        serial: 0,
        queue: WaitQueue::EMPTY,
        not_ready: Condition::Exception.bit(),
        latched: 0,
        registered: false,
        kind: FdKind::Unknown,
        queued: false,
    };

    /// The generation of the number, which may have moved on from ours.
    #[inline(always)]
    fn present_generation(&self) -> Option<u32> {
        self.record.map(Record::generation)
    }

    #[inline(always)]
    fn is_current(&self) -> bool {
        self.registered && self.present_generation() == Some(self.generation)
    }

    #[inline(always)]
    fn clear_readiness(&mut self, condition: Condition) {
        self.not_ready |= condition.bit() & !self.latched;
    }

    #[inline(always)]
    fn kind(&mut self, fd: RawFd, ask: impl FnOnce(RawFd) -> FdKind) -> FdKind {
        if self.kind == FdKind::Unknown {
            self.kind = ask(fd);
        }
        self.kind
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct FdTable {
    entries: Vec<FdEntry>,
    queues: WaitQueues,
    next: Option<Waker>,
    /// Entries with a registration.
    registered: usize,
}

impl FdTable {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            queues: WaitQueues::new(),
            next: None,
            registered: 0,
        }
    }

    #[inline(always)]
    fn entry(&self, fd: RawFd) -> Option<&FdEntry> {
        // A negative number becomes one that no table reaches.
        self.entries.get(fd as u32 as usize)
    }

    /// The entry, if its registration stands and means the present file.
    fn current(&mut self, fd: RawFd) -> Option<&mut FdEntry> {
        self.entries
            .get_mut(fd as u32 as usize)
            .filter(|entry| entry.is_current())
    }

    /// Whether to try a call or to wait at once.
    #[inline]
    pub(crate) fn hint(&self, fd: RawFd, condition: impl Into<Condition>) -> Hint {
        let bit = condition.into().bit();
        match self.entry(fd) {
            Some(e) if e.not_ready & bit != 0 && e.is_current() => Hint::NotReady,
            _ => Hint::Try,
        }
    }

    /// Whether it is a stream that has not ended, of which nothing has shown that there is
    /// nothing to read.
    pub(crate) fn is_readable_stream(&self, fd: RawFd) -> bool {
        self.entry(fd).is_some_and(|entry| {
            let stops = entry.latched | entry.not_ready & Condition::Read.bit();
            entry.kind == FdKind::Stream && stops == 0 && entry.is_current()
        })
    }

    /// Notes that a call just found the direction not ready, or left it so. Whether an
    /// event has told of an end or an error of the direction: it may be that only a
    /// call that waits finds it.
    #[inline]
    pub(crate) fn clear_readiness(&mut self, fd: RawFd, condition: impl Into<Condition>) -> bool {
        let condition = condition.into();
        // Without a registration no event would ever end it.
        let Some(entry) = self.current(fd) else {
            return false;
        };
        entry.clear_readiness(condition);
        entry.latched & condition.bit() != 0
    }

    /// Whether an exception was told of that nobody has heard of yet, and whether one
    /// ever was an error. Nobody hears of it again.
    pub(crate) fn take_exception(&mut self, fd: RawFd) -> Option<bool> {
        let entry = self.current(fd)?;
        let told = entry.not_ready & Condition::Exception.bit() == 0;
        entry.clear_readiness(Condition::Exception);
        told.then_some(entry.latched != 0)
    }

    /// The kind of a current registration, found out by `ask` when needed.
    #[inline]
    pub(super) fn kind(&mut self, fd: RawFd, ask: impl FnOnce(RawFd) -> FdKind) -> FdKind {
        self.current(fd)
            .map_or(FdKind::Unknown, |entry| entry.kind(fd, ask))
    }

    /// A call moved less than asked: a stream is not ready then.
    #[inline(always)]
    pub(super) fn moved_short(
        &mut self,
        fd: RawFd,
        direction: Direction,
        ask: impl FnOnce(RawFd) -> FdKind,
    ) {
        if let Some(entry) = self.current(fd) {
            if entry.kind(fd, ask) == FdKind::Stream {
                entry.clear_readiness(direction.into());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_current(&self, fd: RawFd) -> bool {
        self.entry(fd).is_some_and(FdEntry::is_current)
    }

    /// An entry that was registered and has been overtaken by its generation.
    pub(super) fn is_stale(&self, fd: RawFd) -> bool {
        self.entry(fd)
            .is_some_and(|entry| entry.registered && !entry.is_current())
    }

    /// All numbers that have an entry.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> + use<> {
        (0..self.entries.len()).map(|fd| fd as RawFd)
    }

    /// Records a registration made under `generation`. Waiters stay: a
    /// descriptor that was replaced unseen is waited for under its new meaning.
    pub(super) fn registered(
        &mut self,
        fd: RawFd,
        record: &'static Record,
        generation: u32,
        serial: u32,
    ) {
        let index = fd as u32 as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || FdEntry::NEW);
        }
        let entry = &mut self.entries[index];
        self.registered += usize::from(!entry.registered);
        *entry = FdEntry {
            record: Some(record),
            generation,
            serial,
            queue: mem::replace(&mut entry.queue, WaitQueue::EMPTY),
            queued: entry.queued,
            registered: true,
            ..FdEntry::NEW
        };
        self.set_validated(fd);
    }

    /// The registration, if it is current.
    pub(super) fn registration(&self, fd: RawFd) -> Option<Registration> {
        let entry = self.entry(fd).filter(|entry| entry.is_current())?;
        Some(Registration {
            record: entry.record?,
            generation: entry.generation,
            serial: entry.serial,
        })
    }

    /// How many ticks ago those parked first whose registration was neither
    /// made nor validated since; `None` if there are none.
    pub(super) fn longest_unvalidated(&self, fd: RawFd, now: u64) -> Option<u64> {
        let waiters = self.queues.pending(&self.entry(fd)?.queue);
        let waiters = waiters.filter(|waiter| !waiter.validated);
        // One that has been parked for three days is taken for younger than it
        // is, and is validated a little later.
        let ages = waiters.map(|waiter| u64::from((now as u32).wrapping_sub(waiter.since)));
        ages.max()
    }

    /// The descriptor is not queued any more.
    pub(super) fn unqueued(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            entry.queued = false;
        }
    }

    /// The registration was made or validated just now: that goes for all that
    /// wait.
    pub(super) fn set_validated(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            self.queues.set_validated(&mut entry.queue);
        }
    }

    /// Adds a waiter if the registration is current, and says whether the
    /// descriptor has to be queued for a look at its waiters; otherwise gives
    /// the waker back.
    #[inline]
    pub(super) fn wait(
        &mut self,
        fd: RawFd,
        condition: Condition,
        waker: Waker,
        now: u64,
    ) -> Result<(WaitKey, bool), Waker> {
        let entry = self.entries.get_mut(fd as u32 as usize);
        let Some(entry) = entry.filter(|entry| entry.is_current()) else {
            return Err(waker);
        };
        Ok(add_waiter(
            &mut self.queues,
            entry,
            fd,
            condition,
            waker,
            now,
        ))
    }

    /// Adds a waiter if the direction is not ready.
    #[inline(always)]
    pub(super) fn wait_if_not_ready(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
        now: u64,
    ) -> Option<(WaitKey, bool)> {
        let entry = self.entries.get_mut(fd as u32 as usize)?;
        let condition = Condition::from(direction);
        if entry.not_ready & condition.bit() == 0 || !entry.is_current() {
            return None;
        }
        let queues = &mut self.queues;
        Some(add_waiter(queues, entry, fd, condition, waker, now))
    }

    /// Adds a waiter to a registration made just now. It may be stale already:
    /// then the thread that made it stale closes the waiter.
    pub(super) fn wait_registered(
        &mut self,
        fd: RawFd,
        condition: Condition,
        waker: Waker,
        now: u64,
    ) -> (WaitKey, bool) {
        let entry = &mut self.entries[fd as u32 as usize];
        debug_assert!(entry.registered, "no event would reach this waiter");
        add_waiter(&mut self.queues, entry, fd, condition, waker, now)
    }

    /// Ends a wait, whether it was woken or not, and says what happened. Then there may
    /// be [another to be woken](FdTable::take_next).
    #[inline(always)]
    pub(crate) fn finish(&mut self, key: WaitKey) -> Outcome {
        let fd = self.queues.fd(&key);
        let entry = &mut self.entries[fd as u32 as usize];
        let (outcome, generation, condition) = self.queues.leave(&mut entry.queue, key);
        if entry.present_generation() != Some(generation) {
            return Outcome::Closed;
        }
        if outcome == Outcome::Ready && entry.queue.has_others() {
            self.find_next(fd, condition);
        }
        outcome
    }

    /// The next waiter for a direction has its turn, unless that was found not to be
    /// ready since the one before it was woken. Of what has ended in any direction all
    /// are told at each event, and nothing says that it is not ready: no turns there,
    /// or they would never end.
    #[cold]
    fn find_next(&mut self, fd: RawFd, condition: Condition) {
        let entry = &mut self.entries[fd as u32 as usize];
        let in_turns = condition != Condition::Exception && entry.latched == 0;
        if in_turns && entry.is_current() && entry.not_ready & condition.bit() == 0 {
            let mut woken = Vec::new();
            self.queues
                .resolve_one(&mut entry.queue, condition, Outcome::Ready, &mut woken);
            self.next = woken.pop();
        }
    }

    /// Whether [`FdTable::take_next`] has one.
    #[inline(always)]
    pub(crate) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Whose turn it is after the wait that was finished last; to be woken.
    pub(crate) fn take_next(&mut self) -> Option<Waker> {
        self.next.take()
    }

    /// The descriptor of a waiter that is still pending.
    #[cfg(any(test, fuzzing))]
    pub(super) fn pending(&self, key: &WaitKey) -> Option<RawFd> {
        let fd = self.queues.fd(key);
        let queue = &self.entries[fd as u32 as usize].queue;
        self.queues.is_pending(queue, key).then_some(fd)
    }

    /// All waits that are pending: for what, and the tick of parking, without
    /// its upper half.
    pub(super) fn pending_all(&self) -> impl Iterator<Item = (&Waker, RawFd, Condition, u32)> {
        let queues = self.entries.iter().map(|entry| &entry.queue);
        let waiters = queues.flat_map(|queue| self.queues.pending(queue));
        waiters.filter_map(|waiter| {
            let waker = waiter.waker.as_ref()?;
            Some((waker, waiter.fd, waiter.condition, waiter.since))
        })
    }

    /// How many descriptors are registered, as far as is known.
    pub(crate) fn registered_count(&self) -> usize {
        self.registered
    }

    /// Whether nobody waits on any descriptor.
    pub(super) fn is_idle(&self) -> bool {
        self.queues.len() == 0
    }

    /// Asks the processor for an entry.
    #[inline(always)]
    pub(super) fn prefetch(&self, fd: RawFd) {
        if let Some(entry) = self.entry(fd) {
            prefetch(ptr::from_ref(entry).cast());
        }
    }

    /// Applies an event, unless its registration is not the present one.
    #[inline(always)]
    pub(super) fn event(
        &mut self,
        fd: RawFd,
        serial: u32,
        ready: Readiness,
        woken: &mut Vec<Waker>,
    ) {
        let entry = self.entries.get_mut(fd as u32 as usize);
        let Some(entry) = entry.filter(|entry| entry.serial == serial && entry.is_current()) else {
            return;
        };
        if ready.urgent {
            entry.kind = FdKind::Other;
        }
        entry.not_ready &= !ready.bits();
        entry.latched |= ready.closed_bits();
        if entry.queue.has_one_at_most() {
            entry.queue.resolve_any(ready.bits(), Outcome::Ready, woken);
            return;
        }
        // What is an end, or urgent, is for all.
        let for_all = entry.latched != 0 || ready.urgent;
        event_of_many(&mut self.queues, &mut entry.queue, ready, for_all, woken);
    }

    /// Forgets a registration; all that wait get `outcome`.
    pub(super) fn release(&mut self, fd: RawFd, outcome: Outcome, woken: &mut Vec<Waker>) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            for condition in Condition::ALL {
                self.queues
                    .resolve(&mut entry.queue, condition, outcome, woken);
            }
            self.registered -= usize::from(entry.registered);
            entry.registered = false;
        }
    }
}

#[cold]
fn event_of_many(
    queues: &mut WaitQueues,
    queue: &mut WaitQueue,
    ready: Readiness,
    for_all: bool,
    woken: &mut Vec<Waker>,
) {
    for condition in Condition::ALL {
        if ready.bits() & condition.bit() == 0 {
            continue;
        }
        if for_all {
            queues.resolve(queue, condition, Outcome::Ready, woken);
        } else {
            queues.resolve_one(queue, condition, Outcome::Ready, woken);
        }
    }
}

#[inline(always)]
fn add_waiter(
    queues: &mut WaitQueues,
    entry: &mut FdEntry,
    fd: RawFd,
    condition: Condition,
    waker: Waker,
    now: u64,
) -> (WaitKey, bool) {
    let waiter = FdWaiter {
        waker: Some(waker),
        fd,
        generation: entry.generation,
        since: now as u32,
        condition,
        outcome: Outcome::Pending,
        validated: false,
    };
    let key = queues.join(&mut entry.queue, waiter);
    let to_queue = !mem::replace(&mut entry.queued, true);
    (key, to_queue)
}
