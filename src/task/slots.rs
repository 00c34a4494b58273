//! The slot table of one worker: segments of slots, found by address.

use std::io;

use super::Addr;
use super::slot::{Slot, TaskState};
use crate::sys::mem::Reserve;
use crate::util::no_park::NoParkCell;

/// All slots of one worker: a reserve cut in segments of 2 MiB. A segment
/// whose slots are all free gives its memory back and keeps only the
/// generation that its slots must start from.
#[derive(Debug)]
pub(crate) struct Slots {
    base: *const Slot,
    capacity: u32,
    book: NoParkCell<Book>,
}

#[derive(Debug)]
struct Book {
    reserve: Reserve,
    /// Where the first segment begins in the reserve: at a huge page's border.
    offset: usize,
    segments: Vec<Segment>,
    /// Segments that have room, the one to use next at the end.
    open: Vec<u32>,
    live: u32,
    /// What new segments start their generations from.
    first_generation: u32,
}

#[derive(Debug, Default)]
struct Segment {
    live: u32,
    /// Slots handed out at least once since the memory was last given back.
    fresh: u32,
    /// The head of the list of free slots (index + 1, within the segment).
    free: u32,
    /// No slot here has had a higher generation than this, less one.
    next_generation: u32,
    open: bool,
}

/// A huge page.
const SEGMENT_BYTES: usize = 2 << 20;
const SEGMENT_SLOTS: u32 = (SEGMENT_BYTES / size_of::<Slot>()) as u32;

/// Segments that use small pages before further ones get huge ones: in random
/// order, every resume among millions would miss in the processor's page
/// cache, which costs more than the slot itself. The one that is partly filled
/// is then at most a fifth of what is resident.
const HUGE_AFTER: usize = 4;

impl Slots {
    /// Room for `capacity` tasks, whose generations start at `first_generation`.
    pub(crate) fn new(capacity: u32, first_generation: u32) -> io::Result<Self> {
        let capacity = capacity.clamp(1, Addr::MAX_SLOTS);
        // Whole segments, since they come and go as a whole, and one more to
        // begin at a huge page's border.
        let segments = capacity.div_ceil(SEGMENT_SLOTS) as usize;
        let reserve = Reserve::new((segments + 1) * SEGMENT_BYTES)?;
        let offset = reserve.base().align_offset(SEGMENT_BYTES);
        Ok(Self {
            base: reserve.base().wrapping_add(offset).cast(),
            capacity,
            book: NoParkCell::new(Book {
                reserve,
                offset,
                segments: Vec::new(),
                open: Vec::new(),
                live: 0,
                first_generation,
            }),
        })
    }

    /// The slot of this number, whatever its state.
    #[inline(always)]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        debug_assert!(index < self.capacity);
        // SAFETY: inside the reserve (numbers come from `alloc`, addresses are
        // checked by `find`); any bytes there, zero ones too, are a `Slot`
        // (I2), and only this thread touches them.
        unsafe { &*self.base.add(index as usize) }
    }

    /// The number of a slot of ours.
    #[inline(always)]
    pub(crate) fn index(&self, slot: *const Slot) -> u32 {
        ((slot.addr() - self.base.addr()) / size_of::<Slot>()) as u32
    }

    /// The live slot behind an address, unless it is stale.
    #[inline(always)]
    pub(crate) fn find(&self, addr: Addr) -> Option<(u32, &Slot)> {
        let index = addr.slot();
        if index >= self.capacity {
            return None;
        }
        let slot = self.slot(index);
        let same = Addr::generation_bits(slot.generation()) == addr.generation();
        (slot.state() != TaskState::Free && same).then_some((index, slot))
    }

    /// Tasks alive.
    pub(crate) fn live(&self) -> u32 {
        self.book.borrow().live
    }

    /// Whether another task can be alive.
    pub(crate) fn has_room(&self) -> bool {
        self.live() < self.capacity
    }

    /// The most tasks that can be alive.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Takes a free slot and makes it New; `None` when all are taken.
    #[inline]
    pub(crate) fn alloc(&self) -> Option<u32> {
        let mut book = self.book.borrow_mut();
        if book.live >= self.capacity {
            return None;
        }
        let number = match book.open.last() {
            Some(&number) => number,
            None => book.open_segment(self.capacity)?,
        };
        book.live += 1;
        let segment = &mut book.segments[number as usize];
        segment.live += 1;
        let first = number * SEGMENT_SLOTS;
        let (index, generation) = if segment.free != 0 {
            let index = first + segment.free - 1;
            let slot = self.slot(index);
            segment.free = slot.next_free();
            (index, slot.generation())
        } else {
            segment.fresh += 1;
            (first + segment.fresh - 1, segment.next_generation)
        };
        let full = segment.free == 0
            && (segment.fresh == SEGMENT_SLOTS || first + segment.fresh == self.capacity);
        if full {
            segment.open = false;
            book.open.pop();
        }
        self.slot(index).make_new(generation);
        Some(index)
    }

    /// Ends the task in this slot: its address is stale from here on.
    #[inline]
    pub(crate) fn free(&self, index: u32) {
        let mut book = self.book.borrow_mut();
        let slot = self.slot(index);
        let generation = slot.generation().wrapping_add(1);
        book.live -= 1;
        let number = index / SEGMENT_SLOTS;
        let segment = &mut book.segments[number as usize];
        slot.make_free(generation, segment.free);
        segment.free = index % SEGMENT_SLOTS + 1;
        segment.next_generation = segment.next_generation.max(generation);
        segment.live -= 1;
        if !segment.open {
            segment.open = true;
            book.open.push(number);
        } else if segment.live == 0 && book.open.len() > 1 {
            book.close_empty(number);
        }
    }

    /// Live slots with their numbers, for walks at shutdown and in dumps.
    pub(crate) fn iter_live(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let ends: Vec<u32> = self
            .book
            .borrow()
            .segments
            .iter()
            .map(|s| s.fresh)
            .collect();
        let numbers = ends.into_iter().enumerate().flat_map(|(segment, end)| {
            let first = segment as u32 * SEGMENT_SLOTS;
            first..first + end
        });
        numbers
            .map(|i| (i, self.slot(i)))
            .filter(|(_, slot)| slot.state() != TaskState::Free)
    }

    /// A generation that no slot here has had: where a successor must start.
    pub(crate) fn next_generation(&self) -> u32 {
        let book = self.book.borrow();
        let used = book.segments.iter().map(|s| s.next_generation).max();
        used.unwrap_or(book.first_generation).wrapping_add(1)
    }
}

impl Book {
    /// Makes room in a segment that was given back, else in a new one.
    fn open_segment(&mut self, capacity: u32) -> Option<u32> {
        let number = match self.segments.iter().position(|s| s.live == 0 && !s.open) {
            Some(number) => number,
            None if self.segments.len() as u32 * SEGMENT_SLOTS >= capacity => return None,
            None => {
                self.segments.push(Segment {
                    next_generation: self.first_generation,
                    ..Segment::default()
                });
                let number = self.segments.len() - 1;
                if number >= HUGE_AFTER {
                    let offset = self.offset(number);
                    self.reserve.prefer_huge(offset, SEGMENT_BYTES);
                }
                number
            }
        };
        self.segments[number].open = true;
        self.open.push(number as u32);
        Some(number as u32)
    }

    /// Gives an empty segment's memory back; another one has room.
    #[cold]
    fn close_empty(&mut self, number: u32) {
        let offset = self.offset(number as usize);
        // SAFETY: no slot of the segment is live; a stale address reads zero
        // there, which is a free slot (I2). Free-list links inside are dropped
        // below.
        if unsafe { self.reserve.release(offset, SEGMENT_BYTES) }.is_err() {
            return;
        }
        let segment = &mut self.segments[number as usize];
        segment.fresh = 0;
        segment.free = 0;
        segment.open = false;
        self.open.retain(|&open| open != number);
    }

    /// Where a segment begins in the reserve.
    fn offset(&self, number: usize) -> usize {
        self.offset + number * SEGMENT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn addr(slots: &Slots, index: u32) -> Addr {
        Addr::new(1, slots.slot(index).generation(), index)
    }

    #[test]
    fn a_last_segment_that_is_not_full_comes_and_goes() {
        let slots = Slots::new(SEGMENT_SLOTS + 1000, 3).unwrap();
        for _ in 0..2 {
            let all: Vec<u32> = (0..slots.capacity())
                .map(|_| slots.alloc().unwrap())
                .collect();
            assert!(!slots.has_room() && slots.alloc().is_none());
            let gone = addr(&slots, SEGMENT_SLOTS);
            all.into_iter().for_each(|index| slots.free(index));
            assert!(slots.find(gone).is_none() && slots.live() == 0);
        }
    }

    #[test]
    fn addresses_end_with_the_capacity() {
        let slots = Slots::new(10, 0).unwrap();
        assert!((0..20).all(|slot| slots.find(Addr::new(1, 0, slot)).is_none()));
    }

    #[test]
    fn stale_addresses_are_never_found() {
        stale_addresses_from(5);
        // As in untouched memory.
        stale_addresses_from(0);
    }

    fn stale_addresses_from(first_generation: u32) {
        let slots = Slots::new(3 * SEGMENT_SLOTS, first_generation).unwrap();
        let mut live: HashMap<u32, Addr> = HashMap::new();
        let mut order: Vec<u32> = Vec::new();
        let mut stale: Vec<Addr> = Vec::new();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for step in 0..400_000_u32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Phases of growth and of shrinking, so that segments come and go.
            let grow = if (step / 100_000) % 2 == 0 { 7 } else { 1 };
            if random % 8 < grow || live.is_empty() {
                let index = slots.alloc().expect("room");
                let fresh = addr(&slots, index);
                order.push(index);
                assert!(
                    live.insert(index, fresh).is_none(),
                    "slot {index} handed out twice"
                );
                assert_ne!(stale.last(), Some(&fresh));
            } else {
                let nth = (random >> 8) as usize % live.len();
                let index = order.swap_remove(nth);
                stale.push(live.remove(&index).unwrap());
                slots.free(index);
            }
        }
        assert_eq!(slots.live() as usize, live.len());
        for (&index, &known) in &live {
            assert_eq!(slots.find(known).map(|found| found.0), Some(index));
        }
        for &gone in &stale {
            assert!(slots.find(gone).is_none(), "{gone:?} came back");
        }
        let mut seen: Vec<u32> = slots.iter_live().map(|(index, _)| index).collect();
        let mut expected: Vec<u32> = live.keys().copied().collect();
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_segment_that_comes_back_is_above_all_that_its_slots_had() {
        let slots = Slots::new(2 * SEGMENT_SLOTS, 0).unwrap();
        let full: Vec<u32> = (0..SEGMENT_SLOTS).map(|_| slots.alloc().unwrap()).collect();
        // Of the second segment one slot ages, and one that has not ends last.
        let [young, old] = [(); 2].map(|()| slots.alloc().unwrap());
        let stale: Vec<Addr> = (0..10)
            .map(|_| {
                let gone = addr(&slots, old);
                slots.free(old);
                assert_eq!(slots.alloc(), Some(old));
                gone
            })
            .collect();
        slots.free(old);
        // With room elsewhere, its memory goes, and the generations with it.
        slots.free(full[0]);
        slots.free(young);
        assert_eq!(slots.slot(old).generation(), 0);
        while slots.alloc() != Some(old) {}
        assert!(stale.iter().all(|&gone| slots.find(gone).is_none()));
    }

    #[test]
    fn an_emptied_segment_starts_above_its_old_generations() {
        let slots = Slots::new(2 * SEGMENT_SLOTS, 0).unwrap();
        let all: Vec<u32> = (0..2 * SEGMENT_SLOTS)
            .map(|_| slots.alloc().unwrap())
            .collect();
        assert!(slots.alloc().is_none(), "capacity is a limit");
        let old: Vec<Addr> = all.iter().map(|&i| addr(&slots, i)).collect();
        all.iter().for_each(|&i| slots.free(i));
        assert_eq!(slots.live(), 0);
        for _ in 0..2 * SEGMENT_SLOTS {
            slots.alloc().unwrap();
        }
        assert!(old.iter().all(|&gone| slots.find(gone).is_none()));
        assert!(slots.next_generation() > 1);
    }
}
