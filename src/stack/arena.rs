//! The arena: one worker's dedicated stacks, of every size that was asked for.
//!
//! It finds the size class and words the errors; what happens inside a class
//! is in [`super::places`]. An arena is used by one thread and has no locks.

use std::io;

use super::guard::GuardMaker;
use super::places::Places;
use super::{GuardChoice, Kept, MAX_CLASSES, MAX_PLACES, Reuse, StackBounds, StackId};
use crate::sys::mem::PAGE;

#[cfg(test)]
mod tests;

/// A panic that prints a backtrace needs 22.5 KiB: less is a trap.
pub(crate) const MIN_SIZE: usize = 32 * 1024;

/// More than this is a mistake in the caller's arithmetic.
pub(crate) const MAX_SIZE: usize = 1 << 30;

/// Limits and habits of an [`Arena`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArenaConfig {
    /// How many stacks of one size there may be.
    pub(crate) max_stacks: usize,
    /// How many unused stacks of one size keep their memory.
    pub(crate) keep_warm: usize,
    /// How their guards are made.
    pub(crate) guard: GuardChoice,
    /// Bytes at the upper end of each that its bounds leave out, at most 1 KiB,
    /// a multiple of 64.
    pub(crate) headroom: usize,
}

impl Default for ArenaConfig {
    fn default() -> Self {
        Self {
            max_stacks: 1 << 20,
            keep_warm: 4096,
            guard: GuardChoice::Auto,
            headroom: 0,
        }
    }
}

/// What an [`Arena`] holds at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArenaCounts {
    /// Taken and not given back.
    pub(crate) in_use: usize,
    /// Unused, with memory.
    pub(crate) warm: usize,
    /// Unused, without memory.
    pub(crate) cold: usize,
    /// Lost for ever.
    pub(crate) abandoned: usize,
    /// How many there can be, over all sizes asked for so far.
    pub(crate) places: usize,
    /// Reserved, which costs nothing until touched.
    pub(crate) address_space_bytes: usize,
}

/// Hands out guarded stacks and takes them back.
#[derive(Debug)]
pub(crate) struct Arena {
    config: ArenaConfig,
    guards: GuardMaker,
    /// Never shrinks: its indices are in [`StackId`]s.
    classes: Vec<Places>,
    /// The size asked for last, and its class. Zero stands for none yet.
    last: (usize, usize),
}

impl Arena {
    pub(crate) fn new(config: ArenaConfig) -> Self {
        let config = ArenaConfig {
            max_stacks: config.max_stacks.clamp(1, MAX_PLACES),
            ..config
        };
        Self {
            config,
            guards: GuardMaker::new(config.guard),
            classes: Vec::new(),
            last: (0, 0),
        }
    }

    /// Takes a stack of at least `size` bytes, less its colour, at most half a
    /// page. It belongs to the caller until [`Arena::give`] or
    /// [`Arena::abandon`].
    ///
    /// # Errors
    ///
    /// - `InvalidInput`: `size` is over [`MAX_SIZE`].
    /// - `QuotaExceeded`: all stacks of the size are taken, or there are too
    ///   many different sizes.
    /// - `OutOfMemory`: no address space, or no more memory mappings.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) -> io::Result<(StackId, Reuse)> {
        let class = if size == self.last.0 && size != 0 {
            self.last.1
        } else {
            self.class_for(size)?
        };
        match self.classes[class].take_warm() {
            Some(place) => Ok((StackId::new(class, place), Reuse::Warm)),
            None => self.take_fresh(class),
        }
    }

    /// Gives a stack back.
    ///
    /// # Safety
    ///
    /// - `id` was taken from this arena, and not given back or abandoned
    ///   since.
    /// - Nobody uses its memory any more.
    #[inline]
    pub(crate) unsafe fn give(&mut self, id: StackId) -> Kept {
        // SAFETY: forwarded.
        unsafe { self.classes[id.class()].give(id.place()) }
    }

    /// Gives a stack up whose frames were forgotten instead of unwound: they
    /// may be pointed at, so its memory is neither used again nor unmapped,
    /// not even when the arena is dropped.
    pub(crate) fn abandon(&mut self, id: StackId) {
        self.classes[id.class()].abandon(id.place());
    }

    /// Closes a stack to every access, or opens it again. Its guard stays.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` when closing, at `vm.max_map_count`: the stack is open.
    ///
    /// # Safety
    ///
    /// - `id` was taken from this arena, and not given back since.
    /// - When closing: nobody may use its memory until it is opened.
    pub(crate) unsafe fn set_open(&self, id: StackId, open: bool) -> io::Result<()> {
        // SAFETY: forwarded.
        unsafe { self.classes[id.class()].set_open(id.place(), open) }
    }

    /// Where a stack lies.
    #[inline]
    pub(crate) fn bounds(&self, id: StackId) -> StackBounds {
        self.classes[id.class()].bounds(id.place())
    }

    pub(crate) fn counts(&self) -> ArenaCounts {
        self.classes
            .iter()
            .fold(ArenaCounts::default(), |sum, class| ArenaCounts {
                in_use: sum.in_use + class.in_use(),
                warm: sum.warm + class.warm(),
                cold: sum.cold + class.cold(),
                abandoned: sum.abandoned + class.abandoned(),
                places: sum.places + class.max(),
                address_space_bytes: sum.address_space_bytes + class.address_space(),
            })
    }

    #[cold]
    fn class_for(&mut self, asked: usize) -> io::Result<usize> {
        if asked > MAX_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a stack of {asked} bytes is too large: {MAX_SIZE} is the most"),
            ));
        }
        let size = asked.max(MIN_SIZE).next_multiple_of(PAGE);
        let class = match self.classes.iter().position(|class| class.size() == size) {
            Some(class) => class,
            None if self.classes.len() == MAX_CLASSES => return Err(self.too_many_sizes(size)),
            None => {
                self.classes.push(Places::new(size, &self.config)?);
                self.classes.len() - 1
            }
        };
        self.last = (asked, class);
        Ok(class)
    }

    #[cold]
    fn take_fresh(&mut self, class: usize) -> io::Result<(StackId, Reuse)> {
        match self.classes[class].take_fresh(&mut self.guards)? {
            Some(place) => Ok((StackId::new(class, place), Reuse::Fresh)),
            None => Err(self.exhausted(class)),
        }
    }

    fn exhausted(&self, class: usize) -> io::Error {
        let (max, size) = (self.classes[class].max(), self.classes[class].size());
        let advice = if max == self.config.max_stacks {
            "raise it with the Runtime builder's `max_stacks`"
        } else {
            "address space allows no more of this size: use smaller stacks"
        };
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!(
                "all {max} stacks of {size} bytes are in use, which is this worker's limit; \
                 {advice}, or run more coroutines on shared stacks"
            ),
        )
    }

    fn too_many_sizes(&self, size: usize) -> io::Error {
        let mut sizes: Vec<usize> = self.classes.iter().map(Places::size).collect();
        sizes.sort_unstable();
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!(
                "no stack of {size} bytes: this worker has stacks of {MAX_CLASSES} different \
                 sizes already, which is the limit; use one of {sizes:?}"
            ),
        )
    }

    #[cfg(test)]
    pub(super) fn resident_pages(&self, id: StackId) -> usize {
        self.classes[id.class()].resident_pages(id.place())
    }
}
