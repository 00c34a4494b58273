//! Trimming: the stacks of coroutines that have been parked for seconds give back the
//! memory below their frames, where they once were deeper.
//!
//! Who pays: not the coroutines. When one parks its slot notes the time, as it did
//! before there was trimming, and the worker counts its resumes. At the end of each
//! period (`trim_schedule.rs`) it compares what it has counted; if anybody has run in the period before
//! the last, the slots are walked, in pieces, for those that parked in that time and have
//! not run since. So each stay is looked at once, between one and two periods after it
//! began, and a worker whose coroutines all stay parked is left asleep.
//!
//! Why it is safe is said by I16: nothing is alive below the frames of a parked coroutine,
//! as [`crate::switch`] makes sure, and nobody resumes it meanwhile, since only this
//! worker's loop does, which is here.

use std::ops::Range;

use super::trim_schedule::SlotWalk;
use super::worker::{PARK_TIME_BITS, Worker};
use crate::task::{Flags, Slot, TaskState};

/// What one piece has at most: slots that are looked at, stacks of which the kernel is
/// asked what is in memory, and stacks that are trimmed. Each takes a
/// quarter of a millisecond at the most.
const SLOTS: usize = 8192;
const ASKED: usize = 1024;
const TRIMMED: usize = 32;

impl Worker {
    /// Does what is due at the tick `now`, when the worker looks around.
    #[inline]
    pub(super) fn trim_if_due(&self, now: u64) {
        if self.trim.is_due(now) {
            self.trim(now);
        }
    }

    #[cold]
    #[inline(never)]
    fn trim(&self, now: u64) {
        let park_time = (now >> PARK_TIME_BITS) as u32;
        let walk = self
            .trim
            .begin(park_time, self.handle.counters.resumed.get());
        let rest = walk.map(|walk| self.trim_some(walk));
        self.trim.walked(now, rest.unwrap_or_default());
    }

    /// Trims some of the stacks that the walk is for; the rest of it.
    fn trim_some(&self, walk: SlotWalk) -> SlotWalk {
        let (from, before) = walk.parked;
        let mut dead = Vec::with_capacity(TRIMMED);
        let (mut seen, mut asked) = (0, 0);
        let next = self.slots.each_from(walk.next.unwrap_or(0), |slot| {
            if is_candidate(slot, from..before) {
                asked += 1;
                dead.extend(self.stacks.dead_memory(slot));
            }
            seen += 1;
            seen < SLOTS && asked < ASKED && dead.len() < TRIMMED
        });
        // SAFETY: just found, and this is the worker's loop: no coroutine runs (I1).
        unsafe { self.stacks.release(&dead) };
        SlotWalk { next, ..walk }
    }
}

/// Whether the task is parked since a time in the range, with a stack of its own.
#[inline(always)]
fn is_candidate(slot: &Slot, since: Range<u32>) -> bool {
    slot.state() == TaskState::Parked
        && !slot.has(Flags::SHARED)
        && !slot.has(Flags::POLLED)
        && since.contains(&slot.park_time())
}
