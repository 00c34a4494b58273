//! The workers of one runtime, together: who gets new work, who steals it.
//!
//! Work that has not started is a closure, so it may go anywhere; a coroutine
//! that has started stays (I3). A worker offers what its coroutines spawn in
//! its own mailbox, where it takes it from itself, and where workers that have
//! nothing to do find it.

use std::io;

use super::counters::Counters;
use super::mailbox::Owner;
use super::remote::{Message, Remote, Unstarted};
use super::watchers::{Watch, Watchers};
use crate::shim::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Tasks that a worker may have more than its neighbour without being passed
/// over.
const SLACK: u64 = 64;

/// The workers of one runtime.
pub(crate) struct Pool {
    remotes: Vec<&'static Remote>,
    /// What each remote knows us by.
    owners: Vec<Owner>,
    /// Where the next task from outside goes, more or less.
    turn: AtomicUsize,
    stopping: AtomicBool,
    /// The remotes may be another runtime's.
    closed: AtomicBool,
    /// The number of the run, which no other of any runtime has; odd while it
    /// is on.
    runs: AtomicU64,
    /// Who wants to hear when tasks have ended.
    pub(super) watchers: Watchers,
}

impl Pool {
    /// Claims a place for each of `workers` workers, one at least.
    ///
    /// # Errors
    ///
    /// As [`Remote::claim`].
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let mut pool = Self {
            remotes: Vec::new(),
            owners: Vec::new(),
            turn: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            runs: AtomicU64::new(0),
            watchers: Watchers::new(),
        };
        // What is claimed already is given back if the pool is dropped half-way.
        for _ in 0..workers {
            let (remote, owner) = Remote::claim()?;
            pool.remotes.push(remote);
            pool.owners.push(owner);
        }
        Ok(pool)
    }

    /// What each worker has counted; nothing once the runtime has ended.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &'static Counters> {
        let open = !self.closed.load(Ordering::Relaxed);
        self.remotes
            .iter()
            .filter(move |_| open)
            .map(|remote| &remote.counters)
    }

    /// The workers, in order; the first is the thread that calls `run`.
    pub(crate) fn remotes(&self) -> &[&'static Remote] {
        &self.remotes
    }

    /// Whether closures that may move are offered to all workers.
    #[inline(always)]
    pub(crate) fn has_many(&self) -> bool {
        self.remotes.len() > 1
    }

    /// Places work from outside: on the worker whose turn it is, or on the one
    /// after it if that has much less to do.
    pub(crate) fn place(&self, task: Unstarted) -> Result<(), Unstarted> {
        let count = self.remotes.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (one, other) = (turn % count, (turn + 1) % count);
        let lighter = self.remotes[one].load() > 2 * self.remotes[other].load() + SLACK;
        self.offer(if lighter { other } else { one }, task)
    }

    /// Leaves work with a worker, and wakes an idle one that could steal it.
    /// Comes back when the runtime has ended.
    pub(crate) fn offer(&self, place: usize, task: Unstarted) -> Result<(), Unstarted> {
        self.remotes[place]
            .mailbox
            .offer(self.owners[place], task)?;
        // The worker itself will look; one other is enough.
        let _ = self.others(place).any(|other| other.mailbox.nudge());
        Ok(())
    }

    /// Work that another worker has not started, for a thief. A glance: it may
    /// miss what has just been offered.
    pub(crate) fn steal(&self, thief: usize) -> Option<Unstarted> {
        self.others(thief)
            .filter(|other| other.mailbox.has_jobs())
            .find_map(|other| other.mailbox.take_job())
    }

    /// As [`Pool::steal`], for a thief that has said that it is idle and sleeps
    /// next. It takes every lock: whoever offers after the look knows of the
    /// idle thief then, by the same lock (README.md).
    pub(crate) fn steal_before_sleep(&self, thief: usize) -> Option<Unstarted> {
        self.others(thief)
            .find_map(|other| other.mailbox.take_job())
    }

    /// Whether the runtime's main coroutine has ended.
    #[inline(always)]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Tells all workers to cancel what lives, and to end with it.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.remotes
            .iter()
            .for_each(|remote| remote.mailbox.post(Message::Stop));
    }

    /// Makes the pool ready for the next run, which lasts until the guard is
    /// dropped.
    pub(crate) fn restart(&self) -> impl Drop {
        struct End<'a>(&'a Pool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.runs.fetch_add(1, Ordering::Relaxed);
                self.0.watchers.tell();
            }
        }
        self.stopping.store(false, Ordering::Relaxed);
        // A message may find its remote with another runtime: see `is_run`.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let run = NEXT.fetch_add(2, Ordering::Relaxed);
        self.runs.store(run, Ordering::Relaxed);
        End(self)
    }

    /// The run that is on, if one is.
    pub(crate) fn run(&self) -> Option<u64> {
        let run = self.runs.load(Ordering::Relaxed);
        (run % 2 == 1).then_some(run)
    }

    pub(crate) fn is_run(&self, run: u64) -> bool {
        self.run() == Some(run)
    }

    /// Tasks alive, unstarted ones too. May miss one that a worker is just
    /// taking out of a mailbox.
    pub(crate) fn load(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.load()).sum()
    }

    /// To be woken when a worker has nothing to do and tasks have ended since;
    /// look at [`Pool::load`] after leaving a waker.
    pub(crate) fn watch(&self) -> Watch<'_> {
        self.watchers.watch()
    }

    /// Tells every worker something.
    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        self.remotes
            .iter()
            .for_each(|remote| remote.mailbox.post(message()));
    }

    /// Ends the runtime: nothing can be placed any more, and what nobody has
    /// started is cancelled.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for (remote, &owner) in self.remotes.iter().zip(&self.owners) {
            // Dropped here, not under the mailbox's lock: the destructors of
            // closures are foreign code.
            drop(remote.mailbox.close(owner));
        }
    }

    /// All others, beginning after `place`, so that thieves spread out.
    fn others(&self, place: usize) -> impl Iterator<Item = &'static Remote> {
        let (before, after) = self.remotes.split_at(place);
        after.iter().skip(1).chain(before).copied()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}
