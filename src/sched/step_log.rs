//! Step logs: what a worker did with which task, and when, for a timeline.
//!
//! Only with the feature `trace`. Closed until somebody records; then with room for a number
//! of steps that is made before, so that nothing allocates where a step is added. The
//! worker's thread adds (`steps.rs`), whoever records takes all at the end.

#![cfg_attr(
    not(feature = "trace"),
    allow(dead_code, reason = "for the feature `trace`")
)]

use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use super::wait_mark::Blocker;
use crate::driver::WaitTarget;
use crate::task::Addr;
use crate::util::no_park::NoParkMutex;

/// What happened to a task, on one worker.
#[derive(Clone, Debug)]
pub(crate) struct TaskStep {
    pub(crate) at: Instant,
    /// What it is known by.
    pub(crate) task: Addr,
    pub(crate) kind: StepKind,
}

#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    /// It came to the worker.
    Spawned {
        name: Option<Arc<str>>,
        location: &'static Location<'static>,
        by: Option<Addr>,
    },
    Resumed,
    /// It goes on without being woken.
    Yielded,
    /// Until it is woken, by a descriptor or a time, or by what its mark says.
    Parked(Option<WaitTarget>, Option<Blocker>),
    /// By the task that ran here, or, if none did, by what came from outside.
    Woken {
        by: Option<Addr>,
    },
    Ended,
}

/// The steps of one worker.
#[derive(Default)]
pub(crate) struct StepLog(NoParkMutex<Option<OpenLog>>);

struct OpenLog {
    steps: Vec<TaskStep>,
    /// Steps that there was no room for.
    lost: u64,
}

impl StepLog {
    /// Has steps added, until there are so many. `false` if somebody else records.
    pub(crate) fn open(&self, room: usize) -> bool {
        let fresh = OpenLog {
            steps: Vec::with_capacity(room),
            lost: 0,
        };
        let mut log = self.0.lock();
        let free = log.is_none();
        if free {
            *log = Some(fresh);
        }
        free
    }

    /// The steps, and how many there was no room for.
    pub(crate) fn close(&self) -> (Vec<TaskStep>, u64) {
        let log = self.0.lock().take();
        log.map_or((Vec::new(), 0), |log| (log.steps, log.lost))
    }

    pub(super) fn add(&self, task: impl FnOnce() -> Addr, kind: impl FnOnce() -> StepKind) {
        if let Some(log) = &mut *self.0.lock() {
            if log.steps.len() == log.steps.capacity() {
                log.lost += 1;
                return;
            }
            log.steps.push(TaskStep {
                at: Instant::now(),
                task: task(),
                kind: kind(),
            });
        }
    }
}
