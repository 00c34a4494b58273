//! Polling: tasks that are futures, on the worker's own stack.
//!
//! Lives here: one turn of such a task. Between turns it is a task as any
//! other: the same states, the same queue, woken and cancelled by its address.
//! It is never "running" in the sense of [`CurrentTask`](super::CurrentTask): no coroutine is
//! there that could park, so what blocks in a poll blocks the worker, and what
//! would have to park panics.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use super::wake;
use super::worker::Worker;
use crate::switch::SwitchReason;
use crate::task::{self, Flags, JoinError, Slot, TaskRef, TaskState};
use crate::util::ignore_panic;

impl Worker {
    /// Polls the future of a task once.
    #[inline(never)]
    pub(super) fn poll(&self, index: u32, slot: &Slot) {
        if slot.has(Flags::CANCELLED) {
            return self.discard(index, slot, JoinError::cancelled());
        }
        slot.set_state(TaskState::Running);
        self.step_resumed(slot);
        // Dropping one of ours does nothing; not even asking is cheaper.
        let waker = ManuallyDrop::new(wake::waker(self.addr(slot)));
        let step = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: a live slot that is POLLED has a future's cell, its task's
            // side (I14), until it is freed; only this function polls it, and a
            // task that is Running is in no queue.
            unsafe { task::poll(slot.cell.get(), &mut Context::from_waker(&waker)) }
        }));
        self.handle.counters.resumed.add(1);
        self.step_back(
            slot,
            match step {
                Ok(Poll::Pending) if slot.has(Flags::NOTIFIED) => SwitchReason::Yielded,
                Ok(Poll::Pending) => SwitchReason::Parked,
                _ => SwitchReason::Finished,
            },
        );
        match step {
            Ok(Poll::Pending) if slot.has(Flags::NOTIFIED) => self.requeue(index, slot),
            Ok(Poll::Pending) => self.park(slot),
            Ok(Poll::Ready(())) => {
                let cell = self.free_slot(index, slot);
                // SAFETY: the task's side, which the slot gave up.
                let cell = unsafe { TaskRef::from_slot(cell) }.expect("it has the output");
                // SAFETY: the poll has written the output. Without a handle it is
                // dropped here: foreign code, with nothing borrowed (I5).
                ignore_panic(|| unsafe { cell.ready() });
            }
            // The panic hook has reported it; the future is still there.
            Err(payload) => self.discard(index, slot, JoinError::panicked(payload)),
        }
    }
}
