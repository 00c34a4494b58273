//! Where a generator's frames belong: to a coroutine, or to the thread outside of them.
//!
//! They may refer to its locals, to its time limit, to its children in a scope; and to
//! anything thread-local. So they run nowhere else, and not after any of that is gone (I15).
//! A body in a coroutine on a shared stack is outside of coroutines.

use std::ptr;

use crate::sched::CurrentTask;
use crate::sys::{era, fork};
use crate::task::{self, Slot};

#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    /// The coroutine's; null: outside.
    slot: *const Slot,
    generation: u32,
    /// In it no other worker's slot is where `slot` is, and thread-locals are there.
    era: u32,
    /// How often thread-locals had ended.
    ends: u32,
    forks: u32,
}

/// Why frames must not run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHere {
    AnotherCoroutine,
    /// What they refer to may have ended.
    ThreadLocalsEnded,
}

impl Home {
    /// Of frames that are not there yet: they may begin anywhere.
    pub(super) const ANYWHERE: Self = Self {
        slot: ptr::dangling(),
        generation: 0,
        era: 0,
        ends: 0,
        forks: 0,
    };

    /// Where the calling code runs.
    pub(super) fn here() -> Self {
        let slot = CurrentTask::running()
            .filter(|cx| !cx.is_shared())
            .map(CurrentTask::slot);
        Self {
            slot: slot.map_or(ptr::null(), ptr::from_ref),
            generation: slot.map_or(0, Slot::generation),
            era: era::number(),
            ends: era::ends(),
            forks: fork::generation(),
        }
    }

    /// Whether this is certainly where the calling code runs.
    #[inline(always)]
    pub(super) fn is_here(&self) -> bool {
        let running = task::running();
        running == self.slot
            && era::number() == self.era
            // SAFETY: the slot of the coroutine that runs.
            && unsafe { running.as_ref() }.is_none_or(|slot| slot.generation() == self.generation)
    }

    /// The coroutine whose shared stack the calling code runs on, if this is certainly the
    /// thread outside of coroutines: to a body there is none.
    #[inline(always)]
    pub(super) fn above_shared(&self) -> Option<CurrentTask> {
        let same =
            self.slot.is_null() && era::number() == self.era && fork::generation() == self.forks;
        CurrentTask::running().filter(|cx| same && cx.is_shared())
    }

    /// Whether frames of this home may run here, and begins there if they have none.
    #[cold]
    pub(super) fn enter(&mut self) -> Result<(), NotHere> {
        let here = Self::here();
        let outside = here.slot.is_null();
        if ptr::eq(self.slot, Self::ANYWHERE.slot) {
            *self = here;
            return Ok(());
        }
        if self.ends != here.ends {
            return Err(NotHere::ThreadLocalsEnded);
        }
        // In the child of a fork nothing of the parent's coroutines ever ends, and the
        // one that forked is the thread.
        let in_child = outside && self.forks != here.forks;
        // Workers that begin do not matter outside.
        let same_era = outside || self.era == here.era;
        let same = self.slot == here.slot && self.generation == here.generation && same_era;
        if !same && !in_child {
            return Err(NotHere::AnotherCoroutine);
        }
        *self = here;
        Ok(())
    }
}
