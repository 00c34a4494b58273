//! The wait queue inside every primitive: wakers, first in, first out.
//!
//! ```text
//!   the primitive's Lock<…>           a future that waits holds a WaiterKey
//!   ┌───────────────────────────┐
//!   │ what the primitive guards │      nodes (on the heap)       
//!   │ Waiters ─ head ───────────┼──► [0] waker, payload ─next─► [3] … ◄─ tail
//!   └───────────────────────────┘    [1] payload, not queued: taken off, not yet seen
//! ```
//!
//! The life of a node: *queued* when its future found nothing to take (looked
//! at and queued under one hold of the lock, so no wake-up falls between),
//! *taken off* by what lets it go on, *removed* by its future alone, when it is
//! polled next or dropped. A future that is dropped after it was taken
//! off has used up a wake-up which others wait for: the primitive must pass
//! it on, and learns from [`Waiters::remove`] that it has to.
//!
//! Nodes live in the primitive, never in the waiter's frame: a coroutine's
//! stack bytes may be somewhere else while it is parked.
//!
//! What is not here: the lock, and any decision. Wakers leave the lock before
//! they are called or dropped ([`WakeList`]), since both may run foreign code
//! that comes back to the same primitive.
//!
//! Crates considered instead: `event-listener` (and `async-lock`,
//! `async-channel` on it) allocates per wait or pins its node in the waiter;
//! `kanal` writes through pointers into the waiter's frame; `flume` allocates
//! per wait and has no loom seam. None has a rendezvous `select` that holds
//! between futures, threads and coroutines.

use std::task::Waker;

use crate::util::list::{FreeList, Link, Links, List};

const OWNED: &str = "a key names a node until it is given up";

/// A FIFO queue of wakers, with something of the primitive's at each.
pub(crate) struct Waiters<P> {
    /// Not a `Slab`: its nodes move in and out as a whole, which costs as much
    /// as the rest of a wait.
    nodes: Vec<WaitNode<P>>,
    queue: List,
    free: FreeList,
}

struct WaitNode<P> {
    /// `None` while it is on the free list.
    payload: Option<P>,
    /// What to wake; `None` until the future is polled, and once taken off.
    waker: Option<Waker>,
    queued: bool,
    link: Link,
}

impl<P> Links for [WaitNode<P>] {
    #[inline(always)]
    fn link(&self, node: u32) -> &Link {
        &self[node as usize].link
    }
}

/// Names a node. Only the future that it was made for uses it, and gives it
/// up with [`Waiters::remove`]; so it never names another's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterKey(u32);

/// What a removed node leaves.
pub(crate) struct Removed<P> {
    pub(crate) payload: P,
    /// To be dropped outside the lock.
    _waker: Option<Waker>,
}

impl<P> Waiters<P> {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            queue: List::EMPTY,
            free: FreeList::EMPTY,
        }
    }

    /// Whether none is queued (nodes that were taken off do not count).
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a new node behind all others.
    #[inline]
    pub(crate) fn enqueue(&mut self, payload: P, waker: Option<Waker>) -> WaiterKey {
        let nodes = &mut self.nodes[..];
        let Some(key) = self.free.pop(nodes) else {
            return self.enqueue_new(payload, waker);
        };
        let node = &mut nodes[key as usize];
        node.payload = Some(payload);
        node.waker = waker;
        node.queued = true;
        self.queue.push_back(nodes, key);
        WaiterKey(key)
    }

    #[cold]
    fn enqueue_new(&mut self, payload: P, waker: Option<Waker>) -> WaiterKey {
        if self.nodes.capacity() == 0 {
            // Most have one waiter at most, for as long as they live.
            self.nodes.reserve_exact(1);
        }
        let key = u32::try_from(self.nodes.len()).expect("fewer waiters than 2³²");
        self.nodes.push(WaitNode {
            payload: Some(payload),
            waker,
            queued: true,
            link: Link::default(),
        });
        self.queue.push_back(&self.nodes[..], key);
        WaiterKey(key)
    }

    /// Queues a node that was taken off again, before all others.
    pub(crate) fn requeue_first(&mut self, key: WaiterKey, waker: Waker) {
        let node = self.node(key);
        debug_assert!(!node.queued, "a node is queued once");
        node.waker = Some(waker);
        node.queued = true;
        self.queue.push_front(&self.nodes[..], key.0);
    }

    /// The first in the queue.
    pub(crate) fn first(&self) -> Option<&P> {
        let first = self.queue.first()?;
        self.nodes[first as usize].payload.as_ref()
    }

    /// Takes the first off the queue; its waker goes to `wakes`.
    #[inline]
    pub(crate) fn take_first(&mut self, wakes: &mut WakeList) -> Option<&mut P> {
        let first = self.first_key()?;
        Some(self.take(first, wakes))
    }

    /// The first in the queue, by key.
    #[inline]
    pub(crate) fn first_key(&self) -> Option<WaiterKey> {
        self.queue.first().map(WaiterKey)
    }

    /// The waiter queued behind `key`, which must be queued.
    #[inline]
    pub(crate) fn key_after(&self, key: WaiterKey) -> Option<WaiterKey> {
        List::after(&self.nodes[..], key.0).map(WaiterKey)
    }

    /// Takes a queued node off the queue; its waker goes to `wakes`.
    #[inline]
    pub(crate) fn take(&mut self, key: WaiterKey, wakes: &mut WakeList) -> &mut P {
        let nodes = &mut self.nodes[..];
        self.queue.unlink(nodes, key.0);
        let node = &mut nodes[key.0 as usize];
        debug_assert!(node.queued, "only a queued node is taken off");
        node.queued = false;
        wakes.push(node.waker.take());
        node.payload.as_mut().expect(OWNED)
    }

    /// What is at the node, queued or not.
    #[inline]
    pub(crate) fn payload(&mut self, key: WaiterKey) -> &mut P {
        self.node(key).payload.as_mut().expect(OWNED)
    }

    /// Whether the node wakes what `waker` does.
    #[inline]
    pub(crate) fn wakes(&self, key: WaiterKey, waker: &Waker) -> bool {
        let old = self.nodes[key.0 as usize].waker.as_ref();
        old.is_some_and(|old| old.will_wake(waker))
    }

    /// Sets the waker; the one before is to be dropped outside the lock.
    #[must_use = "a waker is dropped outside the lock"]
    #[inline]
    pub(crate) fn set_waker(
        &mut self,
        key: WaiterKey,
        waker: impl Into<Option<Waker>>,
    ) -> Option<Waker> {
        std::mem::replace(&mut self.node(key).waker, waker.into())
    }

    /// Ends the node, queued or not.
    #[must_use = "a waker is dropped outside the lock"]
    #[inline(always)]
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Removed<P> {
        let nodes = &mut self.nodes[..];
        if std::mem::take(&mut nodes[key.0 as usize].queued) {
            self.queue.unlink(nodes, key.0);
        }
        self.free.push(nodes, key.0);
        let node = &mut nodes[key.0 as usize];
        Removed {
            payload: node.payload.take().expect(OWNED),
            _waker: node.waker.take(),
        }
    }

    #[inline(always)]
    fn node(&mut self, key: WaiterKey) -> &mut WaitNode<P> {
        &mut self.nodes[key.0 as usize]
    }
}

/// Wakers on their way out of the lock. Dropping the list wakes them all, so
/// none is lost when a foreign waker panics: declare it before the guard.
#[derive(Default)]
pub(crate) struct WakeList {
    /// Most operations wake at most one: that one needs no memory.
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl WakeList {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            rest: Vec::new(),
        }
    }

    /// Adds one, if there is one.
    #[inline]
    pub(crate) fn push(&mut self, waker: Option<Waker>) {
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.rest.extend(waker);
        }
    }
}

impl Drop for WakeList {
    #[inline]
    fn drop(&mut self) {
        let Some(first) = self.first.take() else {
            return;
        };
        if self.rest.is_empty() {
            first.wake();
        } else {
            // Dropped last, and then wakes the rest, also when `first` panics.
            let _rest = Rest(std::mem::take(&mut self.rest).into_iter());
            first.wake();
        }
    }
}

struct Rest(std::vec::IntoIter<Waker>);

impl Drop for Rest {
    fn drop(&mut self) {
        for waker in self.0.by_ref() {
            waker.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Random operations beside a `VecDeque` of what must be queued.
    #[test]
    fn queues_like_a_deque() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut waiters = Waiters::new();
        let mut queued: VecDeque<(WaiterKey, usize)> = VecDeque::new();
        let mut taken: Vec<(WaiterKey, usize)> = Vec::new();
        let mut woken = 0;
        for round in 0..20_000 {
            match next(6) {
                0 | 1 => {
                    let key = waiters.enqueue(round, Some(count.clone().into()));
                    queued.push_back((key, round));
                }
                2 => {
                    let got = waiters.take_first(&mut WakeList::new()).copied();
                    assert_eq!(got, queued.front().map(|e| e.1));
                    woken += usize::from(got.is_some());
                    taken.extend(queued.pop_front());
                }
                3 if !queued.is_empty() => {
                    let (key, value) = queued.remove(next(queued.len())).unwrap();
                    assert_eq!(waiters.remove(key).payload, value);
                }
                4 if !taken.is_empty() => {
                    let entry = taken.swap_remove(next(taken.len()));
                    waiters.requeue_first(entry.0, count.clone().into());
                    queued.push_front(entry);
                }
                5 if !taken.is_empty() => {
                    let (key, value) = taken.swap_remove(next(taken.len()));
                    assert_eq!(waiters.remove(key).payload, value);
                }
                _ => {}
            }
            assert_eq!(waiters.first().copied(), queued.front().map(|e| e.1));
            assert_eq!(waiters.is_empty(), queued.is_empty());
            assert_eq!(count.0.load(Ordering::Relaxed), woken);
        }
        assert!(woken > 1_000);
    }

    #[test]
    fn a_waker_that_panics_keeps_none_from_being_woken() {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("bad waker");
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let mut list = WakeList::new();
        list.push(Some(Arc::new(Bad).into()));
        list.push(None);
        list.push(Some(count.clone().into()));
        list.push(Some(count.clone().into()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(list))).is_err());
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
