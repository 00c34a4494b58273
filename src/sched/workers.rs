//! The workers of one runtime: where a new task is injected, which worker steals it.
//!
//! A task that has not started is a closure, so it may go anywhere; a coroutine
//! that has started stays (I3). A worker injects what its coroutines spawn into
//! its own mailbox, takes it from there itself, and workers that have nothing to
//! do find it there.

use std::io;

use super::counters::Counters;
use super::mailbox::Owner;
use super::plan::InjectedTask;
use super::quiescence::{QuiescenceWaiter, QuiescenceWaiters};
use super::worker_handle::{Message, WorkerHandle};
use crate::shim::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Tasks that a worker may have more than its neighbour without being passed
/// over.
const SLACK: u64 = 64;

/// The workers of one runtime.
pub(crate) struct Workers {
    handles: Vec<&'static WorkerHandle>,
    /// What each handle's mailbox knows us by.
    owners: Vec<Owner>,
    /// Where the next task from outside goes, more or less.
    turn: AtomicUsize,
    stopping: AtomicBool,
    /// The handles may be another runtime's.
    closed: AtomicBool,
    /// The number of the run, which no other of any runtime has; odd while it
    /// is on.
    runs: AtomicU64,
    pub(super) quiescence: QuiescenceWaiters,
}

impl Workers {
    /// Claims a handle for each of `count` workers, one at least.
    ///
    /// # Errors
    ///
    /// As [`WorkerHandle::claim`].
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let mut workers = Self {
            handles: Vec::new(),
            owners: Vec::new(),
            turn: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            quiescence: QuiescenceWaiters::new(),
        };
        // What is claimed already is given back if this is dropped half-way.
        for _ in 0..count {
            let (handle, owner) = WorkerHandle::claim()?;
            workers.handles.push(handle);
            workers.owners.push(owner);
        }
        Ok(workers)
    }

    /// What each worker has counted; nothing once the runtime has ended.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &'static Counters> {
        let open = !self.closed.load(Ordering::Relaxed);
        self.handles
            .iter()
            .filter(move |_| open)
            .map(|handle| &handle.counters)
    }

    /// The workers, in order; the first is the thread that calls `run`.
    pub(crate) fn handles(&self) -> &[&'static WorkerHandle] {
        &self.handles
    }

    /// Whether there are other workers that could take a task.
    #[inline(always)]
    pub(crate) fn has_many(&self) -> bool {
        self.handles.len() > 1
    }

    /// Injects a task from outside: on the worker whose turn it is, or on the one
    /// after it if that has much less to do.
    pub(crate) fn inject(&self, task: InjectedTask) -> Result<(), InjectedTask> {
        let count = self.handles.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (one, other) = (turn % count, (turn + 1) % count);
        let lighter = self.handles[one].load() > 2 * self.handles[other].load() + SLACK;
        self.inject_on(if lighter { other } else { one }, task)
    }

    /// Injects a task on one worker, and wakes an idle one that could steal it.
    /// Comes back when the runtime has ended.
    pub(crate) fn inject_on(
        &self,
        position: usize,
        task: InjectedTask,
    ) -> Result<(), InjectedTask> {
        self.handles[position]
            .mailbox
            .inject(self.owners[position], task)?;
        // The worker itself will look; one other is enough.
        let _ = self.others(position).any(|other| other.mailbox.nudge());
        Ok(())
    }

    /// A task that another worker has not taken, for a thief. A glance: it may
    /// miss what has just been injected.
    pub(crate) fn steal(&self, thief: usize) -> Option<InjectedTask> {
        self.others(thief)
            .filter(|other| other.mailbox.has_injected())
            .find_map(|other| other.mailbox.take_injected())
    }

    /// As [`Workers::steal`], for a thief that has said that it is idle and sleeps
    /// next. It takes every lock: a spawner that injects after the look knows of the
    /// idle thief then, by the same lock (README.md).
    pub(crate) fn steal_before_sleep(&self, thief: usize) -> Option<InjectedTask> {
        if !self.has_many() {
            return None;
        }
        self.others(thief)
            .find_map(|other| other.mailbox.take_injected())
    }

    /// Whether the runtime's main coroutine has ended.
    #[inline(always)]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells all workers to cancel what lives, and to end with it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.broadcast(|| Message::Stop);
    }

    /// Begins the next run, which lasts until the guard is dropped.
    pub(crate) fn restart(&self) -> impl Drop {
        struct RunGuard<'a>(&'a Workers);
        impl Drop for RunGuard<'_> {
            fn drop(&mut self) {
                self.0.runs.fetch_add(1, Ordering::Relaxed);
                self.0.quiescence.notify();
            }
        }
        self.stopping.store(false, Ordering::Relaxed);
        // A message may find its handle with another runtime: see `is_run`.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let run = NEXT.fetch_add(2, Ordering::Relaxed);
        self.runs.store(run, Ordering::Relaxed);
        RunGuard(self)
    }

    /// The run that is on, if one is.
    pub(crate) fn run(&self) -> Option<u64> {
        let run = self.runs.load(Ordering::Relaxed);
        (run % 2 == 1).then_some(run)
    }

    pub(crate) fn is_run(&self, run: u64) -> bool {
        self.run() == Some(run)
    }

    /// Tasks alive, injected ones too. May miss one that a worker is just
    /// taking out of a mailbox.
    pub(crate) fn load(&self) -> u64 {
        self.handles.iter().map(|handle| handle.load()).sum()
    }

    /// To be woken when a worker has nothing to do and tasks have ended since;
    /// look at [`Workers::load`] after leaving a waker.
    pub(crate) fn quiescence_waiter(&self) -> QuiescenceWaiter<'_> {
        self.quiescence.register()
    }

    /// Leaves a message with every worker.
    pub(crate) fn broadcast(&self, message: impl Fn() -> Message) {
        self.handles
            .iter()
            .for_each(|handle| handle.mailbox.post(message()));
    }

    /// Ends the runtime: nothing can be injected any more, and tasks that no worker
    /// has taken are cancelled.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for (handle, &owner) in self.handles.iter().zip(&self.owners) {
            // Dropped here, not under the mailbox's lock: the destructors of
            // closures are foreign code.
            drop(handle.mailbox.close(owner));
        }
    }

    /// All others, beginning after `position`, so that thieves spread out.
    fn others(&self, position: usize) -> impl Iterator<Item = &'static WorkerHandle> {
        let (before, after) = self.handles.split_at(position);
        after.iter().skip(1).chain(before).copied()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.close();
    }
}
