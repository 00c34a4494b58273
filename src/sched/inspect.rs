//! Answers to snapshot requests: a worker describes its tasks.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::current::CurrentTask;
use super::snapshot::{Detail, SnapshotRequest, TaskInfo, TaskMarks, Trace};
use super::wait_mark::{self, Blocker};
use super::wake;
use super::worker::{PARK_TIME_BITS, Worker};
use crate::driver::WaitTarget;
use crate::sys::unwind;
use crate::task::{Flags, Slot, TaskState};

/// Coroutines of which one answer has a backtrace: each takes tens of
/// microseconds, and more are not read.
const TRACES: usize = 1_000;

/// Frames of which one has the addresses.
const FRAMES: usize = 256;

/// Bytes of stack that taking a backtrace may use. To print one, which is more,
/// takes 22.5 KiB in a debug build.
const ROOM: usize = 24 << 10;

impl Worker {
    pub(super) fn answer(&self, request: SnapshotRequest) {
        let mut tasks = self.describe_tasks();
        if request.detail == Detail::Waits {
            self.describe_waits(&mut tasks);
        }
        request.answer(self.index(), tasks.into_iter().map(|(_, task)| task));
    }

    /// All tasks here, with the numbers of their slots.
    fn describe_tasks(&self) -> Vec<(u32, TaskInfo)> {
        let all = self.slots.iter_live();
        all.filter_map(|(index, slot)| Some((index, self.describe(slot)?)))
            .collect()
    }

    /// What the worker itself knows of a task. In a signal handler it may be nothing:
    /// what is just being changed is left out.
    pub(super) fn describe(&self, slot: &Slot) -> Option<TaskInfo> {
        let (provisional_id, name) = {
            let extras = self.extras.try_borrow().ok()?;
            match extras.get(slot.extra.get() as usize) {
                Some(extra) => (extra.provisional_id, extra.name.clone()),
                None => (None, None),
            }
        };
        let locations = self.spawn_locations.try_borrow().ok()?;
        Some(TaskInfo {
            identity: provisional_id.unwrap_or_else(|| self.addr(slot)),
            name,
            location: locations.find(slot.location.get())?,
            state: slot.state(),
            cancelled: slot.has(Flags::CANCELLED),
            shared: slot.has(Flags::SHARED),
            frame_bytes: 0,
            daemon: self.is_daemon(slot),
            awaits: Vec::new(),
            parked_for: None,
            backtrace: None,
            blocker: None,
            blocked_by: None,
            holder_ended: false,
            marks: TaskMarks {
                worker: self.index(),
                key: slot.key(),
                cell: slot.cell.get().addr(),
                number: 0,
            },
        })
    }

    /// Adds what is known of the parked ones, and of the first [`TRACES`] where in
    /// their code they are.
    fn describe_waits(&self, tasks: &mut [(u32, TaskInfo)]) {
        // Mail may be read by a running coroutine (`CurrentTask::is_cancelled`), on its
        // own stack, which may be the stack of one that is parked.
        let mut traces = if CurrentTask::present() { 0 } else { TRACES };
        let mut waits = self.waits();
        for (index, task) in tasks {
            let slot = self.slots.slot(*index);
            if slot.has(Flags::OWN_TLS) && slot.state() != TaskState::New {
                task.marks.number = self.tls.of(slot).block.number();
            }
            if slot.state() != TaskState::Parked {
                continue;
            }
            if let Some((awaits, since)) = waits.remove(index) {
                task.awaits = awaits;
                task.parked_for = since;
            }
            if !slot.has(Flags::POLLED) {
                task.frame_bytes = self.stacks.frame_bytes(&self.slots, slot);
            }
            if !slot.has(Flags::SHARED) {
                let tick = u64::from(slot.park_time()) << PARK_TIME_BITS;
                task.parked_for = Some(self.driver.borrow().ago(tick));
            }
            if !slot.has(Flags::POLLED) && !slot.has(Flags::SHARED) {
                if let Some(frames) = self.stacks.frames(slot) {
                    // SAFETY: those of a suspended coroutine on a stack of its own.
                    task.blocker = unsafe { wait_mark::find(frames) };
                }
            }
            if traces > 0 && !slot.has(Flags::POLLED) {
                traces -= 1;
                task.backtrace = self.backtrace(slot, &mut task.blocker).map(Arc::new);
            }
            if let Some(Blocker::Holder(key)) = task.blocker {
                task.holder_ended = self.has_ended(key);
            }
        }
    }

    /// Whether the coroutine of this key was one of this worker's, and is no more.
    fn has_ended(&self, key: u64) -> bool {
        let index = self.slots.find_address(Slot::address_in(key));
        let slot = index.map(|index| self.slots.slot(index));
        slot.is_some_and(|slot| slot.state() == TaskState::Free || slot.key() != key)
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
    /// that has the room; and its mark, if that is not known.
    fn backtrace(&self, slot: &Slot, blocker: &mut Option<Blocker>) -> Option<Trace> {
        let mut trace = None;
        let mut look = |stack: Range<usize>| {
            if blocker.is_none() {
                // SAFETY: the frames of a suspended coroutine, in their place.
                *blocker = unsafe { wait_mark::find(stack.clone()) };
            }
            let (mut addresses, mut within) = (Vec::new(), false);
            unwind::walk(|call, frame| {
                // Further in is what looks, further out the worker, on a stack anywhere.
                let (before, now) = (within, stack.start < frame && frame <= stack.end);
                within |= now;
                if now {
                    addresses.push(call);
                }
                (now || !before) && addresses.len() < FRAMES
            });
            let named = (!cfg!(feature = "symbols")).then(Backtrace::force_capture);
            let addresses = addresses.into();
            trace = Some(Trace { addresses, named });
        };
        self.stacks.run_on_stack(&self.slots, slot, ROOM, &mut look);
        trace
    }
}
