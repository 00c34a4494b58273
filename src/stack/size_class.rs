//! A size class: the slab of all stacks of one size, which of them are in use,
//! and their memory.
//!
//! The life of a stack:
//!
//! ```text
//!   new ---> in use <---> warm (last in, first out; bytes kept)
//!              | ^ ^        | nobody needed it for a period
//!              | | '----- cooling
//!              | |          | in batches
//!              | '------- cold (memory given back)
//!              '--------> abandoned, for ever
//! ```
//!
//! Only warm, cooling, cold and abandoned stacks are listed or counted; those below
//! `fresh` that are none of these are in use.
//!
//! A class that is tended keeps all that come back warm, so that a burst as large as the
//! last one finds them all. Of the warm ones the lowest in the list were not touched for
//! a period, as many as were there when there were the fewest; at its end they cool, but
//! for those that are kept for good.

use std::io;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroUsize;

use super::guard::{GuardMaker, Registered};
use super::{ArenaConfig, Kept, MAX_STACKS, StackBounds, peek};
use crate::sys::mem::{PAGE, Reserve};
use crate::sys::valgrind;

/// Cache colouring: the tops of neighbouring stacks are staggered by a cache
/// line, this many in a turn. All tops at the same offset of a page would compete for one set of a
/// first-level cache (64 sets of 64 bytes are one page) and for a sixty-fourth
/// of the second level. With 32 the live frames of parked coroutines, three
/// to five lines each, reach nearly all sets, and no stack loses more than
/// half of its first page, so that small frames still cost one page.
///
/// Measured, touching five lines of each of 64 stacks in turn, ns a stack:
/// 1 colour 9.4, 8: 8.1, 16: 4.6, 32: 2.6, 64: 2.7. With 1 000 stacks 16.6,
/// 9.9, 5.6, 5.5, 5.5.
const COLOURS: usize = 32;

/// Bytes from one colour to the next.
const CACHE_LINE: usize = 64;

/// Address space that one class takes at most: x86_64 has 128 TiB in all.
const MAX_ADDRESS_SPACE: usize = 1 << 40;

/// With fewer stacks than this a class is not worth having.
const FEWEST_STACKS: usize = 16;

/// Bytes of a guard below `size` usable ones: whole pages, as many as asked for, and
/// one more where the tops of all stacks would otherwise lie an even number of pages
/// apart. They would compete for a part of the processor's page cache.
fn guard_bytes(size: usize, asked: usize) -> usize {
    let guard = asked.max(1).next_multiple_of(PAGE);
    guard + (size + guard + PAGE) / PAGE % 2 * PAGE
}

#[derive(Debug)]
pub(super) struct SizeClass {
    /// Dropped before `reserve`: while the fault handler finds an address in
    /// its table, the address is that of a stack. Both are dropped only if no stack is in use.
    registered: ManuallyDrop<Registered>,
    reserve: ManuallyDrop<Reserve>,
    /// Those that were used; they end with the reserve.
    known: ManuallyDrop<valgrind::RegisteredStacks>,
    /// Usable bytes of each.
    size: usize,
    /// Bytes of the guard below each.
    guard: usize,
    /// Of the lowest stack: its lowest usable byte, and its base but for its
    /// colour.
    ends: (usize, usize),
    /// How many there can be.
    max: u32,
    /// The lowest stack that was never used; all below have their guard.
    fresh: u32,
    abandoned: u32,
    warm: Vec<u32>,
    /// The fewest warm ones in this period, or fewer.
    unneeded: usize,
    cooling: Vec<u32>,
    cold: Vec<u32>,
    /// How many stay warm for good.
    keep_warm: usize,
    /// How many there is room for among the warm ones.
    warm_room: usize,
    /// Whether each that comes back is measured, and what was seen of the last.
    measures: bool,
    measured: Option<usize>,
}

/// So many go cold together: about a tenth of a millisecond.
const COOLED_TOGETHER: usize = 512;

impl SizeClass {
    /// Reserves room for `max_stacks` (1 to [`MAX_STACKS`]) stacks of `size`
    /// bytes, or for as many as the system lets us.
    pub(super) fn new(size: usize, config: &ArenaConfig) -> io::Result<Self> {
        let guard = guard_bytes(size, config.guard_bytes);
        let stride = size + guard;
        debug_assert!((1..=MAX_STACKS).contains(&config.max_stacks));
        debug_assert!(config.headroom <= 1024 && config.headroom % CACHE_LINE == 0);
        let mut max = config.max_stacks.min(MAX_ADDRESS_SPACE / stride);
        let reserve = loop {
            match Reserve::closed(max * stride) {
                Ok(reserve) => break reserve,
                Err(error) if max <= FEWEST_STACKS => return Err(error),
                // The rest is for others.
                Err(_) => max /= 4,
            }
        };
        // A huge page under a stack would turn its first touch into 2 MiB.
        reserve.forbid_huge(0, reserve.len());
        let first = reserve.base().addr();
        let registered = Registered::new(first, reserve.len(), stride, guard);
        Ok(Self {
            registered: ManuallyDrop::new(registered),
            reserve: ManuallyDrop::new(reserve),
            known: ManuallyDrop::default(),
            size,
            guard,
            ends: (first + guard, first + stride - config.headroom),
            max: max as u32,
            fresh: 0,
            abandoned: 0,
            warm: Vec::new(),
            unneeded: 0,
            cooling: Vec::new(),
            cold: Vec::new(),
            keep_warm: config.keep_warm,
            warm_room: match config.tended {
                _ if config.measured => 0,
                true => usize::MAX,
                false => config.keep_warm,
            },
            measures: config.measured,
            measured: None,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub(super) fn take_warm(&mut self) -> Option<u32> {
        match self.warm.pop() {
            None => self.cooling.pop(),
            index => {
                self.unneeded = self.unneeded.min(self.warm.len());
                index
            }
        }
    }

    /// Where the `nth` stack lies that [`SizeClass::take_warm`] will give.
    #[inline]
    pub(super) fn warm_bounds(&self, nth: usize) -> Option<StackBounds> {
        let at = self.warm.len().checked_sub(nth + 1)?;
        Some(self.bounds(self.warm[at]))
    }

    /// A stack whose bytes are unspecified; `None` if all are taken.
    ///
    /// # Errors
    ///
    /// A new stack can't be opened, or its guard not be made.
    pub(super) fn take_fresh(&mut self, guards: &mut GuardMaker) -> io::Result<Option<u32>> {
        if let Some(index) = self.cold.pop() {
            return Ok(Some(index));
        }
        if self.fresh == self.max {
            return Ok(None);
        }
        let index = self.fresh;
        let offset = self.offset(index);
        self.reserve.open(offset + self.guard + self.size)?;
        // SAFETY: the stack is new, nobody has seen its addresses.
        unsafe { guards.make(&self.reserve, offset, self.guard) }?;
        self.fresh += 1;
        let low = self.reserve.base().addr() + offset + self.guard;
        self.known.add(low, self.size);
        Ok(Some(index))
    }

    /// # Safety
    ///
    /// - `index` was taken from here, and not given back or abandoned since.
    /// - Nobody uses its memory any more.
    #[inline]
    pub(super) unsafe fn give(&mut self, index: u32) -> Kept {
        debug_assert!(index < self.fresh && self.in_use() > 0);
        if self.warm.len() < self.warm_room {
            self.warm.push(index);
            return Kept::Warm;
        }
        if self.measures {
            self.measured = Some(self.used(index));
        }
        // SAFETY: forwarded.
        unsafe { self.cool(&mut [index]) };
        Kept::Cold
    }

    /// Whether there are more warm ones than are kept for good.
    #[inline]
    pub(super) fn has_spare(&self) -> bool {
        self.warm.len() > self.keep_warm || self.is_cooling()
    }

    /// A period is over: those that nobody needed in it begin to cool.
    pub(super) fn end_period(&mut self) {
        let above = self.warm.len().saturating_sub(self.keep_warm);
        let spare = self.unneeded.min(above);
        self.cooling.extend(self.warm.drain(..spare));
        self.unneeded = self.warm.len();
    }

    #[inline]
    pub(super) fn is_cooling(&self) -> bool {
        !self.cooling.is_empty()
    }

    /// Some of those that cool go cold.
    pub(super) fn cool_some(&mut self) {
        let rest = self.cooling.len().saturating_sub(COOLED_TOGETHER);
        let mut some = self.cooling.split_off(rest);
        // SAFETY: nobody uses what cools, and it is not handed out before it is cold.
        unsafe { self.cool(&mut some) };
        if rest == 0 {
            // A spike's memory.
            self.cooling = Vec::new();
            self.warm.shrink_to(2 * self.warm.len());
        }
    }

    /// Gives the memory of stacks back: neighbours together, since their guards stay
    /// guards.
    ///
    /// # Safety
    ///
    /// As for [`SizeClass::give`], of each.
    #[cold]
    unsafe fn cool(&mut self, stacks: &mut [u32]) {
        stacks.sort_unstable();
        debug_assert!(stacks.last().is_none_or(|&last| last < self.fresh));
        let runs = stacks.chunk_by(|one, next| one + 1 == *next);
        let ranges = runs.map(|run| {
            let low = self.offset(run[0]) + self.guard;
            (low, self.offset(run[run.len() - 1] + 1) - low)
        });
        // SAFETY: the caller gives the stacks up. Of what lies between nobody needs the
        // bytes: it is guards.
        unsafe { self.reserve.release_all(ranges) };
        self.cold.extend_from_slice(stacks);
    }

    pub(super) fn abandon(&mut self, index: u32) {
        debug_assert!(index < self.fresh && self.in_use() > 0);
        self.abandoned += 1;
    }

    #[inline]
    pub(super) fn bounds(&self, index: u32) -> StackBounds {
        debug_assert!(index < self.fresh);
        let (offset, (limit, base)) = (self.offset(index), self.ends);
        let (limit, base) = (
            limit + offset,
            base + offset - index as usize % COLOURS * CACHE_LINE,
        );
        // SAFETY: both lie above the first byte of a mapping, which is not at
        // zero, and below its end, so that no sum has wrapped.
        unsafe {
            StackBounds {
                base: NonZeroUsize::new_unchecked(base),
                limit: NonZeroUsize::new_unchecked(limit),
            }
        }
    }

    /// Makes a stack inaccessible, but for its guard, or accessible again.
    ///
    /// # Safety
    ///
    /// - `index` is in use.
    /// - When `accessible` is false: nobody uses its memory until it is true
    ///   again.
    pub(super) unsafe fn set_accessible(&self, index: u32, accessible: bool) -> io::Result<()> {
        debug_assert!(index < self.fresh && self.in_use() > 0);
        let offset = self.offset(index) + self.guard;
        // SAFETY: the stack above its guard lies in the reserve; the rest is
        // forwarded.
        unsafe { self.reserve.set_accessible(offset, self.size, accessible) }
    }

    /// The whole pages of a stack in use below an address in it.
    fn pages_below(&self, index: u32, address: usize) -> (usize, usize) {
        let low = self.offset(index) + self.guard;
        let end = (address - self.reserve.base().addr()) / PAGE * PAGE;
        debug_assert!((low..=low + self.size).contains(&end));
        (low, end - low)
    }

    /// How many of those are in memory.
    pub(super) fn resident_below(&self, index: u32, address: usize) -> usize {
        let (low, len) = self.pages_below(index, address);
        self.reserve.resident_pages(low, len)
    }

    /// Gives the memory of those back, of each stack given with an address.
    ///
    /// # Safety
    ///
    /// - Each stack is in use, and nobody needs what lies below its address.
    pub(super) unsafe fn release_below(&self, stacks: impl Iterator<Item = (u32, usize)>) {
        let ranges = stacks.map(|(index, address)| self.pages_below(index, address));
        // SAFETY: forwarded.
        unsafe { self.reserve.release_all(ranges) };
    }

    /// How much was used of the stack that came back last.
    pub(super) fn take_measured(&mut self) -> Option<usize> {
        self.measured.take()
    }

    /// Bytes that the user of a stack which was new has used of it: down to the lowest that
    /// is not zero.
    #[cold]
    fn used(&self, index: u32) -> usize {
        const WORD: usize = size_of::<usize>();
        let low = self.offset(index) + self.guard;
        let bounds = self.bounds(index);
        let Some(first) = self.reserve.first_resident(low, self.size) else {
            return 0;
        };
        let mut at = self.reserve.base().addr() + first;
        let mut page = [0; PAGE / WORD];
        while at < bounds.base.get() {
            // SAFETY: a page of a stack that is in use, or was until now; its user does
            // not run.
            unsafe { peek(at, &mut page) };
            if let Some(word) = page.iter().position(|&word| word != 0) {
                return bounds.base.get().saturating_sub(at + word * WORD);
            }
            at += PAGE;
        }
        0
    }

    /// Where the guard of `index` begins.
    #[inline]
    fn offset(&self, index: u32) -> usize {
        index as usize * (self.size + self.guard)
    }

    pub(super) fn in_use(&self) -> usize {
        self.fresh as usize - self.warm() - self.cold.len() - self.abandoned as usize
    }

    /// Those that cool are warm until they are cold.
    pub(super) fn warm(&self) -> usize {
        self.warm.len() + self.cooling.len()
    }

    pub(super) fn cold(&self) -> usize {
        self.cold.len()
    }

    pub(super) fn abandoned(&self) -> usize {
        self.abandoned as usize
    }

    /// How many stacks there can be.
    pub(super) fn max(&self) -> usize {
        self.max as usize
    }

    pub(super) fn address_space(&self) -> usize {
        self.reserve.len()
    }

    #[cfg(test)]
    pub(super) fn resident_pages(&self, index: u32) -> usize {
        self.reserve
            .resident_pages(self.offset(index) + self.guard, self.size)
    }
}

impl Drop for SizeClass {
    fn drop(&mut self) {
        // Frames lie on every stack that is in use or abandoned, and there may
        // be pointers to them: then memory and guards stay for ever (I6).
        if self.in_use() == 0 && self.abandoned == 0 {
            // SAFETY: dropped here once, and not used after; no frames lie there
            // that are owed their memory (I6).
            unsafe {
                ManuallyDrop::drop(&mut self.registered);
                ManuallyDrop::drop(&mut self.known);
                ManuallyDrop::drop(&mut self.reserve);
            }
            return;
        }
        let mut unused = mem::take(&mut self.warm);
        unused.append(&mut self.cooling);
        // SAFETY: nobody uses a warm stack, and it is not handed out again.
        unsafe { self.cool(&mut unused) };
    }
}
