//! Floor 1: memory to run coroutines on.
//!
//! Lives here: where stacks lie, who may use which, what happens at their
//! lower end. Does not live here: switching to one of them (floor 2), or any
//! idea of what a coroutine is.
//!
//! A dedicated stack belongs to one worker's [`arena::Arena`], which reserves
//! address space once for each size and cuts it into equal places:
//!
//! ```text
//!  low                                                               high
//!   | guard | usable bytes, place 0 | guard | usable bytes, place 1 | ...
//!           ^                  ^
//!         limit              base = top - colour(place)
//!                <- grows down |
//! ```
//!
//! A coroutine that needs more than it has touches the guard and faults;
//! [`overflow`] turns that into a message that names it.
//!
//! The guard is [`GUARD`] bytes, one page. Code compiled by rustc touches
//! every page of a large frame in order, so it can't step over it. C code
//! compiled without `-fstack-clash-protection` can: one frame larger than a
//! page may reach past the guard into the next lower stack unnoticed. Give
//! coroutines that call such code a stack with room to spare.

pub(crate) mod arena;
pub(crate) mod closed;
mod copy;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_ops;
mod guard;
#[cfg(test)]
mod numbers;
pub(crate) mod overflow;
mod places;
pub(crate) mod pool;
pub(crate) mod shared;

use std::num::{NonZeroU32, NonZeroUsize};

pub(crate) use guard::GuardChoice;

use crate::sys::mem::PAGE;

/// Bytes of one guard.
pub(crate) const GUARD: usize = PAGE;

/// Bits of a [`StackId`] that say the place; the other four say the class.
const PLACE_BITS: u32 = 28;

/// How many sizes of stacks one arena can have.
const MAX_CLASSES: usize = 1 << (u32::BITS - PLACE_BITS);

/// How many places one class can have. One less than fits, so that no id is
/// `u32::MAX` and [`StackId`] can leave zero to `Option`.
const MAX_PLACES: usize = (1 << PLACE_BITS) - 1;

/// One stack of one arena: its class and its place in there, plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StackId(NonZeroU32);

impl StackId {
    #[inline]
    fn new(class: usize, place: u32) -> Self {
        debug_assert!(class < MAX_CLASSES && (place as usize) < MAX_PLACES);
        // Never wraps: see `MAX_PLACES`.
        Self(NonZeroU32::MIN.saturating_add((class as u32) << PLACE_BITS | place))
    }

    /// The id as a plain integer that is never zero.
    #[inline]
    pub(crate) fn to_bits(self) -> u32 {
        self.0.get()
    }

    /// An id from [`StackId::to_bits`]; `None` from zero.
    #[inline]
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
    }

    #[inline]
    fn class(self) -> usize {
        ((self.0.get() - 1) >> PLACE_BITS) as usize
    }

    #[inline]
    fn place(self) -> u32 {
        (self.0.get() - 1) & ((1 << PLACE_BITS) - 1)
    }
}

/// Where a stack lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StackBounds {
    /// Where it begins: one past its highest byte, a multiple of 64.
    pub(crate) base: NonZeroUsize,
    /// Its lowest usable byte, a multiple of the page size. The guard lies
    /// right below.
    pub(crate) limit: NonZeroUsize,
}

#[cfg(test)]
impl StackBounds {
    /// Bytes to run on.
    pub(crate) fn len(self) -> usize {
        self.base.get() - self.limit.get()
    }

    /// The lowest byte of the guard.
    pub(crate) fn guard(self) -> usize {
        self.limit.get() - GUARD
    }
}

/// In which state a stack was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// As its former user left it, byte for byte.
    Warm,
    /// Never used, or given back to the kernel since: its bytes are
    /// unspecified.
    Fresh,
}

/// What became of a stack that was given back.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It keeps its bytes, and is the next to be handed out.
    Warm,
    /// Enough warm ones are held: its memory went back to the kernel. What
    /// was remembered of its bytes no longer holds.
    Cold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_class_and_place_in_four_bytes() {
        assert_eq!(size_of::<Option<StackId>>(), 4);
        for class in [0, 1, MAX_CLASSES - 1] {
            for place in [0, 1, 77, MAX_PLACES as u32 - 1] {
                let id = StackId::new(class, place);
                assert_eq!((id.class(), id.place()), (class, place));
            }
        }
    }
}
