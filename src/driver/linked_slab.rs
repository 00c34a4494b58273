//! A slab whose nodes can be on a [`List`], in memory that grows without
//! copying: the storage of timers and of overflow waiters. Does not live here:
//! what a node means.
//!
//! ```text
//!  chunks ─► [ node 0 | node 1 | … | node 255 ]   a chunk never moves
//!            [ node 256 | …                   ]   the last one fills up
//!
//!  node    = generation · link · value?            no value: on the free list
//! ```
//!
//! A [`SlabKey`] is a node's number and its generation, which no other insertion
//! shares until 2³² − 1 more have been made: a stale key is recognised, and also
//! when the memory went back to the allocator in between.

use std::num::NonZeroU32;

use crate::util::list::{FreeList, Link, Links, List};

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Names one insertion into a [`LinkedSlab`]. Eight bytes, also as an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlabKey {
    index: u32,
    generation: NonZeroU32,
}

#[derive(Debug)]
struct SlabNode<T> {
    generation: u32,
    /// On a list, or on the free list.
    link: Link,
    value: Option<T>,
}

impl<T> SlabNode<T> {
    fn unused() -> Self {
        Self {
            generation: 0,
            link: Link::default(),
            value: None,
        }
    }
}

impl<T> Links for LinkedSlab<T> {
    #[inline(always)]
    fn link(&self, index: u32) -> &Link {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK].link
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct LinkedSlab<T> {
    /// Of one size, known to the compiler: a node is found with one check.
    chunks: Vec<Box<[SlabNode<T>; CHUNK]>>,
    /// Nodes that were ever used since the chunks were made.
    fresh: u32,
    free: FreeList,
    len: u32,
    generation: u32,
}

impl<T> LinkedSlab<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            fresh: 0,
            free: FreeList::EMPTY,
            len: 0,
            generation: 0,
        }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Stores `value` at the end of a list.
    #[inline]
    pub(super) fn append(&mut self, list: &mut List, value: T) -> SlabKey {
        let key = self.insert(value);
        list.push_back(self, key.index);
        key
    }

    /// Stores `value`, on no list.
    #[inline]
    pub(super) fn insert(&mut self, value: T) -> SlabKey {
        let next = self.generation.wrapping_add(1);
        let generation = NonZeroU32::new(next).unwrap_or(NonZeroU32::MIN);
        self.generation = generation.get();
        let mut free = self.free;
        let index = free.pop(self).unwrap_or_else(|| self.take_fresh());
        self.free = free;
        let node = self.node(index);
        node.generation = generation.get();
        node.value = Some(value);
        self.len += 1;
        SlabKey { index, generation }
    }

    /// A node that was never used, when there is no free one.
    #[cold]
    fn take_fresh(&mut self) -> u32 {
        let index = self.fresh;
        assert!(
            index != u32::MAX,
            "more than 2^32 - 1 waiters or timers on one worker"
        );
        if (index >> CHUNK_BITS) as usize == self.chunks.len() {
            let nodes: Box<[SlabNode<T>]> = (0..CHUNK).map(|_| SlabNode::unused()).collect();
            let chunk = nodes.try_into();
            self.chunks
                .push(chunk.unwrap_or_else(|_| unreachable!("a chunk has CHUNK nodes")));
        }
        self.fresh += 1;
        index
    }

    /// The number behind a key, unless the key is stale.
    #[inline]
    pub(super) fn index(&self, key: SlabKey) -> Option<u32> {
        let chunk = self.chunks.get((key.index >> CHUNK_BITS) as usize)?;
        let node = &chunk[key.index as usize % CHUNK];
        (node.generation == key.generation.get() && node.value.is_some()).then_some(key.index)
    }

    /// Takes the value of a node that is on no list any more. The last one
    /// gives back whatever a spike had needed.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> T {
        let value = self.node(index).value.take();
        let mut free = self.free;
        free.push(self, index);
        self.free = free;
        self.len -= 1;
        if self.len == 0 && self.chunks.len() > 1 {
            self.shrink();
        }
        value.expect("a node with a value")
    }

    #[cold]
    fn shrink(&mut self) {
        self.chunks.truncate(1);
        self.chunks.shrink_to_fit();
        self.chunks[0].fill_with(SlabNode::unused);
        (self.fresh, self.free) = (0, FreeList::EMPTY);
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        let node = &self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK];
        node.value.as_ref().expect("a node with a value")
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        self.node(index)
            .value
            .as_mut()
            .expect("a node with a value")
    }

    #[inline]
    fn node(&mut self, index: u32) -> &mut SlabNode<T> {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK]
    }

    /// The list's values from the front.
    pub(super) fn iter(&self, list: &List) -> impl Iterator<Item = &T> {
        list.iter(self).map(|index| self.get(index))
    }

    /// Calls `f` with the list's values, from the front.
    pub(super) fn for_each(&mut self, list: &List, mut f: impl FnMut(&mut T)) {
        let mut at = list.first();
        while let Some(index) = at {
            f(self.get_mut(index));
            at = List::after(self, index);
        }
    }

    /// All values, on whatever list.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        let nodes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        nodes.filter_map(|node| node.value.as_ref())
    }

    /// How many nodes there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::fuzz::Random;
    use std::collections::VecDeque;

    #[test]
    fn lists_behave_like_queues_with_removal_in_the_middle() {
        let mut rng = Random::new(7);
        let mut slab = LinkedSlab::new();
        let mut lists = [List::EMPTY; 3];
        let mut model: [VecDeque<(SlabKey, u64)>; 3] = Default::default();
        let mut dead: Vec<SlabKey> = Vec::new();
        for step in 0..200_000u64 {
            let l = rng.below(3) as usize;
            // Grow and shrink in waves, so that the slab empties now and then.
            let grow = (step / 20_000).is_multiple_of(2);
            match rng.below(8) {
                0..=2 if grow => {
                    let key = slab.insert(step);
                    let index = slab.index(key).unwrap();
                    lists[l].push_back(&slab, index);
                    model[l].push_back((key, step));
                }
                0..=5 => {
                    let at = rng.below(model[l].len() as u64 + 1) as usize;
                    if let Some((key, value)) = model[l].remove(at) {
                        let index = slab.index(key).unwrap();
                        lists[l].unlink(&slab, index);
                        assert_eq!(slab.remove(index), value);
                        dead.push(key);
                    }
                }
                6 => {
                    let expected = model[l].pop_front();
                    let index = lists[l].pop_front(&slab);
                    assert_eq!(
                        index.map(|i| slab.remove(i)),
                        expected.map(|(_, value)| value)
                    );
                    dead.extend(expected.map(|(key, _)| key));
                }
                _ => {
                    assert!(
                        dead.iter()
                            .rev()
                            .take(50)
                            .all(|&key| slab.index(key).is_none())
                    );
                    assert!(
                        slab.iter(&lists[l])
                            .eq(model[l].iter().map(|(_, value)| value))
                    );
                }
            }
            assert_eq!(slab.len(), model.iter().map(VecDeque::len).sum::<usize>());
            assert_eq!(lists[l].is_empty(), model[l].is_empty());
        }
    }

    #[test]
    fn a_spike_is_given_back_and_its_keys_are_stale() {
        let mut slab = LinkedSlab::new();
        let keys: Vec<SlabKey> = (0..100_000).map(|i| slab.insert(i)).collect();
        assert!(slab.capacity() >= 100_000);
        for &key in &keys {
            let index = slab.index(key).unwrap();
            slab.remove(index);
        }
        assert_eq!(slab.capacity(), CHUNK);
        for i in 0..100_000 {
            slab.insert(i);
        }
        assert!(keys.iter().all(|&key| slab.index(key).is_none()));
    }

    #[test]
    fn nodes_stay_small() {
        assert_eq!(size_of::<SlabKey>(), 8);
        assert_eq!(size_of::<Option<SlabKey>>(), 8);
        assert_eq!(size_of::<SlabNode<(u64, std::task::Waker)>>(), 40);
    }
}
