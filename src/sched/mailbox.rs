//! The mailbox: how other threads reach a worker, and how it may sleep.
//!
//! One lock guards what is for the worker (messages about its tasks, and jobs
//! that have not started) and whether it sleeps. That is all of the protocol:
//! a message is either there when the worker asks for leave to sleep, or it
//! finds the worker asleep and wakes it. README.md beside this file has the
//! steps, the proof, and what was rejected.

use std::collections::VecDeque;

use crate::shim::Lock;
use crate::shim::atomic::{AtomicBool, Ordering};

/// Ends the sleep of one worker; called with the mailbox's lock held.
pub(crate) type Alarm = Box<dyn Fn() + Send + Sync>;

/// Messages of type `M` for one worker, and jobs `J` that any may take.
pub(crate) struct Mailbox<M, J> {
    /// There may be messages. Written under the lock, read without it: a
    /// worker that is awake looks here first. It may lag, so the worker that
    /// is about to sleep looks at the gate itself.
    posted: AtomicBool,
    /// There may be jobs; as `posted`.
    offered: AtomicBool,
    /// The worker has nothing to do: others may wake it for their jobs.
    idle: AtomicBool,
    gate: Lock<Gate<M, J>>,
}

/// Tells one owner of a mailbox from all who come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u64);

struct Gate<M, J> {
    /// Who owns the mailbox now; `None` for nobody.
    owner: Option<Owner>,
    /// Owners that there have been.
    owners: u64,
    /// The worker sleeps, or is about to: whoever clears this must wake it.
    asleep: bool,
    messages: Vec<M>,
    jobs: VecDeque<J>,
    alarm: Option<Alarm>,
}

impl<M, J> Mailbox<M, J> {
    /// A mailbox that nobody owns.
    pub(crate) fn closed() -> Self {
        Self {
            posted: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            gate: Lock::new(Gate {
                owner: None,
                owners: 0,
                asleep: false,
                messages: Vec::new(),
                jobs: VecDeque::new(),
                alarm: None,
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

    /// Gives the mailbox up, unless that was done before; returns the jobs
    /// that nobody has taken. Messages are about tasks that have ended.
    #[must_use]
    pub(crate) fn close(&self, owner: Owner) -> VecDeque<J> {
        let mut gate = self.gate.lock();
        if gate.owner != Some(owner) {
            return VecDeque::new();
        }
        gate.owner = None;
        let messages = std::mem::take(&mut gate.messages);
        let jobs = std::mem::take(&mut gate.jobs);
        self.posted.store(false, Ordering::Relaxed);
        self.offered.store(false, Ordering::Relaxed);
        drop(gate);
        // Dropping one may wake somebody.
        drop(messages);
        jobs
    }

    /// A worker begins, or (`None`) ends, to read the mail. Mail waits
    /// meanwhile.
    pub(crate) fn set_alarm(&self, alarm: Option<Alarm>) {
        let mut gate = self.gate.lock();
        gate.alarm = alarm;
        gate.asleep = false;
        self.idle.store(false, Ordering::Relaxed);
    }

    /// Leaves a message; wakes the worker if it sleeps. Dropped if nobody owns
    /// the mailbox: what it is about has ended.
    pub(crate) fn post(&self, message: M) {
        let mut gate = self.gate.lock();
        if gate.owner.is_some() {
            gate.messages.push(message);
            self.posted.store(true, Ordering::Relaxed);
            gate.wake();
        }
    }

    /// Leaves a job for this worker, or for one that has nothing to do. Wakes
    /// the worker if it sleeps. Comes back if the mailbox is not `owner`'s any
    /// more: a job, unlike a message, means one runtime and no other.
    pub(crate) fn offer(&self, owner: Owner, job: J) -> Result<(), J> {
        let mut gate = self.gate.lock();
        if gate.owner != Some(owner) {
            return Err(job);
        }
        gate.jobs.push_back(job);
        self.offered.store(true, Ordering::Relaxed);
        gate.wake();
        Ok(())
    }

    /// Whether [`Mailbox::read`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_mail(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// Whether [`Mailbox::take_job`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_jobs(&self) -> bool {
        self.offered.load(Ordering::Relaxed)
    }

    /// Whether an idle worker had better not sleep. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_news(&self) -> bool {
        self.has_mail() || self.has_jobs() || !self.idle.load(Ordering::Relaxed)
    }

    /// Moves the messages into `into`, which is empty.
    pub(crate) fn read(&self, into: &mut Vec<M>) {
        debug_assert!(into.is_empty());
        let mut gate = self.gate.lock();
        self.posted.store(false, Ordering::Relaxed);
        std::mem::swap(&mut gate.messages, into);
    }

    /// Takes the oldest job: the owner to run it, another worker to steal it.
    pub(crate) fn take_job(&self) -> Option<J> {
        let mut gate = self.gate.lock();
        let job = gate.jobs.pop_front();
        self.offered.store(!gate.jobs.is_empty(), Ordering::Relaxed);
        job
    }

    /// Jobs that nobody has taken.
    pub(crate) fn jobs(&self) -> usize {
        self.gate.lock().jobs.len()
    }

    /// The worker has nothing to do, and will look at the others' jobs next,
    /// then ask for leave to sleep.
    pub(crate) fn set_idle(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }

    /// Sends an idle worker to look at the others' jobs. `false` if this one
    /// is not idle, or somebody has sent it already.
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
    /// comes sounds the alarm. A worker that has no room for jobs does not
    /// stay awake for them: it will have, when something else happens.
    #[must_use]
    pub(crate) fn may_sleep(&self, has_room: bool) -> bool {
        let mut gate = self.gate.lock();
        let nudged = !self.idle.load(Ordering::Relaxed);
        gate.asleep = !nudged && gate.messages.is_empty() && (gate.jobs.is_empty() || !has_room);
        gate.asleep
    }

    /// The worker is awake, for whatever reason.
    pub(crate) fn awake(&self) {
        self.idle.store(false, Ordering::Relaxed);
        self.gate.lock().asleep = false;
    }
}

impl<M, J> Gate<M, J> {
    fn wake(&mut self) {
        if std::mem::take(&mut self.asleep) {
            let alarm = self
                .alarm
                .as_ref()
                .expect("a worker that sleeps has an alarm");
            alarm();
        }
    }
}
