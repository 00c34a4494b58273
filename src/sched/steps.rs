//! Steps: what happens to tasks, told to the worker's log (`step_log.rs`).
//!
//! Without the feature `trace` what is called here does nothing. What a task waits for is
//! noted by the function that begins the wait ([`CurrentTask::note_wait`]), or found in its
//! frames, and said when it is parked. Whoever wakes one of another worker's says so in its
//! own log; the other says when it heard of it.

use super::current::CurrentTask;
use super::step_log::StepKind;
#[cfg(feature = "trace")]
use super::step_log::TaskStep;
#[cfg(feature = "trace")]
use super::wait_mark;
use super::worker::Worker;
#[cfg(feature = "trace")]
use super::worker_handle::WorkerHandle;
use crate::driver::WaitTarget;
use crate::switch::SwitchReason;
use crate::task::{Addr, Flags, Slot, TaskState};

impl Worker {
    #[inline(always)]
    fn step(&self, slot: &Slot, kind: impl FnOnce() -> StepKind) {
        #[cfg(feature = "trace")]
        self.handle.steps.add(|| self.known_as(slot), kind);
        #[cfg(not(feature = "trace"))]
        let _ = (slot, kind);
    }

    /// Wherever it is called from: what is just being changed has its address.
    #[cfg(feature = "trace")]
    fn known_as(&self, slot: &Slot) -> Addr {
        let extras = self.extras.try_borrow();
        let extra = extras
            .as_ref()
            .ok()
            .and_then(|all| all.get(slot.extra.get() as usize));
        extra
            .and_then(|extra| extra.provisional_id)
            .unwrap_or_else(|| self.addr(slot))
    }

    /// The task has a slot now.
    #[inline(always)]
    pub(super) fn step_spawned(&self, slot: &Slot) {
        self.step(slot, || StepKind::Spawned {
            name: self.name(slot),
            location: self.spawn_location(slot),
            by: running_here(),
        });
    }

    #[inline(always)]
    pub(super) fn step_resumed(&self, slot: &Slot) {
        #[cfg(feature = "trace")]
        self.noted_wait.take();
        self.step(slot, || StepKind::Resumed);
    }

    /// It is back, for this reason. (Its slot is still its own.)
    #[inline(always)]
    pub(super) fn step_back(&self, slot: &Slot, reason: SwitchReason) {
        self.step(slot, || match reason {
            // It has been woken meanwhile.
            SwitchReason::Parked if slot.has(Flags::NOTIFIED) => StepKind::Yielded,
            SwitchReason::Parked => self.parked(slot),
            SwitchReason::Finished | SwitchReason::Panicked | SwitchReason::Abandoned => {
                StepKind::Ended
            }
            _ => StepKind::Yielded,
        });
    }

    /// If it is parked: else it goes on anyway.
    #[inline(always)]
    pub(super) fn step_woken(&self, slot: &Slot) {
        if cfg!(feature = "trace") && slot.state() == TaskState::Parked {
            self.step(slot, || StepKind::Woken { by: running_here() });
        }
    }

    #[cfg(feature = "trace")]
    fn parked(&self, slot: &Slot) -> StepKind {
        let target = self.noted_wait.take();
        let is_marked = target.is_none() && !slot.has(Flags::POLLED) && !slot.has(Flags::SHARED);
        let frames = is_marked.then(|| self.stacks.frames(slot)).flatten();
        // SAFETY: those of a suspended coroutine on a stack of its own.
        let blocker = frames.and_then(|frames| unsafe { wait_mark::find(frames) });
        StepKind::Parked(target, blocker)
    }

    #[cfg(not(feature = "trace"))]
    fn parked(&self, _: &Slot) -> StepKind {
        StepKind::Parked(None, None)
    }

    /// A task of another worker's is woken here.
    #[inline(always)]
    pub(super) fn step_wakes(task: Addr) {
        #[cfg(feature = "trace")]
        if let Some(cx) = CurrentTask::running() {
            let by = cx.identity();
            let woken = || StepKind::Woken { by: Some(by) };
            cx.worker().handle.steps.add(|| task, woken);
        }
        #[cfg(not(feature = "trace"))]
        let _ = task;
    }
}

fn running_here() -> Option<Addr> {
    CurrentTask::running().map(CurrentTask::identity)
}

impl CurrentTask {
    /// It is about to wait for this. A time beside something else is its limit.
    #[inline(always)]
    pub(super) fn note_wait(self, wait: impl FnOnce() -> WaitTarget) {
        #[cfg(feature = "trace")]
        {
            let noted = &self.worker().noted_wait;
            let before = noted.take();
            let now = wait();
            let is_limit = matches!(now, WaitTarget::Time(_));
            noted.set(before.filter(|_| is_limit).or(Some(now)));
        }
        #[cfg(not(feature = "trace"))]
        let _ = wait;
    }
}

#[cfg(feature = "trace")]
impl WorkerHandle {
    /// Opens the log; `false` if it is open.
    pub(crate) fn open_steps(&self, room: usize) -> bool {
        self.steps.open(room)
    }

    /// What has been added, and how much there was no room for.
    pub(crate) fn close_steps(&self) -> (Vec<TaskStep>, u64) {
        self.steps.close()
    }
}
