//! The futex table: parked coroutines, hashed by the address that each waits at.
//!
//! ```text
//!   buckets[hash(address)]
//!   ┌─────────────────────────────────────────┐
//!   │ parked   coroutines that are queued     │  hints: written under the
//!   │ blocked  threads that wait in the kernel│  lock or around the wait,
//!   │ deferred wake-ups of a no-park scope    │  read by wakers
//!   │ lock { queues by address }              │
//!   └─────────────────────────────────────────┘
//! ```
//!
//! Lives here: which coroutine waits where, and the two promises that everything
//! above rests on (README.md has the proof). *Queueing looks again*: whether to
//! wait is decided under the bucket's lock, after the waiter has been counted.
//! *Waking looks after changing*: a waker changes what the waiter looks at, then
//! comes a fence, then it reads the count. Does not live here: what is
//! looked at (a futex word, a lock of C), parking, and waking.
//!
//! Under a bucket's lock nothing waits and nothing allocates: the allocator's
//! lock may be the one that is waited for here. Nodes are the table's, never
//! the waiter's frame's (I8).

use std::io;

use super::nodes::{Chain, Nodes, Number, Stamp};
use crate::shim::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use crate::shim::{Lock, fence_after_exchange};
use crate::task::Addr;

/// See the [module](self).
pub(super) struct Table {
    nodes: Nodes,
    buckets: Box<[Bucket]>,
}

/// A line of its own, so that addresses don't slow each other down.
#[repr(align(64))]
struct Bucket {
    /// Coroutines that are queued here.
    parked: AtomicU32,
    /// Threads that wait in the kernel at an address of this bucket.
    blocked: AtomicU32,
    /// A wake-up came in a no-park scope: all are to be woken when it ends.
    deferred: AtomicBool,
    queues: Lock<Chain>,
}

/// A place in a queue; its owner gives it up with [`Table::leave`].
#[must_use = "a place that is not given up stays"]
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    address: usize,
    node: Number,
    stamp: Stamp,
}

/// A thread waits in the kernel while this lives.
pub(super) struct Blocked<'a>(&'a AtomicU32);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a place was when it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// A waker had taken it off the queue.
    Woken,
    Queued,
}

/// Coroutines that were taken off their queues: to be woken outside the lock.
pub(super) struct Batch<const ROOM: usize = 16> {
    waiters: [Addr; ROOM],
    len: usize,
    /// The waker had better let these run, see [`Chain::lets_run`].
    to_run: bool,
}

impl<const ROOM: usize> Batch<ROOM> {
    pub(super) fn new() -> Self {
        Self {
            waiters: [Addr::from_bits(0); ROOM],
            len: 0,
            to_run: false,
        }
    }

    #[inline(always)]
    fn fill(&mut self, mut next: impl FnMut() -> Option<Addr>) {
        while let Some(waiter) = (self.len < ROOM).then(&mut next).flatten() {
            self.waiters[self.len] = waiter;
            self.len += 1;
        }
    }

    #[inline(always)]
    pub(super) fn waiters(&self) -> &[Addr] {
        &self.waiters[..self.len]
    }

    /// Whether there may be more where these came from.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.len == ROOM
    }

    pub(super) fn is_to_run(&self) -> bool {
        self.to_run
    }
}

impl Table {
    /// A table of so many buckets, a power of two, for so many waiters.
    ///
    /// # Errors
    ///
    /// No address space is left.
    pub(super) fn new(buckets: usize, waiters: u32) -> io::Result<Self> {
        assert!(buckets.is_power_of_two());
        let bucket = || Bucket {
            parked: AtomicU32::new(0),
            blocked: AtomicU32::new(0),
            deferred: AtomicBool::new(false),
            queues: Lock::new(Chain::default()),
        };
        Ok(Self {
            nodes: Nodes::new(waiters)?,
            buckets: std::iter::repeat_with(bucket).take(buckets).collect(),
        })
    }

    #[inline]
    fn bucket(&self, address: usize) -> &Bucket {
        // Fibonacci hashing; the upper half of the product is mixed well.
        let hash = (address >> 2) as u64;
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// Queues the caller behind all others, if `still` says that it has to
    /// wait. It is called under the lock, so it must neither wait nor wake.
    #[inline]
    pub(super) fn queue(
        &self,
        address: usize,
        bits: u32,
        waiter: Addr,
        still: impl FnOnce() -> bool,
    ) -> Option<Place> {
        self.queue_at(false, address, (waiter, bits), still)
    }

    /// As [`queue`](Self::queue), before all others: for a waiter that was woken in vain.
    pub(super) fn queue_first(
        &self,
        address: usize,
        bits: u32,
        waiter: Addr,
        still: impl FnOnce() -> bool,
    ) -> Option<Place> {
        self.queue_at(true, address, (waiter, bits), still)
    }

    #[inline]
    fn queue_at(
        &self,
        first: bool,
        address: usize,
        waiter: (Addr, u32),
        still: impl FnOnce() -> bool,
    ) -> Option<Place> {
        let bucket = self.bucket(address);
        let mut queues = bucket.queues.lock();
        if !bucket.count_in(still) {
            return None;
        }
        let Some((node, stamp)) = queues.push(&self.nodes, address, waiter, first) else {
            // As if it need not wait: it will look again, and come again.
            bucket.count_out();
            return None;
        };
        Some(Place {
            address,
            node,
            stamp,
        })
    }

    /// Gives the place up if it was woken, or in any case if `regardless`;
    /// `None`: it is still queued. A waiter that was woken takes no lock.
    #[inline]
    pub(super) fn leave(&self, place: Place, regardless: bool) -> Option<Left> {
        if !self.is_queued(place) {
            return Some(Left::Woken);
        }
        regardless.then(|| self.take_back(place))
    }

    #[cold]
    fn take_back(&self, place: Place) -> Left {
        let bucket = self.bucket(place.address);
        let mut queues = bucket.queues.lock();
        if !self.is_queued(place) {
            return Left::Woken;
        }
        queues.remove(&self.nodes, place.node);
        bucket.count_out();
        Left::Queued
    }

    /// Whether the place is still queued. It stays the caller's.
    #[inline]
    pub(super) fn is_queued(&self, place: Place) -> bool {
        self.nodes.is_queued(place.node, place.stamp)
    }

    /// Whether a coroutine may be waiting at this address. For a waker, after it
    /// changed what waiters look at: `false` means that none which saw the state
    /// before the change will be queued. For `true` no fence is needed:
    /// [`take`](Self::take) finds it queued, or it gets the lock later and sees
    /// the change.
    #[inline(always)]
    pub(super) fn may_wait(&self, address: usize) -> bool {
        self.counted(address) > 0 || {
            // Partner: the fence between counting the waiter and its look.
            fence(Ordering::SeqCst);
            self.counted(address) > 0
        }
    }

    /// As [`may_wait`](Self::may_wait), without its fence: the caller has had
    /// one since the change.
    #[inline(always)]
    pub(super) fn counted(&self, address: usize) -> u32 {
        self.bucket(address).parked.load(Ordering::Relaxed)
    }

    /// Takes up to `most` off the queue, first come first served, whose bits
    /// meet `bits`; no more than fit into the batch. Says how many there may
    /// have been.
    #[inline(always)]
    pub(super) fn take<const ROOM: usize>(
        &self,
        address: usize,
        most: usize,
        bits: u32,
        batch: &mut Batch<ROOM>,
    ) -> usize {
        let bucket = self.bucket(address);
        let mut queues = bucket.queues.lock();
        // As `may_wait` may have had none; see `has_blocked`.
        fence_after_exchange();
        let there = bucket.parked.load(Ordering::Relaxed) as usize;
        let mut left = most;
        batch.len = 0;
        batch.fill(|| {
            left = left.checked_sub(1)?;
            let waiter = queues.pop(&self.nodes, address, bits)?;
            bucket.count_out();
            Some(waiter)
        });
        batch.to_run = batch.len > 0 && queues.lets_run();
        there
    }

    /// The calling thread goes to wait in the kernel.
    pub(super) fn block(&self, address: usize) -> Blocked<'_> {
        let blocked = &self.bucket(address).blocked;
        blocked.fetch_add(1, Ordering::Relaxed);
        // Before the kernel looks at the word. Partner: the fence after the word
        // was changed, in `may_wait`, `take` or `defer`.
        fence(Ordering::SeqCst);
        Blocked(blocked)
    }

    /// Whether a thread may be waiting in the kernel at this address. For after a
    /// change and [`take`](Self::take) or [`defer`](Self::defer).
    #[inline(always)]
    pub(super) fn has_blocked(&self, address: usize) -> bool {
        self.bucket(address).blocked.load(Ordering::Relaxed) != 0
    }

    /// Leaves a wake-up to [`flush`](Self::flush): the caller may not take locks.
    pub(super) fn defer(&self, address: usize) {
        self.bucket(address).deferred.store(true, Ordering::Release);
        // As `may_wait` may have had none; see `has_blocked`.
        fence(Ordering::SeqCst);
    }

    /// Takes waiters that are gone off their queues. Nobody is woken for them.
    #[cfg(feature = "sim")]
    pub(super) fn forget(&self, is_gone: impl Fn(Addr) -> bool) {
        for bucket in &self.buckets {
            let mut queues = bucket.queues.lock();
            let removed = queues.remove_all(&self.nodes, &is_gone);
            (0..removed).for_each(|_| bucket.count_out());
        }
    }

    /// How many waiters are queued, and how many are counted.
    pub(super) fn waiters(&self) -> [usize; 2] {
        let mut sum = [0; 2];
        for bucket in &self.buckets {
            let queues = bucket.queues.lock();
            sum[0] += queues.numbers(&self.nodes).count();
            sum[1] += bucket.parked.load(Ordering::Relaxed) as usize;
        }
        sum
    }

    /// Takes all waiters off buckets with a deferred wake-up, and hands them to
    /// `wake`. One wake-up too many is allowed at any time, one too few never.
    pub(super) fn flush(&self, mut wake: impl FnMut(&Batch)) {
        for bucket in &self.buckets {
            // The plain load spares a thousand lines from being written to.
            if bucket.deferred.load(Ordering::Relaxed)
                && bucket.deferred.swap(false, Ordering::Acquire)
            {
                self.flush_bucket(bucket, &mut wake);
            }
        }
    }

    fn flush_bucket(&self, bucket: &Bucket, wake: &mut impl FnMut(&Batch)) {
        // Not those that come back while others are woken.
        let mut left = None;
        loop {
            let mut batch: Batch = Batch::new();
            let mut queues = bucket.queues.lock();
            // Under the lock: a waiter that is not counted yet sees the change.
            let mut more = left.unwrap_or_else(|| bucket.parked.load(Ordering::Relaxed) as usize);
            batch.fill(|| {
                more = more.checked_sub(1)?;
                let waiter = queues.pop_any(&self.nodes)?;
                bucket.count_out();
                Some(waiter)
            });
            drop(queues);
            left = Some(more);
            wake(&batch);
            if !batch.is_full() {
                return;
            }
        }
    }
}

// All under the bucket's lock.
impl Bucket {
    /// Counts a waiter in, if `still` says that it has to wait.
    fn count_in(&self, still: impl FnOnce() -> bool) -> bool {
        let counted = self.parked.load(Ordering::Relaxed);
        self.parked.store(counted + 1, Ordering::Relaxed);
        // Between counting and looking. Partner: the fence after what is looked
        // at was changed, in `may_wait`.
        fence(Ordering::SeqCst);
        let waits = still();
        if !waits {
            self.parked.store(counted, Ordering::Relaxed);
        }
        waits
    }

    fn count_out(&self) {
        let counted = self.parked.load(Ordering::Relaxed);
        self.parked.store(counted - 1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(1, 100).unwrap()
    }

    fn queue(table: &Table, address: usize, bits: u32) -> Place {
        let waiter = Addr::from_bits(address as u64);
        table.queue(address, bits, waiter, || true).unwrap()
    }

    #[test]
    fn who_need_not_wait_is_not_counted() {
        let table = table();
        let none = table.queue(8, 1, Addr::from_bits(1), || false);
        assert!(none.is_none() && !table.may_wait(8));
    }

    fn take(table: &Table, most: usize, bits: u32) -> usize {
        let mut batch: Batch = Batch::new();
        table.take(8, most, bits, &mut batch);
        batch.waiters().len()
    }

    #[test]
    fn who_was_woken_in_vain_is_the_first() {
        let table = table();
        let [a, b, c] = [1, 2, 3].map(|bits| queue(&table, 8, bits));
        assert_eq!(take(&table, 1, 2), 1);
        assert_eq!(table.leave(b, false), Some(Left::Woken));
        assert_eq!(table.leave(a, false), None);
        assert_eq!(take(&table, 2, 2), 1);
        assert!(!table.is_queued(c));
        let c = table.queue_first(8, 3, Addr::from_bits(8), || true);
        let c = c.unwrap();
        // It is the first now, though it came last.
        assert_eq!(take(&table, 1, u32::MAX), 1);
        assert_eq!(table.leave(c, false), Some(Left::Woken));
        assert_eq!(table.leave(a, true), Some(Left::Queued));
        assert_eq!(table.leave(a, true), Some(Left::Woken));
        assert!(!table.may_wait(8));
    }

    #[test]
    fn a_deferred_wake_up_wakes_the_whole_bucket() {
        let table = table();
        let places: Vec<_> = (1..=40)
            .map(|n| queue(&table, 8 * (n % 3 + 1), 1))
            .collect();
        let mut woken = 0;
        table.flush(|batch| woken += batch.waiters().len());
        assert_eq!(woken, 0);
        table.defer(8);
        table.flush(|batch| woken += batch.waiters().len());
        assert_eq!(woken, 40);
        for place in places {
            assert_eq!(table.leave(place, false), Some(Left::Woken));
        }
    }

    #[test]
    fn threads_in_the_kernel_are_counted() {
        let table = table();
        let blocked = table.block(8);
        assert!(table.has_blocked(8));
        drop(blocked);
        assert!(!table.has_blocked(8));
    }
}
