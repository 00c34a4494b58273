//! The mailbox: how other threads reach a worker, and how it may sleep.
//!
//! One lock guards what is for the worker (messages about its tasks, and the
//! injector queue of tasks that have not started) and whether it sleeps. That is
//! all of the protocol: a message is either there when the worker asks whether it
//! may sleep, or it finds the worker asleep and notifies it. README.md beside this file has the
//! steps, the proof, and what was rejected.
//!
//! Messages are state and no queue: of two that say the same ([`Mail::says`]), one is
//! enough, wherever they lie between two reads. So there are never many more than there
//! are different things to say, however often others say them to a worker that computes.

use std::collections::{BTreeSet, VecDeque};

use crate::driver::Notifier;
use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a message is to its mailbox.
pub(crate) trait Mail: Sized {
    /// As soon as there are so many messages, those that say the same are merged.
    const MERGE_AT: usize = 256;

    /// What it says; nothing if no other can stand for it.
    type Says: Ord;
    fn says(&self) -> Option<Self::Says>;

    /// Whether somebody still wants it to be read.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Whether it is for a worker that does not read its mail yet.
    fn can_wait(&self) -> bool;
}

/// Messages of type `M` for one worker, and injected tasks `T` that any may take.
pub(crate) struct Mailbox<M, T> {
    /// There may be messages. Written under the lock, read without it: a
    /// worker that is awake looks here first. It may lag, so the worker that
    /// is about to sleep looks at the gate itself.
    posted: AtomicBool,
    /// How many injected tasks there are; as `posted`.
    injected: AtomicUsize,
    /// Those of them that other workers may take.
    stealable: AtomicUsize,
    /// The worker has nothing to do: others may wake it for their tasks.
    idle: AtomicBool,
    gate: Lock<Gate<M, T>>,
}

/// Tells one owner of a mailbox from all that come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u64);

struct Gate<M, T> {
    /// `None` while no worker owns the mailbox.
    owner: Option<Owner>,
    /// Owners that there have been.
    owners: u64,
    /// The worker sleeps, or is about to: what clears this must wake it.
    asleep: bool,
    /// It slept and has been notified: it comes, and takes its tasks itself.
    waking: bool,
    messages: Vec<M>,
    /// Messages that there may be before they are merged again.
    merge_at: usize,
    /// The injector queue, the oldest task first.
    tasks: VecDeque<T>,
    /// Those of them that no other worker may take, as long as this one runs.
    pinned: VecDeque<T>,
    /// Ends the worker's sleep; called with the lock held.
    notifier: Option<Notifier>,
}

impl<M: Mail, T> Mailbox<M, T> {
    /// A mailbox without an owner.
    pub(crate) fn closed() -> Self {
        Self {
            posted: AtomicBool::new(false),
            injected: AtomicUsize::new(0),
            stealable: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            gate: Lock::new(Gate {
                owner: None,
                owners: 0,
                asleep: false,
                waking: false,
                messages: Vec::new(),
                merge_at: M::MERGE_AT,
                tasks: VecDeque::new(),
                pinned: VecDeque::new(),
                notifier: None,
            }),
        }
    }

    /// Becomes the owner; `None` if there is one.
    #[must_use]
    pub(crate) fn open(&self) -> Option<Owner> {
        let mut gate = self.gate.lock();
        if gate.owner.is_some() {
            return None;
        }
        gate.owners += 1;
        gate.owner = Some(Owner(gate.owners));
        gate.owner
    }

    /// Gives the mailbox up, unless that was done before; returns the tasks
    /// that no worker has taken. Messages are about tasks that have ended.
    #[must_use]
    pub(crate) fn close(&self, owner: Owner) -> VecDeque<T> {
        let mut gate = self.gate.lock();
        if gate.owner != Some(owner) {
            return VecDeque::new();
        }
        gate.owner = None;
        let messages = std::mem::take(&mut gate.messages);
        let mut tasks = std::mem::take(&mut gate.tasks);
        tasks.append(&mut gate.pinned);
        self.posted.store(false, Ordering::Relaxed);
        self.count_injected(&gate);
        drop(gate);
        // Dropping one may wake a task.
        drop(messages);
        tasks
    }

    /// Whether it has an owner, and how many messages and tasks lie in it.
    pub(crate) fn contents(&self) -> (bool, usize) {
        let gate = self.gate.lock();
        let lie = gate.messages.len() + gate.tasks.len() + gate.pinned.len();
        (gate.owner.is_some(), lie)
    }

    /// A worker begins, or (`None`) ends, to read the mail. Tasks and what can wait do
    /// so meanwhile.
    pub(crate) fn set_notifier(&self, notifier: Option<Notifier>) {
        let mut gate = self.gate.lock();
        gate.notifier = notifier;
        (gate.asleep, gate.waking) = (false, false);
        self.idle.store(false, Ordering::Relaxed);
    }

    /// Leaves a message; wakes the worker if it sleeps. Dropped if the mailbox has no
    /// owner or nobody reads it, and the message can't wait: what it is about has ended.
    pub(crate) fn post(&self, message: M) {
        // Dropped outside the lock: that may wake a task.
        let _merged;
        let mut gate = self.gate.lock();
        if gate.owner.is_some() && (gate.notifier.is_some() || message.can_wait()) {
            if gate.messages.len() >= gate.merge_at {
                _merged = gate.merge();
            }
            gate.messages.push(message);
            self.posted.store(true, Ordering::Relaxed);
            gate.wake();
        }
    }

    /// Leaves a task for this worker, or (unless it is `pinned`) for one that has
    /// nothing to do. Wakes the worker if it sleeps; whether it is on its way here.
    /// Comes back if the mailbox is not `owner`'s any more: a task, unlike a
    /// message, means one runtime and no other.
    pub(crate) fn inject(&self, owner: Owner, task: T, pinned: bool) -> Result<bool, T> {
        let mut gate = self.gate.lock();
        if gate.owner != Some(owner) {
            return Err(task);
        }
        if pinned {
            gate.pinned.push_back(task);
        } else {
            gate.tasks.push_back(task);
        }
        self.count_injected(&gate);
        Ok(gate.wake())
    }

    /// Whether [`Mailbox::read`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_mail(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// Whether [`Mailbox::take_injected`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_injected(&self) -> bool {
        self.injected() > 0
    }

    /// Whether [`Mailbox::steal_injected`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_stealable(&self) -> bool {
        self.stealable.load(Ordering::Relaxed) > 0
    }

    /// Whether an idle worker, that `bids` for tasks or does not, had better not sleep.
    /// Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_news(&self, bids: bool) -> bool {
        let nudged = || !self.idle.load(Ordering::Relaxed);
        self.has_mail() || bids && (self.has_injected() || nudged())
    }

    /// Moves the messages into `into`, which is empty. Its memory is used for the next
    /// ones, unless it was needed for a spike.
    pub(crate) fn read(&self, into: &mut Vec<M>) {
        debug_assert!(into.is_empty());
        if into.capacity() > 4 * M::MERGE_AT {
            *into = Vec::new();
        }
        let mut gate = self.gate.lock();
        self.posted.store(false, Ordering::Relaxed);
        std::mem::swap(&mut gate.messages, into);
        gate.merge_at = M::MERGE_AT;
    }

    /// Takes the oldest task, for the owner to run it.
    pub(crate) fn take_injected(&self) -> Option<T> {
        self.pop_injected(|gate| gate.pinned.pop_front().or_else(|| gate.tasks.pop_front()))
    }

    /// Takes the oldest task for another worker; none of one that was just
    /// notified of it, and would find nothing when it comes. If `stopping` this
    /// worker may have ended, and then somebody else ends its pinned tasks.
    pub(crate) fn steal_injected(&self, stopping: bool) -> Option<T> {
        self.pop_injected(|gate| match gate {
            _ if gate.waking => None,
            _ if stopping && gate.tasks.is_empty() => gate.pinned.pop_front(),
            _ => gate.tasks.pop_front(),
        })
    }

    fn pop_injected(&self, pop: impl FnOnce(&mut Gate<M, T>) -> Option<T>) -> Option<T> {
        let mut gate = self.gate.lock();
        let task = pop(&mut gate);
        self.count_injected(&gate);
        task
    }

    fn count_injected(&self, gate: &Gate<M, T>) {
        self.injected.store(gate.injected(), Ordering::Relaxed);
        self.stealable.store(gate.tasks.len(), Ordering::Relaxed);
    }

    /// Tasks that no worker has taken. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn injected(&self) -> usize {
        self.injected.load(Ordering::Relaxed)
    }

    /// The worker has nothing to do, and will look at the others' tasks next,
    /// then ask whether it may sleep.
    pub(crate) fn set_idle(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }

    /// Sends an idle worker to look at the others' tasks. `false` if this one
    /// is not idle, or was sent already.
    #[must_use]
    pub(crate) fn nudge(&self) -> bool {
        // The plain load keeps the common case free of locked instructions.
        if !self.idle.load(Ordering::Relaxed) || !self.idle.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.gate.lock().wake();
        true
    }

    /// The worker wants to sleep: `false` if there is something to do first,
    /// or if it was nudged since [`Mailbox::set_idle`]. After `true`, whatever
    /// comes notifies it. A worker that has no room for tasks, and so does not bid for
    /// them, does not stay awake for its own: it will have, when something else happens.
    #[must_use]
    #[inline]
    pub(crate) fn may_sleep(&self, bids: bool) -> bool {
        let mut gate = self.gate.lock();
        let nudged = !self.idle.load(Ordering::Relaxed);
        let for_tasks = bids && (nudged || gate.injected() > 0);
        gate.asleep = gate.messages.is_empty() && !for_tasks;
        gate.asleep
    }

    /// The worker is awake, for whatever reason.
    pub(crate) fn awake(&self) {
        self.idle.store(false, Ordering::Relaxed);
        let mut gate = self.gate.lock();
        (gate.asleep, gate.waking) = (false, false);
    }
}

impl<M: Mail, T> Gate<M, T> {
    /// Keeps one of all messages that say the same, and none that nobody wants; returns
    /// the others. There may be twice as many before the next time, so that each message
    /// is looked at a few times only.
    #[cold]
    fn merge(&mut self) -> Vec<M> {
        let mut said = BTreeSet::new();
        let mut is_news = |message: &M| match message.says() {
            Some(words) => said.insert(words),
            None => message.is_wanted(),
        };
        let all = std::mem::take(&mut self.messages).into_iter();
        let (news, others) = all.partition(&mut is_news);
        self.messages = news;
        self.merge_at = M::MERGE_AT.max(2 * self.messages.len());
        others
    }

    fn injected(&self) -> usize {
        self.tasks.len() + self.pinned.len()
    }

    /// Notifies the worker if it sleeps; whether it did.
    fn wake(&mut self) -> bool {
        let asleep = std::mem::take(&mut self.asleep);
        if asleep {
            self.waking = true;
            let notify = self.notifier.as_ref();
            notify.expect("a worker that sleeps has a notifier")();
        }
        asleep
    }
}

#[cfg(all(test, not(loom)))]
impl<M, T> Mailbox<M, T> {
    /// Messages that there are, and that there is memory for.
    pub(crate) fn messages(&self) -> (usize, usize) {
        let gate = self.gate.lock();
        (gate.messages.len(), gate.messages.capacity())
    }
}
