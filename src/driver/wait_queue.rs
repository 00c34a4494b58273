//! Wait queues: the waiters of a descriptor.
//!
//! Lives here: the queue of one descriptor, [`WaitQueue`], and what all queues
//! share, [`WaitQueues`]: the memory of their overflow lists. Does not live
//! here: what is known of the descriptor (`fd_table.rs`).
//!
//! Most descriptors have one waiter. It lies inline in the queue, which is a
//! part of the descriptor's entry: so a wait, the event that ends it and the
//! call that it was for find all that they need in one cache line. Those that
//! come while the inline waiter is there go to the queue's overflow lists, one
//! for each condition.
//!
//! What comes is for one of them, as in the kernel: an event wakes one waiter of its
//! direction, and who was woken wakes the next when it leaves, until one of them finds
//! the direction not ready any more. (All at once would each look in vain.)
//!
//! A waiter is pending until it has an outcome. An overflow waiter is on a list
//! for as long; the memory of either is its own until [`WaitQueues::leave`].

use std::os::fd::RawFd;
use std::task::Waker;

use slab::Slab;

use super::linked_slab::{LinkedSlab, SlabKey};
use crate::util::list::List;

/// No overflow lists.
const NONE: u32 = u32::MAX;

/// Which way a call moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Data, a connection to accept, or the end of the stream.
    Read,
    /// Room to write, or the end of a connection attempt.
    Write,
}

/// What a waiter waits for: a call to move bytes, or a `poll` to have an answer. They
/// have turns and a readiness of their own, since what `poll` takes for ready is not
/// what a call does: it asks for a quarter of the room (Unix sockets), a third (TCP), or
/// `SO_RCVLOWAT` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A call: that of [`Direction::Read`], or urgent data.
    Read,
    /// A call: that of [`Direction::Write`].
    Write,
    /// `poll` says that it can be read.
    PollRead,
    /// `poll` says that it can be written.
    PollWrite,
    /// None of them: urgent data, an error, or an end of either direction.
    Exception,
}

impl From<Direction> for Condition {
    #[inline(always)]
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self::Read,
            Direction::Write => Self::Write,
        }
    }
}

impl Condition {
    pub(super) const ALL: [Self; 5] = [
        Self::Read,
        Self::Write,
        Self::PollRead,
        Self::PollWrite,
        Self::Exception,
    ];

    /// Which way the call is to move bytes that comes next; writing, if none is.
    #[inline(always)]
    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Read | Self::PollRead => Direction::Read,
            Self::Write | Self::PollWrite | Self::Exception => Direction::Write,
        }
    }

    /// What a `poll` for a direction waits for.
    pub(crate) fn polled(direction: Direction) -> Self {
        match direction {
            Direction::Read => Self::PollRead,
            Direction::Write => Self::PollWrite,
        }
    }

    #[inline(always)]
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
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

/// A wait that is not finished yet: hand it to `FdTable::finish`, once.
#[derive(Debug)]
#[must_use = "a wait holds its waker until it is finished"]
pub(crate) struct WaitKey(Position);

#[derive(Debug)]
enum Position {
    /// Inline in the queue of this descriptor.
    Inline(RawFd),
    Overflow(SlabKey),
}

#[derive(Debug)]
pub(super) struct FdWaiter {
    /// Taken when the outcome is known.
    pub(super) waker: Option<Waker>,
    pub(super) fd: RawFd,
    /// That of the registration under which it waits.
    pub(super) generation: u32,
    /// The tick of parking, without its upper half.
    pub(super) since: u32,
    pub(super) condition: Condition,
    pub(super) outcome: Outcome,
    /// The registration was made or validated since.
    pub(super) validated: bool,
}

// Two to a cache line; and a key is returned in a register.
const _: () = assert!(size_of::<Option<FdWaiter>>() == 32 && size_of::<WaitKey>() == 8);

impl FdWaiter {
    fn is_pending(&self) -> bool {
        self.outcome == Outcome::Pending
    }

    /// Gives a pending waiter an outcome, and its waker to `woken`.
    #[inline(always)]
    fn resolve(&mut self, outcome: Outcome, woken: &mut Vec<Waker>) {
        self.outcome = outcome;
        if let Some(waker) = self.waker.take() {
            woken.push(waker);
        }
    }
}

/// The waiters of one descriptor.
#[derive(Debug)]
pub(super) struct WaitQueue {
    inline: Option<FdWaiter>,
    /// Index of the lists of all others.
    overflow: u32,
    /// The inline waiter had its turn last, before others that were there.
    inline_was_first: bool,
}

impl WaitQueue {
    pub(super) const EMPTY: Self = Self {
        inline: None,
        overflow: NONE,
        inline_was_first: false,
    };

    /// Whether anybody but the waiter that just left is there.
    #[inline(always)]
    pub(super) fn has_others(&self) -> bool {
        self.overflow != NONE || self.inline.is_some()
    }
}

impl WaitQueue {
    /// Whether nobody waits but the inline waiter, if it does.
    #[inline(always)]
    pub(super) fn has_one_at_most(&self) -> bool {
        self.overflow == NONE
    }

    /// Gives that one an outcome if it waits for any of the conditions (bits).
    #[inline(always)]
    pub(super) fn resolve_any(&mut self, bits: u8, outcome: Outcome, woken: &mut Vec<Waker>) {
        if let Some(waiter) = &mut self.inline {
            if bits & waiter.condition.bit() != 0 && waiter.is_pending() {
                waiter.resolve(outcome, woken);
            }
        }
    }
}

/// The overflow lists of all queues, and how many wait in all.
#[derive(Debug)]
pub(super) struct WaitQueues {
    waiters: LinkedSlab<FdWaiter>,
    /// Pending waiters by condition. Empty ones are removed.
    lists: Slab<[List; Condition::ALL.len()]>,
    inline: usize,
}

impl WaitQueues {
    pub(super) const fn new() -> Self {
        Self {
            waiters: LinkedSlab::new(),
            lists: Slab::new(),
            inline: 0,
        }
    }

    /// How many have not left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.inline + self.waiters.len()
    }

    #[inline(always)]
    pub(super) fn join(&mut self, queue: &mut WaitQueue, waiter: FdWaiter) -> WaitKey {
        if queue.inline.is_some() {
            return self.join_overflow(queue, waiter);
        }
        let fd = waiter.fd;
        queue.inline = Some(waiter);
        self.inline += 1;
        WaitKey(Position::Inline(fd))
    }

    #[cold]
    fn join_overflow(&mut self, queue: &mut WaitQueue, waiter: FdWaiter) -> WaitKey {
        if queue.overflow == NONE {
            let index = self.lists.insert([List::EMPTY; Condition::ALL.len()]);
            queue.overflow = u32::try_from(index).expect("fewer queues than descriptors");
        }
        let list = &mut self.lists[queue.overflow as usize][waiter.condition as usize];
        WaitKey(Position::Overflow(self.waiters.append(list, waiter)))
    }

    /// The descriptor for which a key's owner waits.
    #[inline(always)]
    pub(super) fn fd(&self, key: &WaitKey) -> RawFd {
        match key.0 {
            Position::Inline(fd) => fd,
            Position::Overflow(key) => self.waiters.get(self.index(key)).fd,
        }
    }

    /// Takes a waiter out of its queue, pending or not: its outcome, and the
    /// generation under which it waited.
    ///
    /// (Read where they are: a copy of the waiter would go through a part of the
    /// stack that the coroutine has not used since it was resumed, and wait for
    /// that to come from memory.)
    #[inline(always)]
    pub(super) fn leave(
        &mut self,
        queue: &mut WaitQueue,
        key: WaitKey,
    ) -> (Outcome, u32, Condition) {
        match key.0 {
            Position::Inline(_) => {
                self.inline -= 1;
                let waiter = queue.inline.as_ref().expect(KEPT);
                let end = (waiter.outcome, waiter.generation, waiter.condition);
                queue.inline = None;
                end
            }
            Position::Overflow(key) => self.leave_overflow(queue, key),
        }
    }

    #[cold]
    fn leave_overflow(&mut self, queue: &mut WaitQueue, key: SlabKey) -> (Outcome, u32, Condition) {
        let index = self.index(key);
        let waiter = self.waiters.get(index);
        if waiter.is_pending() {
            let list = &mut self.lists[queue.overflow as usize][waiter.condition as usize];
            list.unlink(&self.waiters, index);
            self.drop_empty_lists(queue);
        }
        let waiter = self.waiters.remove(index);
        (waiter.outcome, waiter.generation, waiter.condition)
    }

    fn index(&self, key: SlabKey) -> u32 {
        self.waiters.index(key).expect(KEPT)
    }

    fn drop_empty_lists(&mut self, queue: &mut WaitQueue) {
        let lists = &self.lists[queue.overflow as usize];
        if lists.iter().all(List::is_empty) {
            self.lists.remove(queue.overflow as usize);
            queue.overflow = NONE;
            // A spike's memory goes with its last lists.
            if self.lists.is_empty() {
                self.lists = Slab::new();
            }
        }
    }

    /// Gives all that wait in `condition` an outcome, and their wakers to `woken`.
    #[inline(always)]
    pub(super) fn resolve(
        &mut self,
        queue: &mut WaitQueue,
        condition: Condition,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        if let Some(waiter) = &mut queue.inline {
            if waiter.condition == condition && waiter.is_pending() {
                waiter.resolve(outcome, woken);
            }
        }
        if queue.overflow != NONE {
            self.resolve_overflow(queue, condition, outcome, woken);
        }
    }

    /// Gives one that waits for `condition` an outcome, and its waker to `woken`: the
    /// inline one and the longest on the list in turns, if there are both.
    #[inline(always)]
    pub(super) fn resolve_one(
        &mut self,
        queue: &mut WaitQueue,
        condition: Condition,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        if queue.overflow != NONE {
            return self.resolve_one_of_many(queue, condition, outcome, woken);
        }
        if let Some(waiter) = &mut queue.inline {
            if waiter.condition == condition && waiter.is_pending() {
                waiter.resolve(outcome, woken);
            }
        }
    }

    #[cold]
    fn resolve_one_of_many(
        &mut self,
        queue: &mut WaitQueue,
        condition: Condition,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        let list = &mut self.lists[queue.overflow as usize][condition as usize];
        let inline = queue.inline.as_mut();
        let inline = inline.filter(|inline| inline.condition == condition && inline.is_pending());
        match inline {
            Some(inline) if list.is_empty() || !queue.inline_was_first => {
                queue.inline_was_first = true;
                inline.resolve(outcome, woken);
            }
            _ => {
                queue.inline_was_first = false;
                if let Some(index) = list.pop_front(&self.waiters) {
                    self.waiters.get_mut(index).resolve(outcome, woken);
                }
                self.drop_empty_lists(queue);
            }
        }
    }

    #[cold]
    fn resolve_overflow(
        &mut self,
        queue: &mut WaitQueue,
        condition: Condition,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        let list = &mut self.lists[queue.overflow as usize][condition as usize];
        while let Some(index) = list.pop_front(&self.waiters) {
            self.waiters.get_mut(index).resolve(outcome, woken);
        }
        self.drop_empty_lists(queue);
    }

    /// The pending waiters of a queue.
    pub(super) fn pending<'a>(
        &'a self,
        queue: &'a WaitQueue,
    ) -> impl Iterator<Item = &'a FdWaiter> {
        let lists = self.lists.get(queue.overflow as usize);
        let lists = lists.into_iter().flatten();
        let inline = queue.inline.iter().filter(|waiter| waiter.is_pending());
        inline.chain(lists.flat_map(|list| self.waiters.iter(list)))
    }

    /// Notes that the registration of all in a queue has been validated.
    pub(super) fn set_validated(&mut self, queue: &mut WaitQueue) {
        if let Some(waiter) = &mut queue.inline {
            waiter.validated = true;
        }
        if let Some(lists) = self.lists.get(queue.overflow as usize) {
            for list in lists {
                self.waiters
                    .for_each(list, |waiter| waiter.validated = true);
            }
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_pending(&self, queue: &WaitQueue, key: &WaitKey) -> bool {
        match key.0 {
            Position::Inline(_) => queue.inline.as_ref().is_some_and(FdWaiter::is_pending),
            Position::Overflow(key) => self.waiters.get(self.index(key)).is_pending(),
        }
    }
}

const KEPT: &str = "a key is finished once, by being moved here";
