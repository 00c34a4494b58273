//! The mailbox: how other threads reach a worker, and how it may sleep.
//!
//! One lock guards what is for the worker (messages about its tasks, and the
//! injector queue of tasks that have not started) and whether it sleeps. That is
//! all of the protocol: a message is either there when the worker asks whether it
//! may sleep, or it finds the worker asleep and notifies it. README.md beside this file has the
//! steps, the proof, and what was rejected.

use std::collections::VecDeque;

use crate::driver::Notifier;
use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, Ordering};

/// Messages of type `M` for one worker, and injected tasks `T` that any may take.
pub(crate) struct Mailbox<M, T> {
    /// There may be messages. Written under the lock, read without it: a
    /// worker that is awake looks here first. It may lag, so the worker that
    /// is about to sleep looks at the gate itself.
    posted: AtomicBool,
    /// There may be injected tasks; as `posted`.
    injected: AtomicBool,
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
    messages: Vec<M>,
    /// The injector queue, the oldest task first.
    tasks: VecDeque<T>,
    /// Ends the worker's sleep; called with the lock held.
    notifier: Option<Notifier>,
}

impl<M, T> Mailbox<M, T> {
    /// A mailbox without an owner.
    pub(crate) fn closed() -> Self {
        Self {
            posted: AtomicBool::new(false),
            injected: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            gate: Lock::new(Gate {
                owner: None,
                owners: 0,
                asleep: false,
                messages: Vec::new(),
                tasks: VecDeque::new(),
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
        let tasks = std::mem::take(&mut gate.tasks);
        self.posted.store(false, Ordering::Relaxed);
        self.injected.store(false, Ordering::Relaxed);
        drop(gate);
        // Dropping one may wake a task.
        drop(messages);
        tasks
    }

    /// A worker begins, or (`None`) ends, to read the mail. Mail waits
    /// meanwhile.
    pub(crate) fn set_notifier(&self, notifier: Option<Notifier>) {
        let mut gate = self.gate.lock();
        gate.notifier = notifier;
        gate.asleep = false;
        self.idle.store(false, Ordering::Relaxed);
    }

    /// Leaves a message; wakes the worker if it sleeps. Dropped if the mailbox has no
    /// owner: what it is about has ended.
    pub(crate) fn post(&self, message: M) {
        let mut gate = self.gate.lock();
        if gate.owner.is_some() {
            gate.messages.push(message);
            self.posted.store(true, Ordering::Relaxed);
            gate.wake();
        }
    }

    /// Leaves a task for this worker, or for one that has nothing to do. Wakes
    /// the worker if it sleeps. Comes back if the mailbox is not `owner`'s any
    /// more: a task, unlike a message, means one runtime and no other.
    pub(crate) fn inject(&self, owner: Owner, task: T) -> Result<(), T> {
        let mut gate = self.gate.lock();
        if gate.owner != Some(owner) {
            return Err(task);
        }
        gate.tasks.push_back(task);
        self.injected.store(true, Ordering::Relaxed);
        gate.wake();
        Ok(())
    }

    /// Whether [`Mailbox::read`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_mail(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// Whether [`Mailbox::take_injected`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_injected(&self) -> bool {
        self.injected.load(Ordering::Relaxed)
    }

    /// Whether an idle worker had better not sleep. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_news(&self) -> bool {
        self.has_mail() || self.has_injected() || !self.idle.load(Ordering::Relaxed)
    }

    /// Moves the messages into `into`, which is empty.
    pub(crate) fn read(&self, into: &mut Vec<M>) {
        debug_assert!(into.is_empty());
        let mut gate = self.gate.lock();
        self.posted.store(false, Ordering::Relaxed);
        std::mem::swap(&mut gate.messages, into);
    }

    /// Takes the oldest task: the owner to run it, another worker to steal it.
    pub(crate) fn take_injected(&self) -> Option<T> {
        let mut gate = self.gate.lock();
        let task = gate.tasks.pop_front();
        self.injected
            .store(!gate.tasks.is_empty(), Ordering::Relaxed);
        task
    }

    /// Tasks that no worker has taken.
    pub(crate) fn injected(&self) -> usize {
        self.gate.lock().tasks.len()
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
    /// comes notifies it. A worker that has no room for tasks does not stay awake
    /// for them: it will have, when something else happens.
    #[must_use]
    #[inline]
    pub(crate) fn may_sleep(&self, has_room: bool) -> bool {
        let mut gate = self.gate.lock();
        let nudged = !self.idle.load(Ordering::Relaxed);
        gate.asleep = !nudged && gate.messages.is_empty() && (gate.tasks.is_empty() || !has_room);
        gate.asleep
    }

    /// The worker is awake, for whatever reason.
    pub(crate) fn awake(&self) {
        self.idle.store(false, Ordering::Relaxed);
        self.gate.lock().asleep = false;
    }
}

impl<M, T> Gate<M, T> {
    fn wake(&mut self) {
        if std::mem::take(&mut self.asleep) {
            let notify = self.notifier.as_ref();
            notify.expect("a worker that sleeps has a notifier")();
        }
    }
}
