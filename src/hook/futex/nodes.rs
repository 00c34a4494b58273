//! The nodes of the table: who waits, in queues by address, without a heap.
//!
//! The allocator may be what is waited for, so nothing here allocates: nodes
//! lie in address space that is reserved once, like slots (I2), and go from
//! bucket to waiter and back. All-zero memory is a free node.
//!
//! ```text
//!   bucket.chain ─► head of address a ─► head of address b      (chain, back)
//!                        │ next               │ next
//!                        ▼                    ▼
//!                      second               second …            (next, prev)
//! ```
//!
//! The first node of an address stands in the bucket's chain and knows the
//! last one. Pure bookkeeping: locks and waking are in [`table`](super::table).

use std::cell::Cell;
use std::io;

use crate::shim::atomic::{AtomicU32, Ordering};
use crate::sys::mem::Reserve;
use crate::task::Addr;

/// No node.
const NONE: u32 = 0;

/// A node's number; it never names another's node, since only the waiter that
/// got it gives it back.
pub(super) type Number = u32;

/// One waiter.
#[derive(Default)]
struct Node {
    address: Cell<usize>,
    /// Whom to wake.
    waiter: Cell<u64>,
    /// Wakers must have one of these bits in common.
    bits: Cell<u32>,
    queued: Cell<bool>,
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
// to (`Chain`'s functions take `&mut`), and changes buckets never.
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
            fresh: AtomicU32::new(NONE + 1),
            count,
        })
    }

    fn node(&self, number: Number) -> &Node {
        debug_assert!(number != NONE && number < self.count);
        // SAFETY: in the reserve; any bytes that were written there are a
        // `Node`'s, and zero is one; see the `Sync` above for who touches it.
        unsafe { &*self.memory.base().cast::<Node>().add(number as usize) }
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

/// The waiters of one bucket.
#[derive(Default)]
pub(super) struct Chain {
    /// The first node of the first address.
    first: u32,
    /// Nodes that are nobody's; `next` leads on.
    free: u32,
}

impl Chain {
    /// A node for a waiter, not queued; `None` if there is no more.
    pub(super) fn make(&mut self, nodes: &Nodes, waiter: Addr, bits: u32) -> Option<Number> {
        let number = if self.free == NONE {
            nodes.fresh()?
        } else {
            self.free
        };
        let node = nodes.node(number);
        if number == self.free {
            self.free = node.next.get();
        }
        node.waiter.set(waiter.to_bits());
        node.bits.set(bits);
        Some(number)
    }

    /// Gives a node back that is not queued.
    pub(super) fn free(&mut self, nodes: &Nodes, number: Number) {
        debug_assert!(!self.is_queued(nodes, number));
        nodes.node(number).next.set(self.free);
        self.free = number;
    }

    pub(super) fn is_queued(&self, nodes: &Nodes, number: Number) -> bool {
        nodes.node(number).queued.get()
    }

    fn head(&self, nodes: &Nodes, address: usize) -> u32 {
        let mut head = self.first;
        while head != NONE && nodes.node(head).address.get() != address {
            head = nodes.node(head).chain.get();
        }
        head
    }

    /// Queues a node behind, or before, all others of its address.
    pub(super) fn push(&mut self, nodes: &Nodes, number: Number, address: usize, to_front: bool) {
        let node = nodes.node(number);
        debug_assert!(!node.queued.get());
        node.queued.set(true);
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

    /// Takes a queued node off its queue; it stays its waiter's.
    pub(super) fn unlink(&mut self, nodes: &Nodes, number: Number) {
        let node = nodes.node(number);
        debug_assert!(node.queued.get());
        node.queued.set(false);
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
                self.unlink(nodes, number);
                return Some(Addr::from_bits(node.waiter.get()));
            }
            number = node.next.get();
        }
        None
    }

    /// Takes somebody off, whoever it is.
    pub(super) fn pop_any(&mut self, nodes: &Nodes) -> Option<Addr> {
        let first = (self.first != NONE).then_some(self.first)?;
        self.unlink(nodes, first);
        Some(Addr::from_bits(nodes.node(first).waiter.get()))
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
        let mut queued: Vec<VecDeque<(Number, u64, u32)>> = vec![VecDeque::new(); ADDRESSES];
        let mut off: Vec<Number> = Vec::new();
        let mut done = [0; 4];
        for round in 1..60_000_u64 {
            let n = next(ADDRESSES);
            let address = 4 * (n + 1);
            match next(6) {
                0 | 1 => {
                    let bits = 1 + next(3) as u32;
                    let number = chain.make(&nodes, Addr::from_bits(round), bits).unwrap();
                    let to_front = next(4) == 0;
                    chain.push(&nodes, number, address, to_front);
                    if to_front {
                        queued[n].push_front((number, round, bits));
                    } else {
                        queued[n].push_back((number, round, bits));
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
                    let (number, ..) = queued[n].remove(at).unwrap();
                    assert!(chain.is_queued(&nodes, number));
                    chain.unlink(&nodes, number);
                    off.push(number);
                    done[1] += 1;
                }
                5 if !off.is_empty() => {
                    let number = off.swap_remove(next(off.len()));
                    assert!(!chain.is_queued(&nodes, number));
                    chain.free(&nodes, number);
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
    fn the_last_node_is_the_last() {
        let nodes = Nodes::new(3).unwrap();
        let mut chain = Chain::default();
        let mut make = || chain.make(&nodes, Addr::from_bits(1), 1);
        let (a, b) = (make().unwrap(), make().unwrap());
        assert!(a != b && make().is_none() && make().is_none());
        chain.free(&nodes, a);
        assert_eq!(chain.make(&nodes, Addr::from_bits(1), 1), Some(a));
    }
}
