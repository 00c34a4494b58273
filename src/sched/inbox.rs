//! The inbox: how other threads reach a worker.
//!
//! A [`Remote`] is the part of a worker that any thread may touch. It is never
//! freed: an address names a worker by a small number, the number leads to a
//! `Remote` in a static table, and a message to a worker that is gone finds a
//! closed gate and is dropped. So a waker may outlive its runtime.
//!
//! See README.md beside this file for the protocol and why it loses nothing.

use std::io;
use std::ptr;
use std::sync::Arc;

use super::counters::Counters;
use crate::driver::RemoteWaker;
use crate::shim::{AtomicBool, AtomicPtr, Mutex, MutexGuard, Ordering};
use crate::task::{Addr, Header};

/// What other threads ask of a worker.
pub(crate) enum Message {
    /// Wake the task, if it still exists.
    Wake(Addr),
    /// Give it the park token, and wake it.
    Unpark(Addr),
    /// Cancel it.
    Cancel(Addr),
    /// Start a task at an address of the remote range.
    Spawn(Spawned),
    /// The meaning of a file descriptor has changed.
    FdGone(std::os::fd::RawFd),
}

/// A task on its way to its worker.
pub(crate) struct Spawned {
    /// The task's side of its packet, closure inside.
    pub(crate) packet: *const Header,
    pub(crate) plan: super::Plan,
}

// SAFETY: whoever posts a `Spawned` has checked that the closure is `Send`
// (`Handle::spawn` demands it), and gives up the task's side of the packet.
unsafe impl Send for Spawned {}

/// The part of a worker that other threads see.
pub(crate) struct Remote {
    index: u32,
    /// There may be messages. Set after posting, so a worker that is awake
    /// needs to look at the gate only when this says so; the one that is about
    /// to sleep looks at the gate itself.
    posted: AtomicBool,
    gate: Mutex<Gate>,
    /// What the worker counts, from zero for each owner.
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct Gate {
    /// Whether a runtime owns this remote.
    open: bool,
    /// The worker sleeps, or is about to: whoever clears this must wake it.
    asleep: bool,
    messages: Vec<Message>,
    waker: Option<Arc<RemoteWaker>>,
    /// Free slots of the remote range, with their next generation.
    free: Vec<(u32, u32)>,
    /// Remote slots `first..first + used` have been handed out at least once.
    used: u32,
    /// No task of an earlier owner had a generation like this or above: what
    /// the owner's slots start theirs from.
    next_generation: u32,
    /// The highest generation that a remote slot was handed out with.
    highest: u32,
}

/// All remotes ever made, by index.
static TABLE: [AtomicPtr<Remote>; Addr::MAX_WORKERS as usize] =
    [const { AtomicPtr::new(ptr::null_mut()) }; Addr::MAX_WORKERS as usize];

impl Remote {
    /// Takes a remote that nobody owns, opens its gate.
    ///
    /// # Errors
    ///
    /// When the process has as many workers as an address can tell apart.
    pub(crate) fn claim() -> io::Result<&'static Self> {
        for (index, entry) in TABLE.iter().enumerate().skip(1) {
            let known = entry.load(Ordering::Acquire);
            let remote = if known.is_null() {
                install(entry, index as u32)
            } else {
                // SAFETY: remotes are never freed.
                unsafe { &*known }
            };
            let mut gate = remote.lock();
            if !gate.open {
                gate.open = true;
                remote.counters.reset();
                return Ok(remote);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!(
                "this process already has {} crore workers, the most it can have",
                Addr::MAX_WORKERS - 1
            ),
        ))
    }

    /// The remote with this index, if there ever was one.
    pub(crate) fn by_index(index: u32) -> Option<&'static Self> {
        let remote = TABLE[index as usize].load(Ordering::Acquire);
        // SAFETY: remotes are never freed.
        (!remote.is_null()).then(|| unsafe { &*remote })
    }

    /// Every remote there is, in use or not.
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        (1..Addr::MAX_WORKERS).map_while(Self::by_index)
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Gives the remote up; returns the messages that nobody will read.
    #[must_use]
    pub(crate) fn release(&self) -> Vec<Message> {
        let mut gate = self.lock();
        gate.open = false;
        gate.asleep = false;
        gate.waker = None;
        gate.free.clear();
        gate.used = 0;
        gate.next_generation = gate.next_generation.max(gate.highest + 1);
        self.posted.store(false, Ordering::Relaxed);
        std::mem::take(&mut gate.messages)
    }

    /// Leaves a message, and wakes the worker if it sleeps. A closed gate
    /// gives the message back.
    pub(crate) fn post(&self, message: Message) -> Result<(), Message> {
        let mut gate = self.lock();
        if !gate.open {
            return Err(message);
        }
        self.push(&mut gate, message);
        Ok(())
    }

    /// Hands out a remote slot and leaves the message that fills it, in one
    /// step, so that no message about the new task can come before it.
    ///
    /// # Errors
    ///
    /// All slots taken, or the runtime has ended.
    pub(crate) fn post_spawn(
        &self,
        first: u32,
        make: impl FnOnce(Addr) -> Spawned,
    ) -> io::Result<()> {
        let mut gate = self.lock();
        if !gate.open {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the runtime has ended",
            ));
        }
        let (slot, generation) = match gate.free.pop() {
            Some(free) => free,
            None if gate.used < first => {
                gate.used += 1;
                (first + gate.used - 1, gate.next_generation)
            }
            None => return Err(super::too_many(first)),
        };
        gate.highest = gate.highest.max(generation);
        let spawned = make(Addr::new(self.index, generation, slot));
        self.push(&mut gate, Message::Spawn(spawned));
        Ok(())
    }

    /// A remote slot's task has ended.
    pub(crate) fn recycle(&self, slot: u32, next_generation: u32) {
        self.lock().free.push((slot, next_generation));
    }

    /// A worker starts on this remote; returns where its slots' generations
    /// start.
    pub(crate) fn attach(&self, waker: Arc<RemoteWaker>) -> u32 {
        let mut gate = self.lock();
        gate.waker = Some(waker);
        gate.next_generation
    }

    /// The worker is gone (the gate stays open, messages wait).
    pub(crate) fn detach(&self, next_generation: u32) {
        let mut gate = self.lock();
        gate.waker = None;
        gate.asleep = false;
        gate.next_generation = gate.next_generation.max(next_generation);
    }

    /// Whether [`Remote::take`] may find something. Cheap, may lag.
    #[inline(always)]
    pub(crate) fn has_mail(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// Moves the messages into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        debug_assert!(into.is_empty());
        let mut gate = self.lock();
        gate.asleep = false;
        self.posted.store(false, Ordering::Relaxed);
        std::mem::swap(&mut gate.messages, into);
    }

    /// The worker wants to sleep: `false` if there are messages to read first.
    /// After `true` the next message wakes it.
    #[must_use]
    pub(crate) fn may_sleep(&self) -> bool {
        let mut gate = self.lock();
        gate.asleep = gate.messages.is_empty();
        gate.asleep
    }

    fn push(&self, gate: &mut MutexGuard<'_, Gate>, message: Message) {
        gate.messages.push(message);
        self.posted.store(true, Ordering::Relaxed);
        if std::mem::take(&mut gate.asleep) {
            let waker = gate.waker.as_ref().expect("a sleeping worker is attached");
            // An eventfd that is full (`EAGAIN`) wakes as well; mio knows that.
            waker
                .wake()
                .expect("an eventfd that is open can be written");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        // Nothing that can panic runs under the lock but `make` of a spawn,
        // before it changes anything.
        self.gate
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts a new remote into an empty place of the table, or finds the one that
/// another thread has just put there.
fn install(entry: &AtomicPtr<Remote>, index: u32) -> &'static Remote {
    let fresh = Box::into_raw(Box::new(Remote {
        index,
        posted: AtomicBool::new(false),
        gate: Mutex::new(Gate::default()),
        counters: Counters::default(),
    }));
    match entry.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just made, and never freed from here on.
        Ok(_) => unsafe { &*fresh },
        Err(other) => {
            // SAFETY: `fresh` was not published; `other` is never freed.
            unsafe {
                drop(Box::from_raw(fresh));
                &*other
            }
        }
    }
}
