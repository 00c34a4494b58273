//! Snapshot requests: every worker is asked for its tasks, and what they wait for.
//!
//! Each worker gets a [`SnapshotRequest`] by mail and answers it when it reads its
//! mail, between two coroutines (`inspect.rs`). A request that is dropped counts
//! as answered.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::wait_mark::Blocker;
use crate::driver::WaitTarget;
use crate::shim::Lock;
use crate::sys::symbols::Symbols;
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
    /// Bytes that its frames take, if it is parked on a stack.
    pub(crate) frame_bytes: usize,
    /// Not waited for when a runtime drains.
    pub(crate) daemon: bool,
    /// Descriptors and times that it waits for, if it is parked.
    pub(crate) awaits: Vec<WaitTarget>,
    /// How long it has been parked.
    pub(crate) parked_for: Option<Duration>,
    pub(crate) backtrace: Option<Arc<Trace>>,
    /// What it waits for beside those, if it is parked.
    pub(crate) blocker: Option<Blocker>,
    /// Whose end that is, or who holds that, once it is known.
    pub(crate) blocked_by: Option<Addr>,
    /// The coroutine that has taken the lock that it waits for has ended.
    pub(crate) holder_ended: bool,
    /// By what the blockers of others name it.
    pub(crate) marks: TaskMarks,
}

/// By what a task is known to those that wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskMarks {
    pub(crate) worker: u32,
    pub(crate) key: u64,
    pub(crate) cell: usize,
    /// With thread-locals of its own; else 0.
    pub(crate) number: u32,
}

/// A backtrace.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Of the calls, the innermost first.
    pub(crate) addresses: Box<[usize]>,
    /// The same with names, where [`Symbols`] has none.
    pub(super) named: Option<Backtrace>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.named {
            Some(trace) => trace.fmt(f),
            None => Symbols(&self.addresses).fmt(f),
        }
    }
}

/// The answers to the requests that it makes.
#[derive(Clone)]
pub(crate) struct TaskSnapshot(Arc<Lock<Answers>>);

#[derive(Default)]
struct Answers {
    /// Requests that have not been answered.
    missing: usize,
    tasks: Vec<TaskInfo>,
    /// The workers that have answered, by index.
    answered: Vec<u32>,
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
        // There are always more of them than are missing.
        let snapshot = self.clone();
        snapshot.0.lock().missing += 1;
        SnapshotRequest { detail, snapshot }
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

    /// The tasks of those that have answered so far, and who they are, by index.
    pub(crate) fn take(&self) -> (Vec<TaskInfo>, Vec<u32>) {
        let mut answers = self.0.lock();
        let tasks = std::mem::take(&mut answers.tasks);
        (tasks, std::mem::take(&mut answers.answered))
    }
}

impl SnapshotRequest {
    /// Whether somebody waits for the answers.
    pub(super) fn is_wanted(&self) -> bool {
        let missing = self.snapshot.0.lock().missing;
        Arc::strong_count(&self.snapshot.0) > missing
    }

    pub(super) fn answer(self, worker: u32, tasks: impl Iterator<Item = TaskInfo>) {
        let mut answers = self.snapshot.0.lock();
        answers.tasks.extend(tasks);
        answers.answered.push(worker);
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
