//! Wait nodes of the futex table: waiters in queues by address, without a heap.
//!
//! The allocator may be what is waited for, so nothing here allocates: nodes
//! lie in address space that is reserved once, like slots (I2). All-zero memory
//! is a free node. A node is a waiter's while it is queued; taking it off frees
//! it, so a waiter that was woken needs no lock.
//!
//! ```text
//!   bucket.chain ─► head of address a ─► head of address b      (chain, back)
//!                        │ next               │ next
//!                        ▼                    ▼
//!                      second               second …            (next, prev)
//! ```
//!
//! The first node of an address stands in the bucket's chain and knows the last
//! one. Pure bookkeeping: locks and waking are in [`table`](super::table).

use std::cell::Cell;
use std::io;
// Stamps lie in memory of zeros, where loom's atomics can't be.
use std::sync::atomic::AtomicU64;

use crate::shim::atomic::{AtomicU32, Ordering};
use crate::sys::mem::Reserve;
use crate::task::Addr;

/// No node.
const NONE: u32 = 0;

/// A node's number.
pub(super) type Number = u32;

/// Which use of a node this is, see [`Node::stamp`].
pub(super) type Stamp = u64;

/// One waiter.
#[derive(Default)]
struct Node {
    /// Odd while it is queued. Counted on whenever it is queued and taken off,
    /// so a waiter that remembers it sees by itself that it was taken off.
    stamp: AtomicU64,
    address: Cell<usize>,
    /// Whom to wake.
    waiter: Cell<u64>,
    /// Wakers must have one of these bits in common.
    bits: Cell<u32>,
    prev: Cell<u32>,
    next: Cell<u32>,
    /// Of the first only: the last of its address, its neighbours in the chain.
    last: Cell<u32>,
    chain: Cell<u32>,
    back: Cell<u32>,
}

/// All nodes.
pub(super) struct Nodes {
    memory: Reserve,
    /// The first one that was never used.
    fresh: AtomicU32,
    count: u32,
}

// SAFETY: a node is touched only under the lock of the bucket that it belongs
// to (`Chain`'s functions take `&mut`), and changes buckets never; but for its
// stamp, which is atomic.
unsafe impl Sync for Nodes {}
// SAFETY: as above; the memory belongs to no thread.
unsafe impl Send for Nodes {}

impl Nodes {
    /// Address space for `count` nodes.
    ///
    /// # Errors
    ///
    /// There is not so much.
    pub(super) fn new(count: u32) -> io::Result<Self> {
        Ok(Self {
            memory: Reserve::closed(count as usize * size_of::<Node>())?,
            fresh: AtomicU32::new(NONE + 1),
            count,
        })
    }

    fn node(&self, number: Number) -> &Node {
        debug_assert!(number != NONE && number < self.count);
        // SAFETY: in the reserve; any bytes that were written there are a
        // `Node`'s, and zero is one; see the `Sync` above for what may touch it.
        unsafe { &*self.memory.base().cast::<Node>().add(number as usize) }
    }

    /// Whether the node was not taken off since it got this stamp. For its waiter,
    /// without the lock: "queued" may be late, "taken off" is
    /// final, and all that came before the taking off is seen.
    #[inline]
    pub(super) fn is_queued(&self, number: Number, stamp: Stamp) -> bool {
        self.node(number).stamp.load(Ordering::Acquire) == stamp
    }

    fn fresh(&self) -> Option<Number> {
        self.fresh_if(|end| self.memory.try_open(end))
    }

    /// A node that was never used; `None` if `open` can't open the memory up to its end.
    /// Then it stays what it was: others may be at it, under locks of other buckets.
    #[inline]
    fn fresh_if(&self, open: impl Fn(usize) -> bool) -> Option<Number> {
        let opened = |number: Number| {
            let end = (number as usize + 1) * size_of::<Node>();
            (number < self.count && open(end)).then_some(number + 1)
        };
        let relaxed = Ordering::Relaxed;
        self.fresh.fetch_update(relaxed, relaxed, opened).ok()
    }
}

/// The waiters of one bucket.
#[derive(Default)]
pub(super) struct Chain {
    /// The first node of the first address.
    first: u32,
    /// Free nodes; `next` leads on.
    free: u32,
    /// The waiter that was taken off last.
    last: u64,
    /// How often that one came back at once: the coroutine that let go of a lock
    /// has taken it again before.
    in_vain: u32,
    /// For so many wake-ups the waker lets those run that it wakes.
    fair: u32,
}

/// So often waiters are woken in vain before their wakers let them run.
const MAX_IN_VAIN: u32 = 3;

/// And then so often.
const FAIR_FOR: u32 = 128;

impl Chain {
    /// A free node; `None` if there is no more.
    #[inline]
    fn make(&mut self, nodes: &Nodes) -> Option<Number> {
        if self.free == NONE {
            return nodes.fresh();
        }
        let number = self.free;
        self.free = nodes.node(number).next.get();
        Some(number)
    }

    fn head(&self, nodes: &Nodes, address: usize) -> u32 {
        let mut head = self.first;
        while head != NONE && nodes.node(head).address.get() != address {
            head = nodes.node(head).chain.get();
        }
        head
    }

    /// Queues a waiter behind, or before, all others of its address; `None` if
    /// there is no room.
    #[inline]
    pub(super) fn push(
        &mut self,
        nodes: &Nodes,
        address: usize,
        (waiter, bits): (Addr, u32),
        to_front: bool,
    ) -> Option<(Number, Stamp)> {
        let number = self.make(nodes)?;
        self.note_return(waiter);
        let node = nodes.node(number);
        let stamp = node.stamp.load(Ordering::Relaxed) + 1;
        debug_assert!(stamp % 2 == 1);
        node.stamp.store(stamp, Ordering::Relaxed);
        node.waiter.set(waiter.to_bits());
        node.bits.set(bits);
        node.address.set(address);
        node.prev.set(NONE);
        node.next.set(NONE);
        let head = self.head(nodes, address);
        if head == NONE {
            node.last.set(number);
            self.enter(nodes, number, NONE, self.first);
        } else if to_front {
            let old = nodes.node(head);
            node.next.set(head);
            old.prev.set(number);
            node.last.set(old.last.get());
            self.enter(nodes, number, old.back.get(), old.chain.get());
        } else {
            let last = nodes.node(head).last.replace(number);
            nodes.node(last).next.set(number);
            node.prev.set(last);
        }
        Some((number, stamp))
    }

    /// Puts a head into the chain between two others, or in the place of one.
    fn enter(&mut self, nodes: &Nodes, head: Number, back: u32, chain: u32) {
        nodes.node(head).back.set(back);
        nodes.node(head).chain.set(chain);
        self.join(nodes, back, head);
        if chain != NONE {
            nodes.node(chain).back.set(head);
        }
    }

    /// Makes `next` follow `back` in the chain.
    fn join(&mut self, nodes: &Nodes, back: u32, next: u32) {
        if back == NONE {
            self.first = next;
        } else {
            nodes.node(back).chain.set(next);
        }
    }

    /// Takes a queued node off its queue, and frees it: its waiter.
    #[inline]
    pub(super) fn remove(&mut self, nodes: &Nodes, number: Number) -> Addr {
        self.unlink(nodes, number);
        let node = nodes.node(number);
        let stamp = node.stamp.load(Ordering::Relaxed);
        debug_assert!(stamp % 2 == 1);
        // Partner: `is_queued`.
        node.stamp.store(stamp + 1, Ordering::Release);
        node.next.set(self.free);
        self.free = number;
        let waiter = node.waiter.get();
        self.last = waiter;
        Addr::from_bits(waiter)
    }

    #[inline]
    fn note_return(&mut self, waiter: Addr) {
        self.in_vain += u32::from(waiter.to_bits() == self.last);
        if self.in_vain >= MAX_IN_VAIN {
            (self.in_vain, self.fair) = (0, FAIR_FOR);
        }
    }

    /// Whether waiters were woken in vain so often that the waker, who has just taken
    /// some off, should let them run.
    #[inline]
    pub(super) fn lets_run(&mut self) -> bool {
        let fair = self.fair > 0;
        self.fair -= u32::from(fair);
        fair
    }

    #[inline]
    fn unlink(&mut self, nodes: &Nodes, number: Number) {
        let node = nodes.node(number);
        let (prev, next) = (node.prev.get(), node.next.get());
        if prev != NONE {
            nodes.node(prev).next.set(next);
            if next != NONE {
                nodes.node(next).prev.set(prev);
            } else {
                let head = self.head(nodes, node.address.get());
                nodes.node(head).last.set(prev);
            }
            return;
        }
        let (back, chain) = (node.back.get(), node.chain.get());
        if next != NONE {
            nodes.node(next).prev.set(NONE);
            nodes.node(next).last.set(node.last.get());
            self.enter(nodes, next, back, chain);
        } else {
            self.join(nodes, back, chain);
            if chain != NONE {
                nodes.node(chain).back.set(back);
            }
        }
    }

    /// Takes the first waiter of an address off whose bits meet `bits`.
    pub(super) fn pop(&mut self, nodes: &Nodes, address: usize, bits: u32) -> Option<Addr> {
        let mut number = self.head(nodes, address);
        while number != NONE {
            let node = nodes.node(number);
            if node.bits.get() & bits != 0 {
                return Some(self.remove(nodes, number));
            }
            number = node.next.get();
        }
        None
    }

    /// Takes off all waiters of which `is_one` says so; how many.
    #[cfg(feature = "sim")]
    pub(super) fn remove_all(&mut self, nodes: &Nodes, is_one: impl Fn(Addr) -> bool) -> u32 {
        let (mut removed, mut head) = (0, self.first);
        while head != NONE {
            let next_head = nodes.node(head).chain.get();
            let mut number = head;
            while number != NONE {
                let next = nodes.node(number).next.get();
                if is_one(Addr::from_bits(nodes.node(number).waiter.get())) {
                    self.remove(nodes, number);
                    removed += 1;
                }
                number = next;
            }
            head = next_head;
        }
        removed
    }

    /// All that are queued.
    pub(super) fn numbers(&self, nodes: &Nodes) -> impl Iterator<Item = Number> {
        let walk = move |from: u32, link: fn(&Node) -> &Cell<u32>| {
            let there = |number: u32| (number != NONE).then_some(number);
            std::iter::successors(there(from), move |&at| there(link(nodes.node(at)).get()))
        };
        let heads = walk(self.first, |node| &node.chain);
        heads.flat_map(move |head| walk(head, |node| &node.next))
    }

    /// Takes any waiter off.
    pub(super) fn pop_any(&mut self, nodes: &Nodes) -> Option<Addr> {
        let first = (self.first != NONE).then_some(self.first)?;
        Some(self.remove(nodes, first))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Random operations beside a `VecDeque` for each address.
    #[test]
    fn queues_like_deques() {
        const ADDRESSES: usize = 7;
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 8) as usize % below
        };
        let nodes = Nodes::new(1 << 16).unwrap();
        let mut chain = Chain::default();
        let mut queued: Vec<VecDeque<((Number, Stamp), u64, u32)>> =
            vec![VecDeque::new(); ADDRESSES];
        let mut off: Vec<(Number, Stamp)> = Vec::new();
        let mut done = [0; 4];
        for round in 1..60_000_u64 {
            let n = next(ADDRESSES);
            let address = 4 * (n + 1);
            match next(6) {
                0 | 1 => {
                    let bits = 1 + next(3) as u32;
                    let waiter = (Addr::from_bits(round), bits);
                    let to_front = next(4) == 0;
                    let place = chain.push(&nodes, address, waiter, to_front).unwrap();
                    if to_front {
                        queued[n].push_front((place, round, bits));
                    } else {
                        queued[n].push_back((place, round, bits));
                    }
                }
                2 | 3 => {
                    let bits = 1 + next(3) as u32;
                    let at = queued[n].iter().position(|entry| entry.2 & bits != 0);
                    let expected = at.and_then(|at| queued[n].remove(at));
                    let popped = chain.pop(&nodes, address, bits).map(Addr::to_bits);
                    assert_eq!(popped, expected.map(|entry| entry.1));
                    off.extend(expected.map(|entry| entry.0));
                    done[0] += usize::from(popped.is_some());
                }
                4 if !queued[n].is_empty() => {
                    let at = next(queued[n].len());
                    let (place, round, _) = queued[n].remove(at).unwrap();
                    assert!(nodes.is_queued(place.0, place.1));
                    assert_eq!(chain.remove(&nodes, place.0).to_bits(), round);
                    off.push(place);
                    done[1] += 1;
                }
                5 if !off.is_empty() => {
                    // Never again, though others have had the node since.
                    let (number, stamp) = off.swap_remove(next(off.len()));
                    assert!(!nodes.is_queued(number, stamp));
                    done[2] += 1;
                }
                _ => {}
            }
        }
        let left: usize = queued.iter().map(VecDeque::len).sum();
        while chain.pop_any(&nodes).is_some() {
            done[3] += 1;
        }
        assert_eq!(done[3], left);
        assert!(done[..3].iter().all(|&n| n > 1_000), "{done:?}");
    }

    /// Another bucket takes a node while this one finds that it can't open its own.
    #[test]
    fn what_cannot_be_opened_gives_no_node_out_twice() {
        let nodes = Nodes::new(8).unwrap();
        let others = Cell::new(None);
        let refused = nodes.fresh_if(|_| {
            others.set(nodes.fresh());
            false
        });
        assert!(refused.is_none() && others.get().is_some());
        let next = nodes.fresh();
        assert!(next.is_some() && next != others.get());
    }

    #[test]
    fn the_last_node_is_the_last() {
        let nodes = Nodes::new(3).unwrap();
        let mut chain = Chain::default();
        let mut push = || chain.push(&nodes, 4, (Addr::from_bits(1), 1), false);
        let (a, b) = (push().unwrap(), push().unwrap());
        assert!(a.0 != b.0 && push().is_none() && push().is_none());
        chain.remove(&nodes, a.0);
        let again = chain.push(&nodes, 4, (Addr::from_bits(1), 1), false);
        assert!(again.is_some_and(|again| again.0 == a.0 && again.1 != a.1));
    }
}
