//! A word to the processor about the tasks that run next, so that their memory is there
//! when they do: first their slots, then, when these have arrived, what the slots lead to,
//! and then what that leads to.

use std::collections::VecDeque;
use std::ptr;

use super::worker::Worker;
use crate::util::prefetch;

/// How far ahead in the run queue memory is asked for: the frames half as far,
/// the slots twice as far. Resumes of shared coroutines in random order, ns of CPU:
///
/// | distance | 2 | 4 | 8 | 12 | 16 | 32 |
/// |---|---|---|---|---|---|---|
/// | a million | 84 | 72 | 65 | 70 | 60 | 68 |
/// | five million | 152 | 119 | 80 | 90 | 92 | 184 |
pub(super) const AHEAD: usize = 8;

/// So many in the queue are enough for the look ahead.
pub(super) const ENOUGH: usize = 3 * AHEAD;

impl Worker {
    /// Once for each task that is taken from the queue.
    #[inline(always)]
    pub(super) fn look_ahead(&self, queue: &VecDeque<u32>) {
        if let Some(&far) = queue.get(2 * AHEAD) {
            prefetch(ptr::from_ref(self.slots.slot(far)).cast());
            self.stacks.prefetch(self.slots.slot(queue[AHEAD]));
            let near = AHEAD / 2;
            // One has been taken that is not in the queue any more.
            self.stacks
                .prefetch_frames(self.slots.slot(queue[near]), near + 1);
        }
    }

    /// Once for each [`AHEAD`] of them: the stacks of those that are new or were parked.
    ///
    /// A stack has a page of its own, and to look that up takes the processor longer than
    /// all else that a resume does. It looks several up at once if they are asked for
    /// together: docs/MEASURED.md, "Beside tokio, in turns", has what that gains. For those
    /// that only yield it is no gain: a yield among 100 000 (`compare`) took 75 ns instead of
    /// 57.
    #[inline(always)]
    pub(super) fn look_far_ahead(&self) {
        let cold = self.cold.get();
        self.cold.set(cold.saturating_sub(AHEAD));
        if cold > AHEAD {
            self.look_at_group();
        }
    }

    #[inline(never)]
    fn look_at_group(&self) {
        let queue = self.queue.brief();
        if queue.len() > 2 * AHEAD {
            let group = queue.range(AHEAD..2 * AHEAD).zip(AHEAD..);
            group.for_each(|(&index, at)| self.stacks.prefetch_cold(self.slots.slot(index), at));
        }
    }
}
