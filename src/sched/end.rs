//! Task ends: a task's stack, slot and cell go, and the joiner is woken.

use std::ptr;

use super::cancel::PATIENCE;
use super::worker::Worker;
use crate::shim::atomic::Ordering;
use crate::stack::Kept;
use crate::sys::report::report;
use crate::task::{Flags, Header, JoinError, JoinRef, Slot, TaskRef, TaskState, provisional_id};
use crate::util::ignore_panic;

impl Worker {
    /// A task has ended: stack, slot and cell go, the joiner is woken.
    pub(super) fn end(&self, index: u32, slot: &Slot, error: Option<JoinError>) {
        if self.stacks.end(slot) == Kept::Cold {
            self.note_stack_use(slot);
        }
        if slot.has(Flags::OWN_TLS) {
            self.tls.give(slot);
        }
        // A shared coroutine that unwound has not ended its locals itself.
        self.end_locals(slot);
        let cell = self.free_slot(index, slot);
        // SAFETY: null or the task's side of a live cell (I14), which the slot
        // gave up.
        let cell = unsafe { TaskRef::from_slot(cell) };
        if let Some(error) = error {
            // A payload's destructor is foreign code on the worker's stack.
            ignore_panic(|| match cell {
                // SAFETY: the closure was taken out when the task started.
                Some(cell) => unsafe { cell.fail(error) },
                None => drop(error),
            });
        }
    }

    /// A task's stack went back cold: it may have been measured.
    #[cold]
    fn note_stack_use(&self, slot: &Slot) {
        if let Some((size, used)) = self.stacks.take_measured() {
            let location = self.spawn_location(slot);
            self.handle.stack_uses.lock().add(location, size, used);
        }
    }

    /// A task ends that has never run.
    #[cold]
    pub(super) fn end_unstarted(&self, index: u32, slot: &Slot, error: JoinError) {
        if !error.is_cancelled() {
            report(format_args!(
                "a coroutine spawned at {}: {error}",
                self.spawn_location(slot)
            ));
        }
        self.discard(index, slot, error);
    }

    /// A task ends whose work is still in its cell.
    #[cold]
    pub(super) fn discard(&self, index: u32, slot: &Slot, error: JoinError) {
        let cell = self.free_slot(index, slot);
        // SAFETY: the task's side of a live cell (I14), which the slot gave up.
        let cell = unsafe { TaskRef::from_slot(cell) }.expect("it has the work");
        // SAFETY: the task never ran, or is a future that has not ended: the
        // work is there. Its destructor is foreign code.
        ignore_panic(|| unsafe { cell.discard(error) });
    }

    fn report_abandoned(&self, slot: &Slot) {
        let refusals = self.with_extra(slot, |extra| extra.refusals);
        let why = if refusals > PATIENCE {
            format!("went on after its cancellation had failed {PATIENCE} of its waits")
        } else {
            "waited for scoped coroutines of which one was abandoned, or was to unwind out of a \
             scope into a function that C has called"
                .into()
        };
        report(format_args!(
            "the coroutine {:?} spawned at {} {why}; it is abandoned, its destructors do \
             not run",
            self.name(slot).as_deref().unwrap_or("(unnamed)"),
            self.spawn_location(slot),
        ));
    }

    /// A task that must never be resumed: its frames are forgotten, their
    /// memory never used again, since others may still point there (I6).
    #[cold]
    pub(super) fn abandon(&self, index: u32, slot: &Slot) {
        // Where nothing can unwind, this is how every cancelled one ends.
        if !cfg!(panic = "abort") {
            self.report_abandoned(slot);
        }
        self.forget_frames(index, slot);
    }

    /// As [`Worker::abandon`], without a word.
    #[cold]
    pub(super) fn forget_frames(&self, index: u32, slot: &Slot) {
        self.handle.counters.abandoned.add(1);
        self.stacks.abandon(&self.slots, slot);
        if slot.has(Flags::OWN_TLS) {
            self.tls.abandon(slot);
        }
        let cell = self.free_slot(index, slot);
        // SAFETY: null or the task's side of a live cell (I14), which the slot
        // gave up.
        if let Some(cell) = unsafe { TaskRef::from_slot(cell) } {
            // SAFETY: the closure was taken out when the task started.
            ignore_panic(|| unsafe { cell.fail(JoinError::abandoned()) });
        }
    }

    /// Makes the slot free; what it held of the cell is the caller's.
    pub(super) fn free_slot(&self, index: u32, slot: &Slot) -> *const Header {
        let (cell, extra) = (slot.cell.get(), slot.extra.get());
        self.slots.free(index);
        // Before it counts as ended: a daemon must not be missing from the others.
        if extra != 0 {
            self.free_extra(extra);
        }
        self.handle.counters.ended.add(1);
        cell
    }

    #[inline(never)]
    fn free_extra(&self, extra: u32) {
        let extra = self.extras.borrow_mut().remove(extra as usize);
        if let Some(id) = extra.provisional_id {
            provisional_id::discard(id);
        }
        if extra.daemon {
            self.workers.daemons.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Drops the handle's side; and the task's side with it, here and now, if a
    /// coroutine of ours that has started holds it.
    pub(crate) fn detach(&self, join: JoinRef) {
        let Some((_, slot)) = join.header().known().and_then(|addr| self.slots.find(addr)) else {
            return;
        };
        if slot.state() == TaskState::New
            || slot.has(Flags::POLLED)
            || slot.cell.get() != join.as_ptr()
        {
            return;
        }
        let cell = slot.cell.replace(ptr::null());
        drop(join);
        // SAFETY: the task's side of a live cell (I14), which the slot gives up.
        drop(unsafe { TaskRef::from_slot(cell) });
    }
}
