//! Driven workers: the thread keeps its own control flow, resumes coroutines of its choice,
//! and runs the loop when it wants to. For libco's API (`crates/c`).
//!
//! A *call* runs one coroutine until it suspends, for whatever reason. Who calls is next
//! behind it at the front of the run queue; all that is woken meanwhile goes to the back.
//! So the front of the queue is the stack of calls. A coroutine that calls suspends; the
//! thread itself resumes until as many have suspended as were called.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Instant;

use super::current::CurrentTask;
use super::run::SLICE;
use super::worker::Worker;
use crate::switch::SwitchReason;
use crate::task::{Addr, Flags, JoinError, Slot, TaskState};

impl Worker {
    /// From now on it is driven.
    pub(crate) fn drive(&self) {
        self.driven.set(true);
    }

    /// Runs a suspended coroutine of this worker, on the thread's own stack, until it
    /// suspends; `false` if it is none.
    pub(crate) fn call(&self, addr: Addr) -> bool {
        let Some(index) = self.callable(addr) else {
            return false;
        };
        self.to_front(index);
        let mut depth = 1_u32;
        while depth > 0 {
            let calls = self.calls.get();
            let next = self.queue.borrow_mut().pop_front();
            let Some(index) = next else { break };
            self.resume(index);
            match self.calls.get() == calls {
                true => depth -= 1,
                false => depth += 1,
            }
        }
        true
    }

    /// One turn of the loop: runs what can run; if nothing can, sleeps until something
    /// happens, or until `until`.
    ///
    /// # Errors
    ///
    /// As [`Worker::run`].
    pub(crate) fn turn(&self, until: Option<Instant>) -> io::Result<()> {
        self.slice();
        if self.handle.mailbox.has_mail() {
            self.read_mail();
        }
        if self.ends.is_behind() {
            self.tell_of_ends();
        }
        if self.events_pending.get() {
            self.dispatch(SLICE as usize);
            self.begin_round();
        } else if !self.queue.brief().is_empty() {
            self.poll_if_due()?;
        } else {
            let wake_at = |at| {
                self.driver
                    .borrow_mut()
                    .insert_timer(at, Waker::noop().clone())
            };
            let timer = until.map(wake_at);
            let now = self.idle();
            if let Some(key) = timer {
                self.driver.borrow_mut().remove_timer(key);
            }
            self.polled.set(now?);
            self.begin_round();
        }
        Ok(())
    }

    /// Ends a suspended coroutine without unwinding it; `false` if it is none. Its frames
    /// are left as they are (I6); work that has none (it is new, or a future) is dropped.
    pub(crate) fn forget_task(&self, addr: Addr) -> bool {
        let Some(index) = self.callable(addr) else {
            return false;
        };
        take_out(&mut self.queue.borrow_mut(), index);
        let slot = self.slots.slot(index);
        if slot.state() == TaskState::New || slot.has(Flags::POLLED) {
            self.discard(index, slot, JoinError::abandoned());
        } else {
            self.forget_frames(index, slot);
        }
        true
    }

    /// The index of a task that is suspended, or new.
    fn callable(&self, addr: Addr) -> Option<u32> {
        let (index, slot) = self.slots.find(addr)?;
        let state = slot.state();
        let may = !matches!(state, TaskState::Running | TaskState::Free);
        may.then_some(index)
    }

    fn to_front(&self, index: u32) {
        let slot = self.slots.slot(index);
        let mut queue = self.queue.borrow_mut();
        match slot.state() {
            TaskState::Parked => slot.set_state(TaskState::Woken),
            // Woken before, but behind others.
            _ => take_out(&mut queue, index),
        }
        queue.push_front(index);
    }

    /// A coroutine has called another: that runs, then this.
    #[cold]
    pub(super) fn called(&self, index: u32, slot: &Slot) {
        slot.clear(Flags::NOTIFIED);
        slot.set_state(TaskState::Queued);
        self.queue.borrow_mut().push_front(index);
        self.to_front(self.callee.get());
        self.calls.set(self.calls.get() + 1);
    }
}

/// Takes a task out of the run queue, if it is there. Looked for from both ends: who was
/// spawned or woken just now is the last, and who are called in the order in which they
/// were woken are the first.
fn take_out(queue: &mut VecDeque<u32>, index: u32) {
    let last = queue.len().wrapping_sub(1);
    let either = (0..queue.len().div_ceil(2)).flat_map(|at| [at, last - at]);
    let found = either.into_iter().find(|&at| queue[at] == index);
    found.map(|at| queue.remove(at));
}

impl CurrentTask {
    /// Runs a suspended coroutine of this worker, which is driven, until that suspends;
    /// `false` if it is none.
    pub(crate) fn call(self, addr: Addr) -> bool {
        let worker = self.worker();
        let Some(index) = worker.callable(addr).filter(|_| worker.driven.get()) else {
            return false;
        };
        worker.callee.set(index);
        self.suspend(SwitchReason::Called);
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_and_the_others_keep_their_order() {
        for len in 0..6_u32 {
            for index in 0..=len {
                let mut queue: VecDeque<u32> = (0..len).collect();
                take_out(&mut queue, index);
                let others: Vec<u32> = (0..len).filter(|one| *one != index).collect();
                assert_eq!(queue, others);
            }
        }
    }
}
