//! Snapshot requests: every worker is asked for its tasks, and what they wait for.
//!
//! Each worker gets a [`SnapshotRequest`] by mail and answers it when it reads its
//! mail, between two coroutines (`inspect.rs`). A request that is dropped counts
//! as answered.

use std::backtrace::Backtrace;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::driver::WaitTarget;
use crate::shim::Lock;
use crate::task::{Addr, TaskState};

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Which tasks there are, and in what state.
    States,
    /// What the parked ones wait for, since when and where in their code, too.
    Waits,
}

/// One task, as its worker describes it.
#[derive(Clone, Debug)]
pub(crate) struct TaskInfo {
    pub(crate) identity: Addr,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) location: &'static Location<'static>,
    pub(crate) state: TaskState,
    pub(crate) cancelled: bool,
    pub(crate) shared: bool,
    /// Descriptors and times that it waits for, if it is parked.
    pub(crate) awaits: Vec<WaitTarget>,
    /// How long it has been parked.
    pub(crate) parked_for: Option<Duration>,
    pub(crate) backtrace: Option<Arc<Backtrace>>,
}

/// The answers to the requests that it makes.
#[derive(Clone)]
pub(crate) struct TaskSnapshot(Arc<Lock<Answers>>);

#[derive(Default)]
struct Answers {
    /// Requests that have not been answered.
    missing: usize,
    tasks: Vec<TaskInfo>,
    waker: Option<Waker>,
}

/// Asks one worker.
pub(crate) struct SnapshotRequest {
    pub(super) detail: Detail,
    snapshot: TaskSnapshot,
}

impl TaskSnapshot {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Lock::new(Answers::default())))
    }

    pub(crate) fn request(&self, detail: Detail) -> SnapshotRequest {
        self.0.lock().missing += 1;
        SnapshotRequest {
            detail,
            snapshot: self.clone(),
        }
    }

    /// Whether all have answered; if not, has the waker woken when they have.
    pub(crate) fn is_complete(&self, waker: Waker) -> bool {
        let mut answers = self.0.lock();
        if answers.missing == 0 {
            return true;
        }
        let old = answers.waker.replace(waker);
        drop(answers);
        // Dropped outside the lock: it may be foreign code.
        drop(old);
        false
    }

    /// The tasks of those that have answered so far.
    pub(crate) fn take(&self) -> Vec<TaskInfo> {
        std::mem::take(&mut self.0.lock().tasks)
    }
}

impl SnapshotRequest {
    pub(super) fn answer(self, tasks: impl Iterator<Item = TaskInfo>) {
        self.snapshot.0.lock().tasks.extend(tasks);
    }
}

impl Drop for SnapshotRequest {
    fn drop(&mut self) {
        let mut answers = self.snapshot.0.lock();
        answers.missing -= 1;
        let waker = match answers.missing {
            0 => answers.waker.take(),
            _ => None,
        };
        drop(answers);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
