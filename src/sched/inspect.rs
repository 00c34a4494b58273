//! Answers to snapshot requests: a worker describes its tasks.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::current::Cx;
use super::snapshot::{Detail, SnapshotRequest, TaskInfo};
use super::wake;
use super::worker::{PARK_TIME_BITS, Worker};
use crate::driver::WaitTarget;
use crate::task::{Flags, Slot, TaskState};

/// Coroutines of which one answer has a backtrace: each takes tens of
/// microseconds, and more are not read.
const TRACES: usize = 1_000;

/// Bytes of stack that taking a backtrace may use. To print one, which is more,
/// takes 22.5 KiB in a debug build.
const ROOM: usize = 24 << 10;

impl Worker {
    pub(super) fn answer(&self, request: SnapshotRequest) {
        let mut tasks = self.describe_tasks();
        if request.detail == Detail::Waits {
            self.describe_waits(&mut tasks);
        }
        request.answer(tasks.into_iter().map(|(_, task)| task));
    }

    /// All tasks here, with the numbers of their slots.
    fn describe_tasks(&self) -> Vec<(u32, TaskInfo)> {
        let describe = |slot: &Slot| TaskInfo {
            identity: self.identity(slot),
            name: self.name(slot),
            location: self.spawn_location(slot),
            state: slot.state(),
            cancelled: slot.has(Flags::CANCELLED),
            shared: slot.has(Flags::SHARED),
            awaits: Vec::new(),
            parked_for: None,
            backtrace: None,
        };
        let all = self.slots.iter_live();
        all.map(|(index, slot)| (index, describe(slot))).collect()
    }

    /// Adds what is known of the parked ones, and of the first [`TRACES`] where in
    /// their code they are.
    fn describe_waits(&self, tasks: &mut [(u32, TaskInfo)]) {
        // Mail may be read by a running coroutine (`Cx::is_cancelled`), on its
        // own stack, which may be the stack of one that is parked.
        let mut traces = if Cx::running().is_some() { 0 } else { TRACES };
        let mut waits = self.waits();
        for (index, task) in tasks {
            let slot = self.slots.slot(*index);
            if slot.state() != TaskState::Parked {
                continue;
            }
            if let Some((awaits, since)) = waits.remove(index) {
                task.awaits = awaits;
                task.parked_for = since;
            }
            if !slot.has(Flags::SHARED) {
                let tick = u64::from(slot.park_time()) << PARK_TIME_BITS;
                task.parked_for = Some(self.driver.borrow().ago(tick));
            }
            if traces > 0 && !slot.has(Flags::POLLED) {
                traces -= 1;
                task.backtrace = self.backtrace(slot).map(Arc::new);
            }
        }
    }

    /// What the driver knows that tasks wait for, by slot; of descriptors, how long.
    fn waits(&self) -> HashMap<u32, (Vec<WaitTarget>, Option<Duration>)> {
        let mut waits = HashMap::<_, (Vec<_>, Option<_>)>::new();
        let driver = self.driver.borrow();
        for (waker, awaited, since) in driver.waits() {
            let task = wake::woken_by(waker).and_then(|addr| self.slots.find(addr));
            let Some((index, _)) = task else { continue };
            let (awaits, longest) = waits.entry(index).or_default();
            awaits.push(awaited);
            *longest = (*longest).max(since);
        }
        waits
    }

    /// Where a suspended coroutine is in its code, as seen from its own stack, if
    /// that has the room.
    fn backtrace(&self, slot: &Slot) -> Option<Backtrace> {
        let mut trace = None;
        let mut look = || trace = Some(Backtrace::force_capture());
        self.stacks.run_on_stack(&self.slots, slot, ROOM, &mut look);
        trace
    }
}
