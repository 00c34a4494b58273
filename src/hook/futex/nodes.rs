//! The nodes of the table: who waits, in queues by address, without a heap.
//!
//! The allocator may be what is waited for, so nothing here allocates: nodes
//! lie in address space that is reserved once, like slots (I2). All-zero memory
//! is a free node. A node is a waiter's while it is queued; whoever takes it off
//! gives it back, so who was woken needs no lock.
//!
//! ```text
//!   bucket.chain ─► head of address a ─► head of address b      (chain)
//!                        │                    │
//!                        ▼                    ▼
//!                      second               second …            (link)
//! ```
//!
//! The first node of an address stands in the bucket's chain and knows the
//! last one. Pure bookkeeping: locks and waking are in [`table`](super::table).

use std::cell::Cell;
use std::io;
// Stamps lie in memory of zeros, where loom's atomics can't be.
use std::sync::atomic::AtomicU64;

use crate::shim::atomic::{AtomicU32, Ordering};
use crate::sys::mem::Reserve;
use crate::task::Addr;
use crate::util::list::{FreeList, Link, Links, List};

/// A node's number.
pub(super) type Number = u32;

/// Which use of a node this is, see [`Node::stamp`].
pub(super) type Stamp = u64;

/// One waiter.
struct Node {
    /// Odd while it is queued. Counted on whenever it is queued and taken off,
    /// so a waiter that remembers it sees by itself that it was taken off.
    stamp: AtomicU64,
    address: Cell<usize>,
    /// Whom to wake.
    waiter: Cell<u64>,
    /// Wakers must have one of these bits in common.
    bits: Cell<u32>,
    /// Its neighbours among those of its address.
    link: Link,
    /// Of the first only: the last of its address, its neighbours in the chain.
    last: Cell<u32>,
    chain: Link,
}

// As ARCHITECTURE.md says, "Memory, in numbers".
const _: () = assert!(size_of::<Node>() == 48);

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
            memory: Reserve::new(count as usize * size_of::<Node>())?,
            fresh: AtomicU32::new(0),
            count,
        })
    }

    #[inline(always)]
    fn all(&self) -> &[Node] {
        // SAFETY: the reserve is as long, and as old as `self`; any bytes that
        // were written there are a `Node`'s, and zero is one; all of a node is
        // cells and atomics, and see the `Sync` above for who touches it.
        unsafe { std::slice::from_raw_parts(self.memory.base().cast(), self.count as usize) }
    }

    /// Whether nobody has taken the node off since it got this stamp. Asked by
    /// its waiter, without the lock: "queued" may be late, "taken off" is
    /// final, and all that came before the taking off is seen.
    #[inline]
    pub(super) fn is_queued(&self, number: Number, stamp: Stamp) -> bool {
        node(self.all(), number).stamp.load(Ordering::Acquire) == stamp
    }

    fn fresh(&self) -> Option<Number> {
        let number = self.fresh.fetch_add(1, Ordering::Relaxed);
        if number < self.count {
            return Some(number);
        }
        // Not beyond the end, however often it is asked for.
        self.fresh.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

#[inline(always)]
fn node(nodes: &[Node], number: Number) -> &Node {
    // SAFETY: all numbers come from `fresh`, which knows how many there are.
    unsafe { nodes.get_unchecked(number as usize) }
}

/// Of one address, by [`Node::link`].
impl Links for [Node] {
    #[inline(always)]
    fn link(&self, number: Number) -> &Link {
        &node(self, number).link
    }
}

/// The first ones, by [`Node::chain`].
struct Heads<'a>(&'a [Node]);

impl Links for Heads<'_> {
    #[inline(always)]
    fn link(&self, head: Number) -> &Link {
        &node(self.0, head).chain
    }
}

/// The waiters of one bucket.
pub(super) struct Chain {
    /// The first nodes of all addresses.
    heads: List,
    /// Nodes that are nobody's.
    free: FreeList,
    /// Who was taken off last.
    last: u64,
    /// How often that one came back at once: whoever let go of a lock has taken
    /// it again before.
    in_vain: u32,
}

/// So often waiters are woken in vain before somebody lets them run.
const PATIENCE: u32 = 64;

impl Chain {
    pub(super) const EMPTY: Self = Self {
        heads: List::EMPTY,
        free: FreeList::EMPTY,
        last: 0,
        in_vain: 0,
    };

    /// The first waiter of this address.
    #[inline(always)]
    fn head(&self, nodes: &[Node], address: usize) -> Option<Number> {
        let mut at = self.heads.first();
        while let Some(head) = at {
            if node(nodes, head).address.get() == address {
                break;
            }
            at = List::after(&Heads(nodes), head);
        }
        at
    }

    /// Changes the queue that begins with `head`, and does not become empty.
    #[inline(always)]
    fn change(&mut self, nodes: &[Node], head: Number, change: impl FnOnce(&mut List)) {
        let mut queue = List::between(head, node(nodes, head).last.get());
        change(&mut queue);
        if let Some((first, last)) = queue.ends() {
            if first != head {
                self.heads.replace(&Heads(nodes), head, first);
            }
            node(nodes, first).last.set(last);
        }
    }

    /// Queues a node where others are queued. (Out of line: mostly none are.)
    #[inline(never)]
    fn join(&mut self, nodes: &[Node], head: Number, number: Number, to_front: bool) {
        self.change(nodes, head, |queue| {
            if to_front {
                queue.push_front(nodes, number);
            } else {
                queue.push_back(nodes, number);
            }
        });
    }

    /// Takes off one of several. (Out of line: mostly there is one.)
    #[inline(never)]
    fn part(&mut self, nodes: &[Node], head: Number, number: Number) -> Addr {
        self.change(nodes, head, |queue| queue.unlink(nodes, number));
        self.release(nodes, number)
    }

    /// Queues a waiter behind, or before, all others of its address; `None` if
    /// there is no room.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        nodes: &Nodes,
        address: usize,
        (waiter, bits): (Addr, u32),
        to_front: bool,
    ) -> Option<(Number, Stamp)> {
        let fresh = || nodes.fresh();
        let nodes = nodes.all();
        let number = self.free.pop(nodes).or_else(fresh)?;
        self.in_vain += u32::from(waiter.to_bits() == self.last);
        let node = node(nodes, number);
        let stamp = node.stamp.load(Ordering::Relaxed) + 1;
        debug_assert!(stamp % 2 == 1);
        node.stamp.store(stamp, Ordering::Relaxed);
        node.waiter.set(waiter.to_bits());
        node.bits.set(bits);
        node.address.set(address);
        match self.head(nodes, address) {
            None => {
                List::default().push_back(nodes, number);
                node.last.set(number);
                self.heads.push_front(&Heads(nodes), number);
            }
            Some(head) => self.join(nodes, head, number, to_front),
        }
        Some((number, stamp))
    }

    /// Takes a queued node off its queue: whom it stood for. It is nobody's
    /// from here on.
    #[inline]
    pub(super) fn remove(&mut self, nodes: &Nodes, number: Number) -> Addr {
        let nodes = nodes.all();
        let address = node(nodes, number).address.get();
        let head = self.head(nodes, address).unwrap_or(number);
        self.remove_behind(nodes, head, number)
    }

    /// As [`remove`](Self::remove); `head` is the first of the same address.
    #[inline(always)]
    fn remove_behind(&mut self, nodes: &[Node], head: Number, number: Number) -> Addr {
        if node(nodes, head).last.get() == head {
            self.heads.unlink(&Heads(nodes), head);
            self.release(nodes, number)
        } else {
            self.part(nodes, head, number)
        }
    }

    /// Makes a node nobody's.
    #[inline(always)]
    fn release(&mut self, nodes: &[Node], number: Number) -> Addr {
        let node = node(nodes, number);
        let stamp = node.stamp.load(Ordering::Relaxed);
        debug_assert!(stamp % 2 == 1);
        // Partner: `is_queued`.
        node.stamp.store(stamp + 1, Ordering::Release);
        self.free.push(nodes, number);
        let waiter = node.waiter.get();
        self.last = waiter;
        Addr::from_bits(waiter)
    }

    /// Whether waiters were woken in vain so often that whoever has taken one
    /// off should let it run; starts to count anew.
    #[inline]
    pub(super) fn is_unfair(&mut self) -> bool {
        let unfair = self.in_vain >= PATIENCE;
        if unfair {
            self.in_vain = 0;
        }
        unfair
    }

    /// Takes the first waiter of an address off whose bits meet `bits`.
    pub(super) fn pop(&mut self, nodes: &Nodes, address: usize, bits: u32) -> Option<Addr> {
        let nodes = nodes.all();
        let head = self.head(nodes, address)?;
        let mut number = head;
        while node(nodes, number).bits.get() & bits == 0 {
            number = List::after(nodes, number)?;
        }
        Some(self.remove_behind(nodes, head, number))
    }

    /// Takes somebody off, whoever it is.
    pub(super) fn pop_any(&mut self, nodes: &Nodes) -> Option<Addr> {
        let head = self.heads.first()?;
        Some(self.remove_behind(nodes.all(), head, head))
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
        let mut chain = Chain::EMPTY;
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

    #[test]
    fn nodes_stay_small() {
        assert_eq!(size_of::<Node>(), 48);
    }

    #[test]
    fn the_last_node_is_the_last() {
        let nodes = Nodes::new(2).unwrap();
        let mut chain = Chain::EMPTY;
        let mut push = || chain.push(&nodes, 4, (Addr::from_bits(1), 1), false);
        let (a, b) = (push().unwrap(), push().unwrap());
        assert!(a.0 != b.0 && push().is_none() && push().is_none());
        chain.remove(&nodes, a.0);
        let again = chain.push(&nodes, 4, (Addr::from_bits(1), 1), false);
        assert!(again.is_some_and(|again| again.0 == a.0 && again.1 != a.1));
    }
}
