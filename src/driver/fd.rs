//! What the driver knows of each descriptor, and who waits on it.
//!
//! Lives here: the table by descriptor number, hints, staleness. Does not live
//! here: any system call (`reactor.rs`), and how waiters are kept.
//!
//! - A direction is **drained** when a call has shown that it is not ready and
//!   no event has come since. Any event of the direction ends that. Closed
//!   ends and errors stick: such a direction is never drained again, because
//!   it may be ready without a further edge.
//! - An entry is **current** while its registration stands and the epoch of
//!   its number (`epoch.rs`) is the one that the registration was made under.
//!   An entry that is not current hints nothing and makes way for a new one.
//! - A waiter (`waiters.rs`) lives until [`FdTable::finish`], which reads his
//!   outcome; one whose epoch has passed meanwhile reads [`Outcome::Closed`],
//!   whatever came before: the number may be another file by now.

use std::mem;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use super::waiters::{Line, WaitKey, Waiter, Waiters};
use crate::util::prefetch;

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Data, a connection to accept, or the end of the stream.
    Read,
    /// Room to write, or the end of a connection attempt.
    Write,
}

/// What is known before a call is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Nothing speaks against trying the call.
    Try,
    /// Not ready when last tried, and no event since: wait without trying.
    Drained,
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An event came: try the call again.
    Ready,
    /// The descriptor was closed or replaced meanwhile.
    Closed,
    /// Nothing yet: the wait was given up, on a timeout for instance.
    Pending,
}

/// What an epoll event said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) read: bool,
    pub(super) write: bool,
    /// No further reads will wait: end of stream, hang-up or error.
    pub(super) read_closed: bool,
    /// No further writes will wait: closed, hang-up or error.
    pub(super) write_closed: bool,
    /// Out-of-band data: short reads may stop at its mark.
    pub(super) urgent: bool,
}

impl Ready {
    /// Directions in which something happened.
    #[inline(always)]
    fn bits(self) -> u8 {
        let [read, write] = [self.read | self.read_closed, self.write | self.write_closed];
        (u8::from(read) * Direction::Read.bit()) | (u8::from(write) * Direction::Write.bit())
    }

    /// Directions that are closed.
    #[inline(always)]
    fn closed_bits(self) -> u8 {
        (u8::from(self.read_closed) * Direction::Read.bit())
            | (u8::from(self.write_closed) * Direction::Write.bit())
    }
}

/// Whether a short transfer shows that a direction is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
struct Entry {
    /// The epoch word of this number; `None` before the first registration.
    word: Option<&'static AtomicU32>,
    /// What `word` held before the registration was made.
    epoch: u32,
    /// The number of the registration, which its events carry.
    serial: u32,
    line: Line,
    /// Directions (bits) that are drained.
    drained: u8,
    /// Directions (bits) that can't be drained any more.
    sticky: u8,
    registered: bool,
    kind: Kind,
    /// Queued by the reactor for a look at its unchecked waiters.
    queued: bool,
}

/// What a registration was made under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) word: &'static AtomicU32,
    pub(super) epoch: u32,
    pub(super) serial: u32,
}

impl Direction {
    #[inline(always)]
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Entry {
    const NEW: Entry = Entry {
        word: None,
        epoch: 0,
        serial: 0,
        line: Line::EMPTY,
        drained: 0,
        sticky: 0,
        registered: false,
        kind: Kind::Unknown,
        queued: false,
    };

    /// The epoch of the number, which may have moved on from ours.
    #[inline(always)]
    fn present_epoch(&self) -> Option<u32> {
        // Pairs with the bump: whoever learned of a descriptor's new meaning
        // from the thread that closed the old one sees the bump, too.
        self.word.map(|word| word.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn is_current(&self) -> bool {
        self.registered && self.present_epoch() == Some(self.epoch)
    }

    #[inline(always)]
    fn set_drained(&mut self, direction: Direction) {
        self.drained |= direction.bit() & !self.sticky;
    }

    #[inline(always)]
    fn kind(&mut self, fd: RawFd, ask: impl FnOnce(RawFd) -> Kind) -> Kind {
        if self.kind == Kind::Unknown {
            self.kind = ask(fd);
        }
        self.kind
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct FdTable {
    entries: Vec<Entry>,
    waiters: Waiters,
}

impl FdTable {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            waiters: Waiters::new(),
        }
    }

    #[inline(always)]
    fn entry(&self, fd: RawFd) -> Option<&Entry> {
        // A negative number becomes one that no table reaches.
        self.entries.get(fd as u32 as usize)
    }

    /// The entry, if its registration stands and means the present file.
    fn current(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.entries
            .get_mut(fd as u32 as usize)
            .filter(|entry| entry.is_current())
    }

    #[inline]
    pub(super) fn hint(&self, fd: RawFd, direction: Direction) -> Hint {
        match self.entry(fd) {
            Some(e) if e.drained & direction.bit() != 0 && e.is_current() => Hint::Drained,
            _ => Hint::Try,
        }
    }

    #[inline]
    pub(super) fn set_drained(&mut self, fd: RawFd, direction: Direction) {
        // Without a registration no event would ever end it.
        if let Some(entry) = self.current(fd) {
            entry.set_drained(direction);
        }
    }

    /// The kind of a current registration, found out by `ask` when needed.
    #[inline]
    pub(super) fn kind(&mut self, fd: RawFd, ask: impl FnOnce(RawFd) -> Kind) -> Kind {
        self.current(fd)
            .map_or(Kind::Unknown, |entry| entry.kind(fd, ask))
    }

    /// A call moved less than asked: that drains a stream.
    #[inline(always)]
    pub(super) fn moved_short(
        &mut self,
        fd: RawFd,
        direction: Direction,
        ask: impl FnOnce(RawFd) -> Kind,
    ) {
        if let Some(entry) = self.current(fd) {
            if entry.kind(fd, ask) == Kind::Stream {
                entry.set_drained(direction);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_current(&self, fd: RawFd) -> bool {
        self.entry(fd).is_some_and(Entry::is_current)
    }

    /// An entry that was registered and has been overtaken by its epoch.
    pub(super) fn is_stale(&self, fd: RawFd) -> bool {
        self.entry(fd)
            .is_some_and(|entry| entry.registered && !entry.is_current())
    }

    /// Records a registration made under `epoch`. Waiters stay: a descriptor
    /// that was replaced unseen is waited for under its new meaning.
    pub(super) fn registered(
        &mut self,
        fd: RawFd,
        word: &'static AtomicU32,
        epoch: u32,
        serial: u32,
    ) {
        let index = fd as u32 as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || Entry::NEW);
        }
        let entry = &mut self.entries[index];
        *entry = Entry {
            word: Some(word),
            epoch,
            serial,
            line: mem::replace(&mut entry.line, Line::EMPTY),
            queued: entry.queued,
            registered: true,
            ..Entry::NEW
        };
        self.set_checked(fd);
    }

    /// The registration, if it is current.
    pub(super) fn registration(&self, fd: RawFd) -> Option<Registration> {
        let entry = self.entry(fd).filter(|entry| entry.is_current())?;
        Some(Registration {
            word: entry.word?,
            epoch: entry.epoch,
            serial: entry.serial,
        })
    }

    /// How many ticks ago those parked first whose registration was neither
    /// made nor checked since; `None` if there are none.
    pub(super) fn longest_unchecked(&self, fd: RawFd, now: u64) -> Option<u64> {
        let waiters = self.waiters.pending(&self.entry(fd)?.line);
        let waiters = waiters.filter(|waiter| !waiter.checked);
        // Who has been parked for three days is taken for younger than he is,
        // and is checked a little later.
        let ages = waiters.map(|waiter| u64::from((now as u32).wrapping_sub(waiter.since)));
        ages.max()
    }

    /// The descriptor is not queued any more.
    pub(super) fn unqueued(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            entry.queued = false;
        }
    }

    /// The registration was made or checked just now: that goes for all who
    /// wait.
    pub(super) fn set_checked(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            self.waiters.set_checked(&mut entry.line);
        }
    }

    /// Adds a waiter if the registration is current, and says whether the
    /// descriptor has to be queued for a look at its waiters; otherwise gives
    /// the waker back.
    #[inline]
    pub(super) fn wait(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
        now: u64,
    ) -> Result<(WaitKey, bool), Waker> {
        let entry = self.entries.get_mut(fd as u32 as usize);
        let Some(entry) = entry.filter(|entry| entry.is_current()) else {
            return Err(waker);
        };
        Ok(add_waiter(
            &mut self.waiters,
            entry,
            fd,
            direction,
            waker,
            now,
        ))
    }

    /// Adds a waiter if the direction is drained.
    #[inline(always)]
    pub(super) fn wait_if_drained(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
        now: u64,
    ) -> Option<(WaitKey, bool)> {
        let entry = self.entries.get_mut(fd as u32 as usize)?;
        if entry.drained & direction.bit() == 0 || !entry.is_current() {
            return None;
        }
        let waiters = &mut self.waiters;
        Some(add_waiter(waiters, entry, fd, direction, waker, now))
    }

    /// Adds a waiter to a registration made just now. It may be stale already:
    /// then the waiter is closed by whoever made it stale.
    pub(super) fn wait_registered(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
        now: u64,
    ) -> (WaitKey, bool) {
        let entry = &mut self.entries[fd as u32 as usize];
        debug_assert!(entry.registered, "no event would reach this waiter");
        add_waiter(&mut self.waiters, entry, fd, direction, waker, now)
    }

    /// Removes a waiter and says what happened.
    #[inline(always)]
    pub(super) fn finish(&mut self, key: WaitKey) -> Outcome {
        let entry = &mut self.entries[self.waiters.fd(&key) as u32 as usize];
        let (outcome, epoch) = self.waiters.leave(&mut entry.line, key);
        if entry.present_epoch() == Some(epoch) {
            outcome
        } else {
            Outcome::Closed
        }
    }

    /// The descriptor of a waiter that is still pending.
    #[cfg(test)]
    pub(super) fn pending(&self, key: &WaitKey) -> Option<RawFd> {
        let fd = self.waiters.fd(key);
        let line = &self.entries[fd as u32 as usize].line;
        self.waiters.is_pending(line, key).then_some(fd)
    }

    /// Everybody who still waits: for what, and the tick of parking, without
    /// its upper half.
    pub(super) fn pending_all(&self) -> impl Iterator<Item = (&Waker, RawFd, Direction, u32)> {
        let lines = self.entries.iter().map(|entry| &entry.line);
        let waiters = lines.flat_map(|line| self.waiters.pending(line));
        waiters.filter_map(|waiter| {
            let waker = waiter.waker.as_ref()?;
            Some((waker, waiter.fd, waiter.direction, waiter.since))
        })
    }

    /// Whether nobody waits on any descriptor.
    pub(super) fn is_idle(&self) -> bool {
        self.waiters.len() == 0
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
    pub(super) fn event(&mut self, fd: RawFd, serial: u32, ready: Ready, woken: &mut Vec<Waker>) {
        let entry = self.entries.get_mut(fd as u32 as usize);
        let Some(entry) = entry.filter(|entry| entry.serial == serial && entry.is_current()) else {
            return;
        };
        if ready.urgent {
            entry.kind = Kind::Other;
        }
        entry.drained &= !ready.bits();
        entry.sticky |= ready.closed_bits();
        for direction in [Direction::Read, Direction::Write] {
            if ready.bits() & direction.bit() != 0 {
                self.waiters
                    .resolve(&mut entry.line, direction, Outcome::Ready, woken);
            }
        }
    }

    /// Forgets a registration; all who wait get `outcome`.
    pub(super) fn release(&mut self, fd: RawFd, outcome: Outcome, woken: &mut Vec<Waker>) {
        if let Some(entry) = self.entries.get_mut(fd as u32 as usize) {
            for direction in [Direction::Read, Direction::Write] {
                self.waiters
                    .resolve(&mut entry.line, direction, outcome, woken);
            }
            entry.registered = false;
        }
    }
}

#[inline(always)]
fn add_waiter(
    waiters: &mut Waiters,
    entry: &mut Entry,
    fd: RawFd,
    direction: Direction,
    waker: Waker,
    now: u64,
) -> (WaitKey, bool) {
    let waiter = Waiter {
        waker: Some(waker),
        fd,
        epoch: entry.epoch,
        since: now as u32,
        direction,
        outcome: Outcome::Pending,
        checked: false,
    };
    let key = waiters.join(&mut entry.line, waiter);
    let to_queue = !mem::replace(&mut entry.queued, true);
    (key, to_queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
