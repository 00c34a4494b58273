//! The stack arena: one worker's dedicated stacks, of every size that was asked
//! for.
//!
//! It finds the size class and words the errors; what happens inside a class
//! is in [`super::size_class`]. One thread uses an arena, which has no locks.

use std::io;

use super::guard::GuardMaker;
use super::size_class::SizeClass;
use super::{ArenaConfig, ClassCounts, Kept, MAX_CLASSES, MAX_STACKS, Reuse, StackBounds, StackId};
use crate::sys::mem::PAGE;
use crate::sys::signal::SignalStack;

#[cfg(test)]
mod tests;

/// A panic that prints a backtrace needs 22.5 KiB: less is a trap.
pub(crate) const MIN_SIZE: usize = 32 * 1024;

/// The least size here: on some processors a signal, which comes to a coroutine on its
/// own stack unless its handler wants another, takes three pages (AVX-512 with AMX), and
/// not one.
fn least_size(signal_bytes: usize) -> usize {
    MIN_SIZE + signal_bytes.next_multiple_of(PAGE) - PAGE
}

/// More than this is a mistake in the caller's arithmetic.
pub(crate) const MAX_SIZE: usize = 1 << 30;

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
    pub(crate) capacity: usize,
    /// Reserved, which costs nothing until touched.
    pub(crate) address_space_bytes: usize,
}

/// Hands out guarded stacks and takes them back.
#[derive(Debug)]
pub(crate) struct Arena {
    config: ArenaConfig,
    guards: GuardMaker,
    /// Never shrinks: its indices are in [`StackId`]s.
    classes: Vec<SizeClass>,
    /// The size asked for last, and its class. Zero stands for none yet.
    last: (usize, usize),
    /// Since [`Arena::count_changes`].
    changed: bool,
    /// What every stack has.
    least: usize,
}

impl Arena {
    pub(crate) fn new(config: ArenaConfig) -> Self {
        let config = ArenaConfig {
            max_stacks: config.max_stacks.clamp(1, MAX_STACKS),
            ..config
        };
        Self {
            config,
            guards: GuardMaker::new(config.guard),
            classes: Vec::new(),
            last: (0, 0),
            changed: false,
            least: least_size(SignalStack::kernel_share()),
        }
    }

    /// Takes a stack of at least `size` bytes, less its cache colour, at
    /// most half a page. It belongs to the caller until [`Arena::give`] or
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
        self.changed = true;
        match self.classes[class].take_warm() {
            Some(index) => Ok((StackId::new(class, index), Reuse::Warm)),
            None => self.take_fresh(class),
        }
    }

    /// Where the stack lies that is `nth` to be taken, of the size asked for last, if it is
    /// one with memory.
    #[inline]
    pub(crate) fn warm(&self, nth: usize) -> Option<StackBounds> {
        self.classes.get(self.last.1)?.warm_bounds(nth)
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
        self.changed = true;
        // SAFETY: taken here, so from this class; the rest is forwarded.
        unsafe { self.classes[id.class()].give(id.index()) }
    }

    /// The size of the stack that was given back last, and how much of it was used, if that
    /// is measured.
    pub(crate) fn take_measured(&mut self) -> Option<(usize, usize)> {
        let used = |class: &mut SizeClass| Some((class.size(), class.take_measured()?));
        self.classes.iter_mut().find_map(used)
    }

    /// Gives a stack up whose frames were forgotten instead of unwound: there
    /// may be pointers to them, so its memory is neither used again nor
    /// unmapped, not even when the arena is dropped (I6).
    pub(crate) fn abandon(&mut self, id: StackId) {
        self.changed = true;
        self.classes[id.class()].abandon(id.index());
    }

    /// Makes a stack inaccessible (`mprotect`), or accessible again. Its guard
    /// stays.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` at `vm.max_map_count`: the stack stays accessible.
    ///
    /// # Safety
    ///
    /// - `id` was taken from this arena, and not given back since.
    /// - When `accessible` is false: nobody uses its memory until it is true again.
    pub(crate) unsafe fn set_accessible(&self, id: StackId, accessible: bool) -> io::Result<()> {
        // SAFETY: taken here, so in use in this class; the rest is forwarded.
        unsafe { self.classes[id.class()].set_accessible(id.index(), accessible) }
    }

    /// Where a stack lies.
    #[inline]
    pub(crate) fn bounds(&self, id: StackId) -> StackBounds {
        self.classes[id.class()].bounds(id.index())
    }

    /// How many whole pages of a stack below `address`, which lies in it, are in memory.
    pub(crate) fn resident_below(&self, id: StackId, address: usize) -> usize {
        self.classes[id.class()].resident_below(id.index(), address)
    }

    /// Gives the memory of those pages back, of each stack with its address; they read as
    /// zero when they are touched again.
    ///
    /// # Safety
    ///
    /// - Each stack was taken from this arena, and not given back since.
    /// - Nobody needs what lies in it below the address.
    pub(crate) unsafe fn release_below(&self, stacks: &[(StackId, usize)]) {
        for (number, class) in self.classes.iter().enumerate() {
            let ours = stacks.iter().filter(|(id, _)| id.class() == number);
            let ours = ours.map(|&(id, address)| (id.index(), address));
            // SAFETY: taken here, so in use in its class; the rest is forwarded.
            unsafe { class.release_below(ours) };
        }
    }

    /// Whether there are more unused stacks with memory than are kept for good, so that
    /// there is something to [tend](Self::tend).
    #[inline]
    pub(crate) fn has_spare(&self) -> bool {
        self.classes.iter().any(SizeClass::has_spare)
    }

    /// To be called once a period: the memory of stacks that nobody has needed for a
    /// whole one goes back. `true` if there is more to do soon: it is done in pieces.
    pub(crate) fn tend(&mut self) -> bool {
        self.changed = true;
        let cooling = |class: &&mut SizeClass| class.is_cooling();
        match self.classes.iter_mut().find(cooling) {
            Some(class) => class.cool_some(),
            None => self.classes.iter_mut().for_each(SizeClass::end_period),
        }
        self.classes.iter().any(SizeClass::is_cooling)
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> ArenaCounts {
        self.count(|_, _| ())
    }

    /// As [`Arena::count`], if something has changed since the last time.
    #[inline]
    pub(crate) fn count_changes(
        &mut self,
        by_class: impl FnMut(usize, ClassCounts),
    ) -> Option<ArenaCounts> {
        std::mem::take(&mut self.changed).then(|| self.count(by_class))
    }

    /// How many sizes there are, and how many stacks are in use.
    pub(crate) fn sizes_and_used(&self) -> (usize, usize) {
        (self.classes.len(), self.count(|_, _| ()).in_use)
    }

    /// Counts the stacks; `by_class` is told of those of each size, in the order in which
    /// the sizes were first asked for.
    #[inline]
    fn count(&self, mut by_class: impl FnMut(usize, ClassCounts)) -> ArenaCounts {
        let mut sum = ArenaCounts::default();
        for (number, class) in self.classes.iter().enumerate() {
            let counts = ClassCounts {
                bytes: class.size(),
                in_use: class.in_use(),
                warm: class.warm(),
                cold: class.cold(),
            };
            sum.in_use += counts.in_use;
            sum.warm += counts.warm;
            sum.cold += counts.cold;
            sum.abandoned += class.abandoned();
            sum.capacity += class.max();
            sum.address_space_bytes += class.address_space();
            by_class(number, counts);
        }
        sum
    }

    #[cold]
    fn class_for(&mut self, asked: usize) -> io::Result<usize> {
        if asked > MAX_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a stack of {asked} bytes is too large: {MAX_SIZE} is the most"),
            ));
        }
        let size = asked.max(self.least).next_multiple_of(PAGE);
        let class = match self.classes.iter().position(|class| class.size() == size) {
            Some(class) => class,
            None if self.classes.len() == MAX_CLASSES => return Err(self.too_many_sizes(size)),
            None => {
                self.classes.push(SizeClass::new(size, &self.config)?);
                self.classes.len() - 1
            }
        };
        self.last = (asked, class);
        Ok(class)
    }

    #[cold]
    fn take_fresh(&mut self, class: usize) -> io::Result<(StackId, Reuse)> {
        match self.classes[class].take_fresh(&mut self.guards)? {
            Some(index) => Ok((StackId::new(class, index), Reuse::Fresh)),
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
        let mut sizes: Vec<usize> = self.classes.iter().map(SizeClass::size).collect();
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
        self.classes[id.class()].resident_pages(id.index())
    }
}
