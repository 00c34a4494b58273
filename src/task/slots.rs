//! The slot table of one worker: segments of slots, found by address.

use std::cell::Cell;
use std::io;

use super::Addr;
use super::slot::{Slot, TaskState};
use crate::sys::mem::Reserve;
use crate::sys::report::report;
use crate::util::no_park::NoParkCell;

/// All slots of one worker: a reserve cut in segments of 2 MiB. A segment
/// whose slots are all free gives its memory back, unless it is the only one, and
/// keeps only the generation that its slots must start from. A slot that has had
/// all generations is never used again, nor is its segment's memory given back.
#[derive(Debug)]
pub(crate) struct Slots {
    base: *const Slot,
    /// The most that may be live; less than was asked for if there is no memory.
    capacity: Cell<u32>,
    /// Slots that may be looked at.
    opened: Cell<u32>,
    book: NoParkCell<Book>,
}

#[derive(Debug)]
struct Book {
    reserve: Reserve,
    /// Where the first segment begins in the reserve: at a huge page's border.
    offset: usize,
    /// How many segments there can be.
    most: u32,
    segments: Vec<Segment>,
    /// Segments that have room, the one to use next at the end.
    open: Vec<u32>,
    /// The segment that kept its memory when it became empty last.
    spare: u32,
    live: u32,
    /// What segments start their generations from that are not among `segments` yet.
    generations: Generations,
}

/// For each segment a generation that no slot there has had: what the slots of a
/// worker's successor must start from. Segments that are not named start from 0.
pub(crate) type Generations = Vec<u32>;

#[derive(Debug, Default)]
struct Segment {
    live: u32,
    /// Slots handed out at least once since the memory was last given back.
    fresh: u32,
    /// The head of the list of free slots (index + 1, within the segment).
    free: u32,
    /// What slots start from that are handed out for the first time.
    first_generation: u32,
    /// No slot that is free has had this generation.
    next_generation: u32,
    open: bool,
}

/// A huge page.
const SEGMENT_BYTES: usize = 2 << 20;
const SEGMENT_SLOTS: u32 = (SEGMENT_BYTES / size_of::<Slot>()) as u32;

/// Segments in place of slots that have used up their generations: with however small
/// a capacity, for four years of a million spawns a second.
const EXTRA_SEGMENTS: u32 = 32;

/// Segments that use small pages before further ones get huge ones: in random
/// order, every resume among millions would miss in the processor's page
/// cache, which costs more than the slot itself. The one that is partly filled
/// is then at most a fifth of what is resident.
const HUGE_AFTER: usize = 4;

impl Slots {
    /// Room for `capacity` tasks, above the `generations` of a predecessor.
    pub(crate) fn new(capacity: u32, generations: Generations) -> io::Result<Self> {
        let capacity = capacity.clamp(1, Addr::MAX_SLOTS);
        // Whole segments, since they come and go as a whole, and one more to
        // begin at a huge page's border.
        let used_up = generations.iter().filter(|&&next| is_used_up(next)).count();
        let segments = capacity.div_ceil(SEGMENT_SLOTS) + EXTRA_SEGMENTS + used_up as u32;
        let segments = segments.min(Addr::MAX_SLOTS / SEGMENT_SLOTS);
        let reserve = Reserve::closed((segments as usize + 1) * SEGMENT_BYTES)?;
        let offset = reserve.base().align_offset(SEGMENT_BYTES);
        Ok(Self {
            base: reserve.base().wrapping_add(offset).cast(),
            capacity: Cell::new(capacity),
            opened: Cell::new(0),
            book: NoParkCell::new(Book {
                reserve,
                offset,
                most: segments,
                segments: Vec::new(),
                open: Vec::new(),
                spare: 0,
                live: 0,
                generations,
            }),
        })
    }

    /// The slot of this number, whatever its state.
    #[inline(always)]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        debug_assert!(index < self.opened.get());
        // SAFETY: inside the open part of the reserve (numbers come from `alloc`, addresses are
        // checked by `find`); any bytes there, zero ones too, are a `Slot`
        // (I2), and only this thread touches them.
        unsafe { &*self.base.add(index as usize) }
    }

    /// The number of a slot of ours.
    #[inline(always)]
    pub(crate) fn index(&self, slot: *const Slot) -> u32 {
        ((slot.addr() - self.base.addr()) / size_of::<Slot>()) as u32
    }

    /// The number of the slot that lies there, if one does.
    pub(crate) fn find_address(&self, address: usize) -> Option<u32> {
        let offset = address.checked_sub(self.base.addr())?;
        let index = u32::try_from(offset / size_of::<Slot>()).ok()?;
        let is_one = offset % size_of::<Slot>() == 0 && index < self.opened.get();
        is_one.then_some(index)
    }

    /// The live slot behind an address, unless it is stale.
    #[inline(always)]
    pub(crate) fn find(&self, addr: Addr) -> Option<(u32, &Slot)> {
        let index = addr.slot();
        if index >= self.opened.get() {
            return None;
        }
        let slot = self.slot(index);
        let same = slot.generation() == addr.generation();
        (slot.state() != TaskState::Free && same).then_some((index, slot))
    }

    /// Tasks alive.
    pub(crate) fn live(&self) -> u32 {
        self.book.borrow().live
    }

    /// Whether another task can be alive.
    pub(crate) fn has_room(&self) -> bool {
        self.live() < self.capacity()
    }

    /// The most tasks that can be alive.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity.get()
    }

    /// Takes a free slot and makes it New; `None` when all are taken.
    #[inline]
    pub(crate) fn alloc(&self) -> Option<u32> {
        let mut book = self.book.borrow_mut();
        if book.live >= self.capacity() {
            return None;
        }
        let number = match book.open.last() {
            Some(&number) => number,
            None => self.open_segment(&mut book)?,
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
            (first + segment.fresh - 1, segment.first_generation)
        };
        if segment.free == 0 && segment.fresh == SEGMENT_SLOTS {
            segment.open = false;
            book.open.pop();
        }
        self.slot(index).make_new(generation);
        Some(index)
    }

    /// Makes room in a segment. If there is no memory for one, what there is has to do.
    #[cold]
    fn open_segment(&self, book: &mut Book) -> Option<u32> {
        let opened = book.open_segment();
        let slots = book.segments.len() as u32 * SEGMENT_SLOTS;
        self.opened.set(slots);
        opened
            .inspect_err(|error| {
                report(format_args!(
                    "a worker has no room for more than {slots} coroutines: {error}"
                ));
                self.capacity.set(slots.min(self.capacity()));
            })
            .ok()?
    }

    /// Ends the task in this slot: its address is stale from here on.
    #[inline]
    pub(crate) fn free(&self, index: u32) {
        let mut book = self.book.borrow_mut();
        let slot = self.slot(index);
        let generation = slot.generation() + 1;
        book.live -= 1;
        let number = index / SEGMENT_SLOTS;
        let segment = &mut book.segments[number as usize];
        slot.make_free(generation, segment.free);
        segment.next_generation = segment.next_generation.max(generation);
        segment.live -= 1;
        if is_used_up(generation) {
            return;
        }
        segment.free = index % SEGMENT_SLOTS + 1;
        if !segment.open {
            segment.open = true;
            book.open.push(number);
        } else if segment.live == 0 && book.open.len() > 1 {
            book.emptied(number);
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

    /// Calls `each` with the live ones until it says `false`. For signal handlers: it
    /// takes no memory, and none if it has interrupted a change of what there is.
    pub(crate) fn try_each_live(&self, mut each: impl FnMut(&Slot) -> bool) {
        let Ok(book) = self.book.try_borrow() else {
            return;
        };
        let segments = book.segments.iter().enumerate();
        let mut numbers = segments.flat_map(|(segment, s)| {
            let first = segment as u32 * SEGMENT_SLOTS;
            first..first + s.fresh
        });
        let mut see = |slot: &Slot| slot.state() == TaskState::Free || each(slot);
        let _ = numbers.all(|number| see(self.slot(number)));
    }

    /// Calls `each` with slots, live and free ones, from this number on, until it says
    /// `false`. The number to go on from; `None` after the last.
    pub(crate) fn each_from(&self, from: u32, mut each: impl FnMut(&Slot) -> bool) -> Option<u32> {
        let book = self.book.borrow();
        let skipped = from / SEGMENT_SLOTS;
        for (number, segment) in (skipped..).zip(book.segments.iter().skip(skipped as usize)) {
            let first = number * SEGMENT_SLOTS;
            for index in first.max(from)..first + segment.fresh {
                if !each(self.slot(index)) {
                    return Some(index + 1);
                }
            }
        }
        None
    }

    /// What a successor's slots must start from.
    pub(crate) fn generations(&self) -> Generations {
        let book = self.book.borrow();
        // A slot that is live may have `next_generation`.
        let ours = book.segments.iter().map(|s| s.next_generation + 1);
        let others = book.generations.iter().skip(book.segments.len()).copied();
        ours.chain(others).collect()
    }
}

/// Whether no address can have this generation, or one above.
#[inline(always)]
fn is_used_up(generation: u32) -> bool {
    generation > Addr::LAST_GENERATION
}

impl Book {
    /// Makes room in a segment that was given back, else in a new one; `None` if all
    /// are full.
    ///
    /// # Errors
    ///
    /// As [`Reserve::open`].
    fn open_segment(&mut self) -> io::Result<Option<u32>> {
        let number = loop {
            let fit = |s: &Segment| s.live == 0 && !s.open && !is_used_up(s.next_generation);
            if let Some(number) = self.segments.iter().position(fit) {
                break number;
            }
            if self.segments.len() as u32 >= self.most {
                return Ok(None);
            }
            self.add_segment()?;
        };
        self.segments[number].open = true;
        self.open.push(number as u32);
        Ok(Some(number as u32))
    }

    fn add_segment(&mut self) -> io::Result<()> {
        let number = self.segments.len();
        self.reserve.open(self.offset(number + 1))?;
        let first_generation = self.generations.get(number).copied().unwrap_or(0);
        self.segments.push(Segment {
            first_generation,
            next_generation: first_generation,
            ..Segment::default()
        });
        if number >= HUGE_AFTER {
            let offset = self.offset(number);
            self.reserve.prefer_huge(offset, SEGMENT_BYTES);
        }
        Ok(())
    }

    /// A segment is empty, and another one has room. The first of them keeps its
    /// memory, so that none comes and goes while the number of tasks wavers about a
    /// border.
    #[cold]
    fn emptied(&mut self, number: u32) {
        let spare = &self.segments[self.spare as usize];
        if self.spare != number && spare.open && spare.live == 0 {
            self.close_empty(number);
        } else {
            self.spare = number;
        }
    }

    /// Gives an empty segment's memory back, unless that knows which of its slots have
    /// used up their generations.
    fn close_empty(&mut self, number: u32) {
        if is_used_up(self.segments[number as usize].next_generation) {
            return;
        }
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
        segment.first_generation = segment.next_generation;
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

    /// Room for so many segments, whose generations start there.
    fn slots(segments: u32, first_generation: u32) -> Slots {
        let generations = vec![first_generation; segments as usize];
        Slots::new(segments * SEGMENT_SLOTS, generations).unwrap()
    }

    fn resident(slots: &Slots, segment: u32) -> usize {
        let book = slots.book.borrow();
        let offset = book.offset(segment as usize);
        book.reserve.resident_pages(offset, SEGMENT_BYTES)
    }

    #[test]
    fn the_capacity_may_end_inside_a_segment() {
        let slots = Slots::new(SEGMENT_SLOTS + 1000, vec![3, 3]).unwrap();
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
        let slots = Slots::new(10, Vec::new()).unwrap();
        let last = slots.book.borrow().most * SEGMENT_SLOTS - 1;
        let beyond = [0, 20, last, last + 1, Addr::MAX_SLOTS - 1];
        let found = |&slot: &u32| slots.find(Addr::new(1, 0, slot)).is_some();
        assert!(!beyond.iter().any(found));
    }

    #[test]
    fn stale_addresses_are_never_found() {
        stale_addresses_from(5);
        // As in untouched memory.
        stale_addresses_from(0);
    }

    fn stale_addresses_from(first_generation: u32) {
        let slots = slots(3, first_generation);
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
        let slots = slots(3, 0);
        let full: Vec<u32> = (0..SEGMENT_SLOTS).map(|_| slots.alloc().unwrap()).collect();
        // Of the second segment one slot ages, and one that has not ends last.
        let [young, old] = [(); 2].map(|()| slots.alloc().unwrap());
        let stale: Vec<Addr> = (0..5)
            .map(|_| {
                let gone = addr(&slots, old);
                slots.free(old);
                assert_eq!(slots.alloc(), Some(old));
                gone
            })
            .collect();
        slots.free(old);
        // With room elsewhere, and a spare, its memory goes, and the generations with it.
        full.iter().for_each(|&index| slots.free(index));
        slots.free(young);
        assert_eq!(slots.slot(old).generation(), 0);
        while slots.alloc() != Some(old) {}
        assert!(stale.iter().all(|&gone| slots.find(gone).is_none()));
    }

    #[test]
    fn an_emptied_segment_starts_above_its_old_generations() {
        let slots = slots(2, 0);
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
        assert!(slots.generations().iter().all(|&next| next > 1));
    }

    /// One empty segment is kept, so that a number of tasks that wavers about a border
    /// moves no memory; a second one is given back.
    #[test]
    fn one_empty_segment_keeps_its_memory() {
        let slots = slots(3, 0);
        let mut all: Vec<u32> = (0..SEGMENT_SLOTS).map(|_| slots.alloc().unwrap()).collect();
        for round in 0..10 {
            let beyond = slots.alloc().unwrap();
            let inside = all.pop().unwrap();
            slots.free(inside);
            slots.free(beyond);
            assert_eq!(resident(&slots, 1), 1, "round {round}");
            all.push(slots.alloc().unwrap());
        }
        all.extend((0..2 * SEGMENT_SLOTS).map(|_| slots.alloc().unwrap()));
        all.drain(..).for_each(|index| slots.free(index));
        let kept = [0, 1, 2].map(|segment| resident(&slots, segment) > 0);
        assert_eq!(kept.iter().filter(|&&kept| kept).count(), 2, "{kept:?}");
    }

    /// A slot's last generation: no address of it comes again, and others take over.
    #[test]
    fn a_slot_that_has_used_up_its_generations_is_not_used_again() {
        let slots = slots(1, Addr::LAST_GENERATION - 2);
        let hot = slots.alloc().unwrap();
        let mut stale = Vec::new();
        for generation in Addr::LAST_GENERATION - 2..=Addr::LAST_GENERATION {
            stale.push(addr(&slots, hot));
            assert_eq!(slots.slot(hot).generation(), generation);
            slots.free(hot);
            if generation < Addr::LAST_GENERATION {
                assert_eq!(slots.alloc(), Some(hot));
            }
        }
        let next = slots.alloc().unwrap();
        assert_ne!(next, hot);
        assert_eq!(slots.slot(next).generation(), Addr::LAST_GENERATION - 2);
        assert!(stale.iter().all(|&gone| slots.find(gone).is_none()));
        assert!(
            slots.find(Addr::new(1, 0, hot)).is_none(),
            "not by wrapping either"
        );
        assert_eq!(
            slots.find(addr(&slots, next)).map(|found| found.0),
            Some(next)
        );
    }

    /// All of a segment's slots are used up: another one has the capacity, here and in
    /// a successor.
    #[test]
    fn a_segment_that_is_used_up_has_a_successor() {
        let slots = slots(1, Addr::LAST_GENERATION);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2 * SEGMENT_SLOTS {
            let index = slots.alloc().expect("the capacity is not used up");
            assert!(seen.insert(addr(&slots, index)), "an address came twice");
            slots.free(index);
        }
        let heirs = Slots::new(SEGMENT_SLOTS, slots.generations()).unwrap();
        for _ in 0..2 * SEGMENT_SLOTS {
            let index = heirs.alloc().expect("the capacity is not used up");
            assert!(seen.insert(addr(&heirs, index)), "an address came twice");
            heirs.free(index);
        }
        assert_eq!((slots.live(), heirs.live()), (0, 0));
    }

    /// Segments that are not used by one owner are not forgotten for the next.
    #[test]
    fn generations_are_handed_on() {
        let few = Slots::new(10, vec![7, 9, Addr::LAST_GENERATION + 1]).unwrap();
        assert_eq!(few.generations(), [7, 9, Addr::LAST_GENERATION + 1]);
        few.alloc().unwrap();
        assert_eq!(few.generations(), [8, 9, Addr::LAST_GENERATION + 1]);
    }
}
