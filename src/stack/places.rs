//! All stacks of one size: which places were used, which are free, and the
//! memory they lie in.
//!
//! The life of a place:
//!
//! ```text
//!   new ---> in use <---> warm (last in, first out; bytes kept)
//!              | ^ '----> cold (memory given back) ---.
//!              | '------------------------------------'
//!              '--------> abandoned, for ever
//! ```
//!
//! Only warm, cold and abandoned places are listed or counted; places below
//! `fresh` that are none of these are in use.

use std::io;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroUsize;

use super::arena::ArenaConfig;
use super::guard::{GuardMaker, Registered};
use super::{GUARD, Kept, MAX_PLACES, StackBounds};
use crate::sys::mem::Reserve;
use crate::sys::valgrind;

/// Tops of neighbouring places are staggered by a cache line, this many in a
/// turn. All tops at the same offset of a page would compete for one set of a
/// first-level cache (64 sets of 64 bytes are one page) and for a sixty-fourth
/// of the second level. With 32 the live frames of parked coroutines, three
/// to five lines each, reach nearly all sets, and no stack loses more than
/// half of its first page, so that small frames still cost one page.
///
/// Measured, touching five lines of each of 64 stacks in turn, ns a stack:
/// 1 colour 9.4, 8: 8.1, 16: 4.6, 32: 2.6, 64: 2.7. With 1 000 stacks 16.6,
/// 9.9, 5.6, 5.5, 5.5.
const COLOURS: usize = 32;

/// Bytes of one step of colour.
const CACHE_LINE: usize = 64;

/// Address space that one class takes at most: x86_64 has 128 TiB in all.
const MAX_ADDRESS_SPACE: usize = 1 << 40;

/// With fewer places than this a class is not worth having.
const FEWEST_PLACES: usize = 16;

#[derive(Debug)]
pub(super) struct Places {
    /// Dropped before `reserve`: while an address can be found in the table
    /// it belongs to us. Both are dropped only if no stack is in use.
    registered: ManuallyDrop<Registered>,
    reserve: ManuallyDrop<Reserve>,
    /// Those that were used; they end with the reserve.
    known: ManuallyDrop<valgrind::Stacks>,
    /// Usable bytes of each.
    size: usize,
    /// Of the lowest place: its lowest usable byte, and where it begins but for
    /// its colour.
    ends: (usize, usize),
    /// How many there can be.
    max: u32,
    /// The lowest place that was never used; all below have their guard.
    fresh: u32,
    abandoned: u32,
    warm: Vec<u32>,
    cold: Vec<u32>,
    keep_warm: usize,
}

impl Places {
    /// Reserves room for `max_stacks` (1 to [`MAX_PLACES`]) stacks of `size`
    /// bytes, or for as many as the system lets us.
    pub(super) fn new(size: usize, config: &ArenaConfig) -> io::Result<Self> {
        let stride = size + GUARD;
        debug_assert!((1..=MAX_PLACES).contains(&config.max_stacks));
        debug_assert!(config.headroom <= 1024 && config.headroom % CACHE_LINE == 0);
        let mut max = config.max_stacks.min(MAX_ADDRESS_SPACE / stride);
        let reserve = loop {
            match Reserve::new(max * stride) {
                Ok(reserve) => break reserve,
                Err(error) if max <= FEWEST_PLACES => return Err(error),
                Err(_) => max /= 2,
            }
        };
        // A huge page under a stack would turn its first touch into 2 MiB.
        reserve.forbid_huge(0, reserve.len());
        let first = reserve.base().addr();
        let registered = Registered::new(first, reserve.len(), stride);
        Ok(Self {
            registered: ManuallyDrop::new(registered),
            reserve: ManuallyDrop::new(reserve),
            known: ManuallyDrop::default(),
            size,
            ends: (first + GUARD, first + stride - config.headroom),
            max: max as u32,
            fresh: 0,
            abandoned: 0,
            warm: Vec::new(),
            cold: Vec::new(),
            keep_warm: config.keep_warm,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[inline]
    pub(super) fn take_warm(&mut self) -> Option<u32> {
        self.warm.pop()
    }

    /// A place whose bytes nobody kept; `None` if all are taken.
    ///
    /// # Errors
    ///
    /// The guard of a new place can't be made.
    pub(super) fn take_fresh(&mut self, guards: &mut GuardMaker) -> io::Result<Option<u32>> {
        if let Some(place) = self.cold.pop() {
            return Ok(Some(place));
        }
        if self.fresh == self.max {
            return Ok(None);
        }
        let place = self.fresh;
        // SAFETY: the place is new, nobody has seen its addresses.
        unsafe { guards.make(&self.reserve, self.offset(place)) }?;
        self.fresh += 1;
        let low = self.reserve.base().addr() + self.offset(place) + GUARD;
        self.known.add(low, self.size);
        Ok(Some(place))
    }

    /// # Safety
    ///
    /// - `place` was taken from here, and not given back or abandoned since.
    /// - Nobody uses its memory any more.
    #[inline]
    pub(super) unsafe fn give(&mut self, place: u32) -> Kept {
        debug_assert!(place < self.fresh && self.in_use() > 0);
        if self.warm.len() < self.keep_warm {
            self.warm.push(place);
            return Kept::Warm;
        }
        // SAFETY: forwarded.
        unsafe { self.cool(place) }
    }

    /// # Safety
    ///
    /// As for [`Places::give`].
    #[cold]
    unsafe fn cool(&mut self, place: u32) -> Kept {
        // Fails on memory locked by `mlockall` only, which stays resident by
        // its owner's wish. Nobody relies on the bytes of a cold stack.
        // SAFETY: a place that nobody uses.
        let _ = unsafe { self.reserve.release(self.offset(place) + GUARD, self.size) };
        self.cold.push(place);
        Kept::Cold
    }

    pub(super) fn abandon(&mut self, place: u32) {
        debug_assert!(place < self.fresh && self.in_use() > 0);
        self.abandoned += 1;
    }

    #[inline]
    pub(super) fn bounds(&self, place: u32) -> StackBounds {
        debug_assert!(place < self.fresh);
        let (offset, (limit, base)) = (self.offset(place), self.ends);
        let (limit, base) = (
            limit + offset,
            base + offset - place as usize % COLOURS * CACHE_LINE,
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

    /// Closes a place to every access, or opens it again.
    ///
    /// # Safety
    ///
    /// - `place` is in use, and when closing: nobody may use its memory.
    pub(super) unsafe fn set_open(&self, place: u32, open: bool) -> io::Result<()> {
        let offset = self.offset(place) + GUARD;
        // SAFETY: forwarded.
        unsafe { self.reserve.set_accessible(offset, self.size, open) }
    }

    /// Where the guard of `place` begins.
    #[inline]
    fn offset(&self, place: u32) -> usize {
        place as usize * (self.size + GUARD)
    }

    pub(super) fn in_use(&self) -> usize {
        self.fresh as usize - self.warm.len() - self.cold.len() - self.abandoned as usize
    }

    pub(super) fn warm(&self) -> usize {
        self.warm.len()
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
    pub(super) fn resident_pages(&self, place: u32) -> usize {
        self.reserve
            .resident_pages(self.offset(place) + GUARD, self.size)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // Frames lie on every stack that is in use or abandoned, and somebody
        // may still point at them: then memory and guards stay for ever.
        if self.in_use() == 0 && self.abandoned == 0 {
            // SAFETY: dropped here once, and not used after.
            unsafe {
                ManuallyDrop::drop(&mut self.registered);
                ManuallyDrop::drop(&mut self.known);
                ManuallyDrop::drop(&mut self.reserve);
            }
            return;
        }
        for place in mem::take(&mut self.warm) {
            // SAFETY: nobody uses a warm stack, and it is not handed out again.
            let _ = unsafe { self.cool(place) };
        }
    }
}
