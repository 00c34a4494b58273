//! A size class: the slab of all stacks of one size, which of them are in use,
//! and their memory.
//!
//! The life of a stack:
//!
//! ```text
//!   new ---> in use <---> warm (last in, first out; bytes kept)
//!              | ^ '----> cold (memory given back) ---.
//!              | '------------------------------------'
//!              '--------> abandoned, for ever
//! ```
//!
//! Only warm, cold and abandoned stacks are listed or counted; those below
//! `fresh` that are none of these are in use.

use std::io;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroUsize;

use super::guard::{GuardMaker, Registered};
use super::{ArenaConfig, GUARD, Kept, MAX_STACKS, StackBounds};
use crate::sys::mem::Reserve;
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
    /// Of the lowest stack: its lowest usable byte, and its base but for its
    /// colour.
    ends: (usize, usize),
    /// How many there can be.
    max: u32,
    /// The lowest stack that was never used; all below have their guard.
    fresh: u32,
    abandoned: u32,
    warm: Vec<u32>,
    cold: Vec<u32>,
    keep_warm: usize,
}

impl SizeClass {
    /// Reserves room for `max_stacks` (1 to [`MAX_STACKS`]) stacks of `size`
    /// bytes, or for as many as the system lets us.
    pub(super) fn new(size: usize, config: &ArenaConfig) -> io::Result<Self> {
        let stride = size + GUARD;
        debug_assert!((1..=MAX_STACKS).contains(&config.max_stacks));
        debug_assert!(config.headroom <= 1024 && config.headroom % CACHE_LINE == 0);
        let mut max = config.max_stacks.min(MAX_ADDRESS_SPACE / stride);
        let reserve = loop {
            match Reserve::new(max * stride) {
                Ok(reserve) => break reserve,
                Err(error) if max <= FEWEST_STACKS => return Err(error),
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

    /// A stack whose bytes are unspecified; `None` if all are taken.
    ///
    /// # Errors
    ///
    /// The guard of a new stack can't be made.
    pub(super) fn take_fresh(&mut self, guards: &mut GuardMaker) -> io::Result<Option<u32>> {
        if let Some(index) = self.cold.pop() {
            return Ok(Some(index));
        }
        if self.fresh == self.max {
            return Ok(None);
        }
        let index = self.fresh;
        // SAFETY: the stack is new, nobody has seen its addresses.
        unsafe { guards.make(&self.reserve, self.offset(index)) }?;
        self.fresh += 1;
        let low = self.reserve.base().addr() + self.offset(index) + GUARD;
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
        if self.warm.len() < self.keep_warm {
            self.warm.push(index);
            return Kept::Warm;
        }
        // SAFETY: forwarded.
        unsafe { self.cool(index) }
    }

    /// # Safety
    ///
    /// As for [`SizeClass::give`].
    #[cold]
    unsafe fn cool(&mut self, index: u32) -> Kept {
        debug_assert!(index < self.fresh);
        // Fails on memory locked by `mlockall` only, which stays resident by
        // its owner's wish. Nobody relies on the bytes of a cold stack.
        // SAFETY: the caller gives the stack up, which lies above the guard.
        let _ = unsafe { self.reserve.release(self.offset(index) + GUARD, self.size) };
        self.cold.push(index);
        Kept::Cold
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
        let offset = self.offset(index) + GUARD;
        // SAFETY: the stack above its guard lies in the reserve; the rest is
        // forwarded.
        unsafe { self.reserve.set_accessible(offset, self.size, accessible) }
    }

    /// Where the guard of `index` begins.
    #[inline]
    fn offset(&self, index: u32) -> usize {
        index as usize * (self.size + GUARD)
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
    pub(super) fn resident_pages(&self, index: u32) -> usize {
        self.reserve
            .resident_pages(self.offset(index) + GUARD, self.size)
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
        for index in mem::take(&mut self.warm) {
            // SAFETY: nobody uses a warm stack, and it is not handed out again.
            let _ = unsafe { self.cool(index) };
        }
    }
}
