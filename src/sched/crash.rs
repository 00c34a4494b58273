//! The crash of a simulated machine: its tasks are gone from one moment to the next, and
//! no code of theirs runs any more, destructors neither. What they had is never given
//! back: others may point there (I6).

use std::mem;

use super::worker::Worker;
use crate::task::{Addr, Flags, Slot, TaskState};

impl Worker {
    /// Forgets the tasks for whose slots `is_one` says so, but for the one that runs.
    /// Returns, in order, whom others may still have in their queues.
    pub(crate) fn forget_tasks(&self, is_one: impl Fn(u32) -> bool) -> Vec<Addr> {
        let mut found = Vec::new();
        self.slots.try_each_live(|slot| {
            let index = self.slots.index(slot);
            if slot.state() != TaskState::Running && is_one(index) {
                found.push(index);
            }
            true
        });
        let addr = |&index: &u32| self.addr(self.slots.slot(index));
        let mut gone: Vec<Addr> = found.iter().map(addr).collect();
        gone.sort_unstable();
        for &index in &found {
            self.crash_task(index, self.slots.slot(index));
        }
        // One may have been woken by the end of another.
        found.sort_unstable();
        let is_left = |index: &u32| found.binary_search(index).is_err();
        self.queue.borrow_mut().retain(is_left);
        gone
    }

    fn crash_task(&self, index: u32, slot: &Slot) {
        let has_stack = slot.state() != TaskState::New && !slot.has(Flags::POLLED);
        if has_stack {
            self.stacks.abandon(&self.slots, slot);
            if slot.has(Flags::OWN_TLS) {
                self.tls.abandon(slot);
            }
        }
        if slot.extra.get() != 0 {
            let locals = self.with_extra(slot, |extra| mem::take(&mut extra.locals));
            mem::forget(locals);
        }
        // The task's side of its cell, and with it the closure and who joins it.
        let _ = self.free_slot(index, slot);
    }

    /// The slot of a task of this worker's.
    pub(crate) fn slot_index(&self, slot: &Slot) -> u32 {
        self.slots.index(slot)
    }
}
