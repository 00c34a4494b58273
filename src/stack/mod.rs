//! Coroutine stacks: guarded memory to run on.
//!
//! Lives here: where stacks lie, who may use which, what happens at their
//! lower end, and the saved frames of shared stacks, as bytes. Lives
//! elsewhere: switching to a stack (`switch`), and any idea of what a coroutine
//! is.
//!
//! A dedicated stack belongs to one worker's [`arena::Arena`]. For each stack
//! size the arena has a size class, which reserves address space once and cuts
//! it into a slab of equal stacks, numbered from the lowest:
//!
//! ```text
//!  low                                                               high
//!   | guard | usable bytes, stack 0 | guard | usable bytes, stack 1 | ...
//!           ^                  ^
//!         limit              base = top - cache colour of the index
//!                <- grows down |
//! ```
//!
//! A coroutine that needs more than it has touches the guard and faults;
//! [`overflow`] turns that into a message that names the coroutine.
//!
//! Code compiled by rustc touches every page of a large frame in order, so it can't
//! step over a guard, however small. C code compiled without
//! `-fstack-clash-protection` can: one frame that is larger than the guard may reach
//! past it into the next lower stack unnoticed. So the guard is [`GUARD`] bytes unless
//! the user wants more or fewer; it takes address space, and no memory.

mod alike;
pub(crate) mod arena;
#[cfg(test)]
mod bench;
mod copy;
pub(crate) mod frame_pool;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_ops;
mod guard;
#[cfg(all(test, loom))]
mod loom_tests;
pub(crate) mod overflow;
pub(crate) mod poisoned;
pub(crate) mod report;
pub(crate) mod shared;
mod size_class;

pub(crate) use guard::ranges;

use std::num::{NonZeroU32, NonZeroUsize};
use std::ptr;

use crate::sys::valgrind;

/// Bytes of one guard, unless another size is wanted. Buffers of 4 and 8 KiB are
/// common in C, and some of 32 KiB.
pub(crate) const GUARD: usize = 64 * 1024;

/// Bits of a [`StackId`] that say the index; the other four say the class.
const INDEX_BITS: u32 = 28;

/// How many sizes of stacks one arena can have.
pub(crate) const MAX_CLASSES: usize = 1 << (u32::BITS - INDEX_BITS);

/// How many stacks one class can have. One less than fits, so that no id is
/// `u32::MAX` and [`StackId`] can leave zero to `Option`.
const MAX_STACKS: usize = (1 << INDEX_BITS) - 1;

/// One stack of one arena: its size class and its index in that, plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StackId(NonZeroU32);

impl StackId {
    #[inline]
    fn new(class: usize, index: u32) -> Self {
        debug_assert!(class < MAX_CLASSES && (index as usize) < MAX_STACKS);
        // Never wraps: see `MAX_STACKS`.
        Self(NonZeroU32::MIN.saturating_add((class as u32) << INDEX_BITS | index))
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
        ((self.0.get() - 1) >> INDEX_BITS) as usize
    }

    #[inline]
    fn index(self) -> u32 {
        (self.0.get() - 1) & ((1 << INDEX_BITS) - 1)
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
}

/// The lowest usable byte of the stack of an arena that an address lies in, or in its
/// guard. Async-signal-safe.
pub(crate) fn limit_of_stack(address: usize) -> Option<usize> {
    guard::find_stack(address).map(|stack| stack.limit)
}

/// Copies words of frames, which may be anything: they are not looked at as what they are.
///
/// # Safety
///
/// - They can be read, and nobody writes them meanwhile.
pub(crate) unsafe fn peek(at: usize, words: &mut [usize]) {
    let (from, len) = (ptr::with_exposed_provenance(at), size_of_val(words));
    // SAFETY: forwarded; the place is as large.
    unsafe { copy::copy(from, words.as_mut_ptr().cast(), len) };
    valgrind::defined(words.as_ptr().cast(), len);
}

/// Limits and habits of an [`arena::Arena`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArenaConfig {
    /// How many stacks of one size there may be.
    pub(crate) max_stacks: usize,
    /// How many unused stacks of one size keep their memory for good.
    pub(crate) keep_warm: usize,
    /// Whether others keep it, too, until [`arena::Arena::tend`] finds that nobody has
    /// needed them.
    pub(crate) tended: bool,
    /// Whether none is kept, so that each is new to its user, and how much of it was used
    /// can be seen.
    pub(crate) measured: bool,
    /// How their guards are made.
    pub(crate) guard: GuardChoice,
    /// Bytes of a guard at least; at least a page.
    pub(crate) guard_bytes: usize,
    /// Bytes at the upper end of each that its bounds leave out, at most 1 KiB,
    /// a multiple of 64.
    pub(crate) headroom: usize,
}

impl Default for ArenaConfig {
    fn default() -> Self {
        Self {
            max_stacks: 1 << 20,
            keep_warm: 4096,
            tended: false,
            measured: false,
            guard: GuardChoice::Auto,
            guard_bytes: GUARD,
            headroom: 0,
        }
    }
}

/// Which kind of guards to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GuardChoice {
    /// The cheap kind where the kernel has it (Linux 6.13), else `mprotect`.
    #[default]
    Auto,
    /// `mprotect`, everywhere.
    Mprotect,
}

/// What an arena holds of one size at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassCounts {
    /// Usable ones of each.
    pub(crate) bytes: usize,
    pub(crate) in_use: usize,
    /// Unused, with memory.
    pub(crate) warm: usize,
    /// Unused, without memory.
    pub(crate) cold: usize,
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
    fn an_id_is_its_class_and_index_in_four_bytes() {
        assert_eq!(size_of::<Option<StackId>>(), 4);
        for class in [0, 1, MAX_CLASSES - 1] {
            for index in [0, 1, 77, MAX_STACKS as u32 - 1] {
                let id = StackId::new(class, index);
                assert_eq!((id.class(), id.index()), (class, index));
            }
        }
    }
}
