//! The table of parked coroutines, by the address that each waits at.
//!
//! ```text
//!   buckets[hash(address)]
//!   ┌─────────────────────────────────────────┐
//!   │ parked   coroutines that are queued     │  hints: written under the
//!   │ blocked  threads that wait in the kernel│  lock or around the wait,
//!   │ owed     wake-ups that a section holds  │  read by whoever wakes
//!   │ lock { queues }                         │
//!   └───────────┬─────────────────────────────┘
//!               ├─► address a: coroutine → coroutine → …   (FIFO)
//!               └─► address b: coroutine
//! ```
//!
//! Lives here: who waits where, and the two promises that everything above
//! rests on (README.md has the proof). *Queueing looks again*: whether to wait
//! is decided under the bucket's lock, after the waiter has been counted.
//! *Waking looks after changing*: whoever wakes has changed what the waiter
//! looks at, then a fence, then reads the count. Does not live here: what is
//! looked at (a futex word, a lock of C), and parking.
//!
//! Nodes are the table's, never the waiter's frame's (I8).

use std::task::Waker;

use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use crate::sync::waiters::{Key, WakeList, Waiters};

/// Queues of a bucket that keep their memory for the next address.
const SPARE: usize = 4;

/// Nodes that an empty queue may keep.
const ROOM_KEPT: u32 = 64;

/// See the [module](self).
pub(super) struct Table {
    buckets: Box<[Bucket]>,
}

/// A line of its own, so that addresses don't slow each other down.
#[repr(align(64))]
struct Bucket {
    /// Coroutines that are queued here.
    parked: AtomicU32,
    /// Threads that wait in the kernel at an address of this bucket.
    blocked: AtomicU32,
    /// Somebody in a section wanted to wake: all are to be woken.
    owed: AtomicBool,
    queues: Lock<Vec<Queue>>,
}

/// Who waits at one address.
struct Queue {
    /// 0: a spare one.
    address: usize,
    /// Nodes, those included that were taken off and not yet looked at.
    nodes: u32,
    /// The most there have been.
    peak: u32,
    waiters: Waiters<Waiting>,
}

struct Waiting {
    /// Wakers must have one of these bits in common.
    bits: u32,
    woken: bool,
}

/// A place in a queue; its owner gives it up with [`Table::leave`].
#[must_use = "a place that is not given up stays"]
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    address: usize,
    key: Key,
}

/// A thread waits in the kernel while this lives.
pub(super) struct Blocked<'a>(&'a AtomicU32);

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Table {
    /// A table of so many buckets, a power of two.
    pub(super) fn new(buckets: usize) -> Self {
        assert!(buckets.is_power_of_two());
        let bucket = || Bucket {
            parked: AtomicU32::new(0),
            blocked: AtomicU32::new(0),
            owed: AtomicBool::new(false),
            queues: Lock::new(Vec::new()),
        };
        Self {
            buckets: std::iter::repeat_with(bucket).take(buckets).collect(),
        }
    }

    #[inline]
    fn bucket(&self, address: usize) -> &Bucket {
        // Fibonacci hashing; the upper half of the product is mixed well.
        let hash = (address >> 2) as u64;
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// Queues the caller behind all others, if `still` says that it has to
    /// wait. That is asked under the lock, so it must neither wait nor wake.
    #[inline]
    pub(super) fn queue(
        &self,
        address: usize,
        bits: u32,
        waker: Waker,
        still: impl FnOnce() -> bool,
    ) -> Option<Place> {
        let bucket = self.bucket(address);
        let mut queues = bucket.queues.lock();
        let counted = bucket.parked.load(Ordering::Relaxed);
        bucket.parked.store(counted + 1, Ordering::Relaxed);
        // Between counting and looking. Partner: the fence before `may_wake`.
        fence(Ordering::SeqCst);
        if !still() {
            bucket.parked.store(counted, Ordering::Relaxed);
            return None;
        }
        let queue = Queue::at(&mut queues, address);
        queue.nodes += 1;
        queue.peak = queue.peak.max(queue.nodes);
        let waiting = Waiting { bits, woken: false };
        let key = queue.waiters.enqueue(waiting, Some(waker));
        Some(Place { address, key })
    }

    /// Queues a place that was woken again, before all others, if `still` says
    /// so; otherwise it stays woken.
    #[must_use]
    pub(super) fn requeue(&self, place: Place, waker: Waker, still: impl FnOnce() -> bool) -> bool {
        let bucket = self.bucket(place.address);
        let mut queues = bucket.queues.lock();
        let counted = bucket.parked.load(Ordering::Relaxed);
        bucket.parked.store(counted + 1, Ordering::Relaxed);
        // As in `queue`.
        fence(Ordering::SeqCst);
        let again = still();
        if again {
            let queue = Queue::at(&mut queues, place.address);
            queue.waiters.payload(place.key).woken = false;
            queue.waiters.requeue_first(place.key, waker);
        } else {
            bucket.parked.store(counted, Ordering::Relaxed);
        }
        again
    }

    /// Gives the place up if it was woken, or in any case if `regardless`;
    /// `None`: it is still queued.
    #[inline]
    pub(super) fn leave(&self, place: Place, regardless: bool) -> Option<Left> {
        let bucket = self.bucket(place.address);
        let mut queues = bucket.queues.lock();
        let queue = Queue::at(&mut queues, place.address);
        let woken = queue.waiters.payload(place.key).woken;
        if !woken && !regardless {
            return None;
        }
        let removed = queue.waiters.remove(place.key);
        queue.nodes -= 1;
        if !woken {
            bucket.count_down(1);
        }
        if queue.nodes == 0 {
            Queue::free(&mut queues, place.address);
        }
        drop(queues);
        drop(removed);
        Some(if woken { Left::Woken } else { Left::Queued })
    }

    /// Whether the place was woken. It stays the caller's.
    pub(super) fn is_woken(&self, place: Place) -> bool {
        let mut queues = self.bucket(place.address).queues.lock();
        let queue = Queue::at(&mut queues, place.address);
        queue.waiters.payload(place.key).woken
    }

    /// Whether [`wake`](Self::wake) may find somebody. After a change and a
    /// SeqCst fence by the caller: then "no" means that nobody who saw the
    /// state before the change will be queued.
    #[inline(always)]
    pub(super) fn may_wake(&self, address: usize) -> bool {
        self.bucket(address).parked.load(Ordering::Relaxed) != 0
    }

    /// Takes up to `most` off the queue, first come first served, whose bits
    /// meet `bits`. They are woken when `wakes` is dropped.
    #[inline]
    pub(super) fn wake(
        &self,
        address: usize,
        most: usize,
        bits: u32,
        wakes: &mut WakeList,
    ) -> usize {
        let bucket = self.bucket(address);
        let mut queues = bucket.queues.lock();
        let Some(queue) = queues.iter_mut().find(|queue| queue.address == address) else {
            return 0;
        };
        let taken = queue.take(most, bits, wakes);
        bucket.count_down(taken);
        taken
    }

    /// The calling thread goes to wait in the kernel.
    pub(super) fn block(&self, address: usize) -> Blocked<'_> {
        let blocked = &self.bucket(address).blocked;
        blocked.fetch_add(1, Ordering::Relaxed);
        // Before the kernel looks at the word. Partner: the fence before
        // `has_blocked`, after the word's change.
        fence(Ordering::SeqCst);
        Blocked(blocked)
    }

    /// Whether a thread may be waiting in the kernel at this address.
    #[inline(always)]
    pub(super) fn has_blocked(&self, address: usize) -> bool {
        self.bucket(address).blocked.load(Ordering::Relaxed) != 0
    }

    /// Leaves a wake-up to [`pay`](Self::pay): the caller may not take locks.
    pub(super) fn owe(&self, address: usize) {
        self.bucket(address).owed.store(true, Ordering::Release);
    }

    /// Wakes everybody in buckets of which somebody is owed a wake-up. One
    /// wake-up too many is allowed at any time, one too few never.
    pub(super) fn pay(&self, wakes: &mut WakeList) {
        for bucket in &self.buckets {
            // The plain load spares a thousand lines from being written to.
            if bucket.owed.load(Ordering::Relaxed) && bucket.owed.swap(false, Ordering::Acquire) {
                let mut queues = bucket.queues.lock();
                let queues = queues.iter_mut().filter(|queue| queue.address != 0);
                let taken: usize = queues.map(|q| q.take(usize::MAX, u32::MAX, wakes)).sum();
                bucket.count_down(taken);
            }
        }
    }
}

/// How a place was when it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Somebody had taken it off the queue.
    Woken,
    Queued,
}

impl Bucket {
    /// Under the lock.
    fn count_down(&self, gone: usize) {
        let counted = self.parked.load(Ordering::Relaxed);
        self.parked.store(counted - gone as u32, Ordering::Relaxed);
    }
}

impl Queue {
    /// The queue of an address; made if there is none.
    fn at(queues: &mut Vec<Self>, address: usize) -> &mut Self {
        let place = |address| queues.iter().position(|queue: &Self| queue.address == address);
        // Room for one more: a spare queue, or a new one.
        let at = place(address).or_else(|| place(0)).unwrap_or_else(|| {
            queues.push(Self::spare());
            queues.len() - 1
        });
        queues[at].address = address;
        &mut queues[at]
    }

    fn spare() -> Self {
        Self {
            address: 0,
            nodes: 0,
            peak: 0,
            waiters: Waiters::new(),
        }
    }

    /// Makes the queue of an address, which is empty, a spare one.
    fn free(queues: &mut Vec<Self>, address: usize) {
        let at = queues.iter().position(|queue| queue.address == address);
        let at = at.expect("only a queue that is there is freed");
        if queues[at].peak > ROOM_KEPT {
            queues[at] = Self::spare();
        }
        queues[at].address = 0;
        if queues.len() > SPARE {
            queues.swap_remove(at);
        }
    }

    fn take(&mut self, most: usize, bits: u32, wakes: &mut WakeList) -> usize {
        let mut taken = 0;
        let mut next = self.waiters.first_key();
        while let Some(key) = next.filter(|_| taken < most) {
            next = self.waiters.key_after(key);
            if self.waiters.payload(key).bits & bits != 0 {
                self.waiters.take(key, wakes).woken = true;
                taken += 1;
            }
        }
        taken
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn who_need_not_wait_is_not_counted() {
        let table = Table::new(2);
        assert!(table.queue(8, 1, Waker::noop().clone(), || false).is_none());
        assert!(!table.may_wake(8));
    }

    #[test]
    fn bits_choose_and_order_holds() {
        let table = Table::new(1);
        let queue = |bits| table.queue(8, bits, Waker::noop().clone(), || true).unwrap();
        let [a, b, c] = [queue(1), queue(2), queue(3)];
        assert_eq!(table.wake(8, 1, 2, &mut WakeList::new()), 1);
        assert_eq!(table.leave(b, false), Some(Left::Woken));
        assert_eq!(table.leave(a, false), None);
        assert!(table.requeue(
            {
                assert_eq!(table.wake(8, 2, 2, &mut WakeList::new()), 1);
                c
            },
            Waker::noop().clone(),
            || true
        ));
        // It is the first now, though it came last.
        assert_eq!(table.wake(8, 1, u32::MAX, &mut WakeList::new()), 1);
        assert_eq!(table.leave(c, false), Some(Left::Woken));
        assert_eq!(table.leave(a, true), Some(Left::Queued));
        assert!(!table.may_wake(8));
    }

    #[test]
    fn what_is_owed_wakes_the_whole_bucket() {
        let table = Table::new(1);
        let queue = |at| table.queue(at, 1, Waker::noop().clone(), || true).unwrap();
        let [a, b] = [queue(8), queue(16)];
        table.pay(&mut WakeList::new());
        assert!(!table.is_woken(a));
        table.owe(8);
        table.pay(&mut WakeList::new());
        assert_eq!(table.leave(a, false), Some(Left::Woken));
        assert_eq!(table.leave(b, false), Some(Left::Woken));
    }

    /// Random operations beside a `VecDeque` for each address.
    #[test]
    fn queues_like_deques() {
        const ADDRESSES: usize = 12;
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let table = Table::new(2);
        let mut queued: Vec<VecDeque<Place>> = vec![VecDeque::new(); ADDRESSES];
        let mut woken = Vec::new();
        let mut rounds = [0; 3];
        for _ in 0..50_000 {
            let n = next(ADDRESSES);
            let address = 8 * (n + 1);
            match next(5) {
                0 | 1 => {
                    let place = table.queue(address, 1, Waker::noop().clone(), || true);
                    queued[n].push_back(place.unwrap());
                }
                2 => {
                    let most = next(3);
                    let taken = table.wake(address, most, 1, &mut WakeList::new());
                    assert_eq!(taken, most.min(queued[n].len()));
                    woken.extend(queued[n].drain(..taken));
                    rounds[0] += taken;
                }
                3 if !woken.is_empty() => {
                    let place: Place = woken.swap_remove(next(woken.len()));
                    assert_eq!(table.leave(place, next(2) == 0), Some(Left::Woken));
                    rounds[1] += 1;
                }
                4 if !queued[n].is_empty() => {
                    let at = next(queued[n].len());
                    let place = queued[n].remove(at).unwrap();
                    assert_eq!(table.leave(place, false), None);
                    assert_eq!(table.leave(place, true), Some(Left::Queued));
                    rounds[2] += 1;
                }
                _ => {}
            }
            if !queued[n].is_empty() {
                assert!(table.may_wake(address));
            }
        }
        assert!(rounds.iter().all(|&n| n > 1_000), "{rounds:?}");
        for (n, queued) in queued.iter().enumerate() {
            let taken = table.wake(8 * (n + 1), usize::MAX, 1, &mut WakeList::new());
            assert_eq!(taken, queued.len());
        }
        assert!((0..ADDRESSES).all(|n| !table.may_wake(8 * (n + 1))));
    }
}
