//! Doubly linked lists of numbered nodes, without allocation.
//!
//! A [`List`] is a head and a tail; the links lie in the nodes, which belong
//! to whoever implements [`Links`]: timers, and waiters of a descriptor
//! (`driver/linked_slab.rs`), chunks of saved frames (`stack/frame_pool.rs`),
//! waiters of a primitive (`sync/waiters.rs`). A node is on one list at most,
//! and its owner knows on which. A list only follows numbers: a wrong one is a
//! wrong answer, or a panic, and never a memory error.
//!
//! Other lists in the crate differ in kind, and stay where they are. The queues
//! of the futex table (`hook/futex/nodes.rs`) have no heads beside their nodes:
//! the first waiter of an address stands for all, and hands that on. Free
//! lists of slots (`task/slot.rs`) and of saved frames (`stack/frame_pool.rs`)
//! keep one number inside of what is free, where zeros must be valid. Run
//! queues and mailboxes hold their elements by value (`VecDeque`);
//! registrations of guard pages (`stack/guard.rs`) are a lock-free stack of
//! pointers; the list of glibc's threads (`sys/tls/glibc/list.rs`) is glibc's.

use std::cell::Cell;

/// No node.
const NONE: u32 = u32::MAX;

/// The neighbours of a node; without meaning while it is on no list. (Cells, so
/// that a list is changed with its nodes only borrowed.)
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    prev: Cell<u32>,
    next: Cell<u32>,
}

/// Nodes that know their neighbours.
pub(crate) trait Links {
    fn link(&self, node: u32) -> &Link;
}

/// First in, first out, unless asked otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    #[inline(always)]
    pub(crate) fn first(&self) -> Option<u32> {
        some(self.head)
    }

    /// The node behind `node`, which is on a list.
    #[inline(always)]
    pub(crate) fn after(nodes: &(impl Links + ?Sized), node: u32) -> Option<u32> {
        some(nodes.link(node).next.get())
    }

    /// The list's nodes from the front.
    pub(crate) fn iter(&self, nodes: &(impl Links + ?Sized)) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), |&node| Self::after(nodes, node))
    }

    /// Appends a node that is on no list.
    #[inline]
    pub(crate) fn push_back(&mut self, nodes: &(impl Links + ?Sized), node: u32) {
        self.insert(nodes, self.tail, node, NONE);
    }

    /// Puts a node that is on no list before all others.
    #[inline]
    pub(crate) fn push_front(&mut self, nodes: &(impl Links + ?Sized), node: u32) {
        self.insert(nodes, NONE, node, self.head);
    }

    /// Takes a node off this list.
    #[inline]
    pub(crate) fn unlink(&mut self, nodes: &(impl Links + ?Sized), node: u32) {
        let link = nodes.link(node);
        let (prev, next) = (link.prev.get(), link.next.get());
        self.set(nodes, (prev, next), (prev, next));
    }

    /// Takes the first node off.
    #[inline]
    pub(crate) fn pop_front(&mut self, nodes: &(impl Links + ?Sized)) -> Option<u32> {
        let first = self.first()?;
        self.unlink(nodes, first);
        Some(first)
    }

    #[inline(always)]
    fn insert(&mut self, nodes: &(impl Links + ?Sized), prev: u32, node: u32, next: u32) {
        let link = nodes.link(node);
        link.prev.set(prev);
        link.next.set(next);
        self.set(nodes, (prev, node), (node, next));
    }

    /// Lets `prev` lead to `after`, and `next` back to `before`; where there is
    /// no `prev` or `next`, that is an end of the list.
    #[inline(always)]
    fn set(
        &mut self,
        nodes: &(impl Links + ?Sized),
        (prev, after): (u32, u32),
        (before, next): (u32, u32),
    ) {
        if prev == NONE {
            self.head = after;
        } else {
            nodes.link(prev).next.set(after);
        }
        if next == NONE {
            self.tail = before;
        } else {
            nodes.link(next).prev.set(before);
        }
    }
}

/// Nodes without a use, last in, first out: a singly linked list, by the same
/// links.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeList(u32);

impl FreeList {
    pub(crate) const EMPTY: Self = Self(NONE);

    #[inline(always)]
    pub(crate) fn push(&mut self, nodes: &(impl Links + ?Sized), node: u32) {
        nodes.link(node).next.set(self.0);
        self.0 = node;
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self, nodes: &(impl Links + ?Sized)) -> Option<u32> {
        let node = some(self.0)?;
        self.0 = nodes.link(node).next.get();
        Some(node)
    }
}

#[inline(always)]
fn some(node: u32) -> Option<u32> {
    (node != NONE).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fuzz::Random;
    use std::collections::VecDeque;

    impl Links for Vec<Link> {
        fn link(&self, node: u32) -> &Link {
            &self[node as usize]
        }
    }

    #[test]
    fn lists_behave_like_deques() {
        const LISTS: usize = 3;
        let nodes = vec![Link::default(); 40];
        let mut lists = [List::EMPTY; LISTS];
        let mut models: [VecDeque<u32>; LISTS] = Default::default();
        let mut unused = FreeList::EMPTY;
        (0..nodes.len() as u32).for_each(|node| unused.push(&nodes, node));
        let mut random = Random::new(7);
        let mut below = |n: usize| random.next() as usize % n;
        for _ in 0..50_000 {
            let n = below(LISTS);
            let (list, model) = (&mut lists[n], &mut models[n]);
            let at = below(model.len().max(1));
            let what = below(4);
            let new = if what < 2 { unused.pop(&nodes) } else { None };
            let gone = match (what, new) {
                (0, Some(new)) => {
                    list.push_back(&nodes, new);
                    model.push_back(new);
                    None
                }
                (1, Some(new)) => {
                    list.push_front(&nodes, new);
                    model.push_front(new);
                    None
                }
                (2, _) => {
                    let popped = list.pop_front(&nodes);
                    assert_eq!(popped, model.pop_front());
                    popped
                }
                _ => model.remove(at).inspect(|&node| list.unlink(&nodes, node)),
            };
            gone.into_iter().for_each(|node| unused.push(&nodes, node));
            assert!(list.iter(&nodes).eq(model.iter().copied()));
            assert_eq!(list.first(), model.front().copied());
            assert_eq!(list.is_empty(), model.is_empty());
        }
    }
}
