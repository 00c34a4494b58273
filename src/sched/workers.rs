//! The workers of one runtime: where a new task is injected, which worker steals it.
//!
//! A task that has not started is a closure, so it may go anywhere; a coroutine
//! that has started stays (I3). A worker injects what its coroutines spawn into
//! its own mailbox, takes it from there itself, and workers that have nothing to
//! do find it there.

use std::io;

use super::counters::Counters;
use super::idle;
use super::mailbox::{Mailbox, Owner};
use super::plan::{InjectedTask, too_many};
use super::quiescence::{QuiescenceWaiter, QuiescenceWaiters};
use super::watch::Doze;
use super::worker_handle::{Message, WorkerHandle};
use crate::shim::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Tasks that a worker may have more than another, beside a sixteenth, before what
/// it spawns goes to the other: so many that a coroutine which spawns a few and
/// joins them keeps them here.
const SLACK: u64 = 4;

/// The workers of one runtime.
pub(crate) struct Workers {
    handles: Vec<&'static WorkerHandle>,
    /// What each handle's mailbox knows us by.
    owners: Vec<Owner>,
    /// Tasks that each may have.
    capacity: u64,
    /// Where the next task from outside goes, more or less.
    turn: AtomicUsize,
    stopping: AtomicBool,
    /// The handles may be another runtime's.
    closed: AtomicBool,
    /// The number of the run, which no other of any runtime has; odd while it
    /// is on.
    runs: AtomicU64,
    /// Tasks alive of which a drain waits for none, on all workers.
    pub(super) daemons: AtomicU64,
    pub(super) quiescence: QuiescenceWaiters,
    /// What they know of their watchdog.
    pub(super) doze: Doze,
}

impl Workers {
    /// Claims a handle for each of `count` workers, one at least, which may have
    /// `capacity` tasks each.
    ///
    /// # Errors
    ///
    /// As [`WorkerHandle::claim`].
    pub(crate) fn new(count: usize, capacity: u32) -> io::Result<Self> {
        let mut workers = Self {
            handles: Vec::new(),
            owners: Vec::new(),
            capacity: capacity.into(),
            turn: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            daemons: AtomicU64::new(0),
            quiescence: QuiescenceWaiters::new(),
            doze: Doze::default(),
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
            .inspect(|handle| handle.watch.count_time(&handle.counters))
            .map(|handle| &handle.counters)
    }

    /// The workers, in order; the first is the thread that calls `run`.
    pub(crate) fn handles(&self) -> &[&'static WorkerHandle] {
        &self.handles
    }

    /// The position of a worker that there is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for one that there is not.
    pub(crate) fn check(&self, position: usize) -> io::Result<usize> {
        if position < self.handles.len() {
            return Ok(position);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "there is no worker {position}: this runtime has {}, counted from 0",
                self.handles.len()
            ),
        ))
    }

    /// Whether there are other workers that could take a task.
    #[inline(always)]
    pub(crate) fn has_many(&self) -> bool {
        self.handles.len() > 1
    }

    /// Where a task goes: to the worker that it is pinned to; else, if a worker spawns
    /// it, to that one or one that has less to do; and from outside to the one whose
    /// turn it is. If there is no room, to any that has.
    ///
    /// # Errors
    ///
    /// As [`Workers::check`]. `QuotaExceeded`: there is no room.
    pub(crate) fn place(&self, pinned: Option<usize>, spawner: Option<usize>) -> io::Result<usize> {
        let has_room = |&position: &usize| self.handles[position].load() < self.capacity;
        let choice = match (pinned, spawner) {
            (Some(position), _) => self.check(position)?,
            (None, Some(spawner)) => self.place_beside(spawner),
            (None, None) => self.place_in_turn(),
        };
        if has_room(&choice) {
            return Ok(choice);
        }
        let others = 0..if pinned.is_some() {
            0
        } else {
            self.handles.len()
        };
        others.into_iter().find(has_room).ok_or_else(|| {
            let what = match pinned {
                Some(position) => format!("worker {position} has"),
                None if self.has_many() => "each worker has".into(),
                None => "the worker has".into(),
            };
            too_many(&what, self.capacity)
        })
    }

    /// The worker whose turn it is, or the one after it if that has less to do.
    fn place_in_turn(&self) -> usize {
        let count = self.handles.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (one, other) = (turn % count, (turn + 1) % count);
        let lighter = self.handles[one].load() > self.handles[other].load();
        if lighter { other } else { one }
    }

    /// The worker that spawns, or another whose turn it is if that has less to do. So
    /// connections that come one by one spread, although the acceptor is the first to
    /// have time for each of them.
    fn place_beside(&self, spawner: usize) -> usize {
        let own = self.handles[spawner].load();
        if own <= SLACK || !self.has_many() {
            return spawner;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.handles.len() - 1);
        let other = if turn < spawner { turn } else { turn + 1 };
        let load = self.handles[other].load();
        let lighter = own > load + load / 16 + SLACK;
        if lighter { other } else { spawner }
    }

    /// Injects a task on one worker, and wakes an idle one that could steal it.
    /// Comes back when the runtime has ended.
    pub(crate) fn inject(&self, position: usize, task: InjectedTask) -> Result<(), InjectedTask> {
        let pinned = task.is_pinned();
        let mailbox = &self.handles[position].mailbox;
        let others = self.other_mailboxes(position);
        idle::inject(mailbox, self.owners[position], (task, pinned), others)
    }

    /// The oldest task that was injected on this worker.
    pub(crate) fn take_injected(&self, position: usize) -> Option<InjectedTask> {
        let mailbox = &self.handles[position].mailbox;
        idle::take_injected(mailbox, self.other_mailboxes(position))
    }

    /// Tells an idle worker that this one has injected tasks.
    pub(crate) fn nudge(&self, position: usize) {
        idle::nudge(self.other_mailboxes(position));
    }

    /// A task that another worker has not taken, for a thief. A glance: it may
    /// miss what has just been injected.
    pub(crate) fn steal(&self, thief: usize) -> Option<InjectedTask> {
        idle::steal(self.other_mailboxes(thief), self.is_stopping())
    }

    /// As [`Workers::steal`], for a thief that has said that it is idle and sleeps next.
    pub(crate) fn steal_before_sleep(&self, thief: usize) -> Option<InjectedTask> {
        if !self.has_many() {
            return None;
        }
        idle::steal_before_sleep(self.other_mailboxes(thief), || self.is_stopping())
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

    /// As [`Workers::load`], without daemons; may miss others, too, or count a daemon.
    pub(crate) fn load_but_daemons(&self) -> u64 {
        let daemons = self.daemons.load(Ordering::Relaxed);
        self.load().saturating_sub(daemons)
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
    fn others(&self, position: usize) -> impl Iterator<Item = &'static WorkerHandle> + Clone {
        let (before, after) = self.handles.split_at(position);
        after.iter().skip(1).chain(before).copied()
    }

    fn other_mailboxes(
        &self,
        position: usize,
    ) -> impl Iterator<Item = &'static Mailbox<Message, InjectedTask>> + Clone {
        self.others(position).map(|other| &other.mailbox)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.close();
    }
}
