//! A worker as other threads see it, found by its index.
//!
//! A [`Remote`] is never freed: an address names a worker by a small number,
//! the number leads to a `Remote` in a static table, and a message to a worker
//! that is gone finds a closed mailbox and is dropped. So a waker may outlive
//! its runtime (I4).

use std::io;
use std::os::fd::RawFd;
use std::ptr;
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::census::Ballot;
use super::counters::Counters;
use super::mailbox::{Mailbox, Owner};
use super::worker::Plan;
use crate::task::alias::{self, Ask};
use crate::task::{Addr, Header, JoinError, PacketRef};
use crate::util::contain;

/// What other threads tell a worker.
pub(crate) enum Message {
    /// Something is asked of a task, if it still exists.
    Ask(Ask, Addr),
    /// The meaning of a file descriptor has changed.
    FdGone(RawFd),
    /// Look whether the runtime is stopping.
    Stop,
    /// In this run of the runtime: say who is there.
    Count { run: u64, ballot: Ballot },
    /// In this run of the runtime: cancel all tasks but one.
    CancelAll { run: u64, spared: Option<Addr> },
}

/// A task that no worker has taken yet: the task's side of its packet with the
/// work inside, and how it is to be run.
pub(crate) struct Unstarted {
    packet: *const Header,
    plan: Plan,
}

// SAFETY: only tasks whose work is `Send` are made into one (`new`'s
// contract), and a header's shared parts are atomics.
unsafe impl Send for Unstarted {}

impl Unstarted {
    /// # Safety
    ///
    /// - `packet` is the task's side of a new packet, work inside.
    /// - The work and its output are `Send`.
    pub(crate) unsafe fn new(packet: *const Header, plan: Plan) -> Self {
        Self { packet, plan }
    }

    /// Puts the task in somebody's hands.
    pub(crate) fn into_parts(self) -> (*const Header, Plan) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used again and does not drop.
        (this.packet, unsafe { ptr::read(&this.plan) })
    }
}

impl Drop for Unstarted {
    /// Nobody will run it.
    fn drop(&mut self) {
        // SAFETY: the task's side is ours: `into_parts` has not given it away.
        let packet = unsafe { PacketRef::from_slot(self.packet) };
        let packet = packet.expect("an unstarted task has a packet");
        // Whoever has asked for its id has an alias, which leads nowhere now.
        packet.known().into_iter().for_each(alias::discard);
        // The work's destructor is foreign code.
        //
        // SAFETY: nobody ran or polled it, so it is there.
        contain(|| unsafe { packet.discard(JoinError::cancelled()) });
    }
}

/// The part of a worker that other threads see.
pub(crate) struct Remote {
    index: u32,
    /// What the next owner's slots must start their generations from: no task
    /// of an earlier owner had this one or one above.
    next_generation: AtomicU32,
    pub(crate) mailbox: Mailbox<Message, Unstarted>,
    /// What the worker counts.
    pub(crate) counters: Counters,
    /// By which number locks know the coroutine with thread-locals of its own
    /// that runs here; 0 if none does.
    pub(super) own_number: AtomicU32,
}

/// All remotes ever made, by index; index 0 is not used.
static TABLE: [AtomicPtr<Remote>; Addr::MAX_WORKERS as usize] =
    [const { AtomicPtr::new(ptr::null_mut()) }; Addr::MAX_WORKERS as usize];

impl Remote {
    /// Takes a remote that nobody owns.
    ///
    /// # Errors
    ///
    /// When the process has as many workers as an address can tell apart.
    pub(crate) fn claim() -> io::Result<(&'static Self, Owner)> {
        for (index, entry) in TABLE.iter().enumerate().skip(1) {
            let known = entry.load(Ordering::Acquire);
            // SAFETY: remotes are never freed.
            let remote = unsafe { known.as_ref() }.unwrap_or_else(|| install(entry, index as u32));
            if let Some(owner) = remote.mailbox.open() {
                remote.counters.reset();
                return Ok((remote, owner));
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
        // SAFETY: remotes are never freed.
        unsafe { TABLE[index as usize].load(Ordering::Acquire).as_ref() }
    }

    /// Every remote there is, in use or not.
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        (1..Addr::MAX_WORKERS).map_while(Self::by_index)
    }

    /// In a forked child: what there is belongs to the parent. Only stores.
    pub(super) fn forget_all() {
        TABLE
            .iter()
            .for_each(|entry| entry.store(ptr::null_mut(), Ordering::Relaxed));
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn next_generation(&self) -> u32 {
        self.next_generation.load(Ordering::Relaxed)
    }

    /// The worker has ended; its slots used generations below this.
    pub(crate) fn set_next_generation(&self, generation: u32) {
        self.next_generation.store(generation, Ordering::Relaxed);
    }

    /// Tasks that the worker has, those among them that nobody has started.
    pub(crate) fn load(&self) -> u64 {
        let live = self
            .counters
            .spawned
            .get()
            .saturating_sub(self.counters.ended.get());
        live + self.mailbox.jobs() as u64
    }
}

/// Puts a new remote into an empty place of the table, or finds the one that
/// another thread has just put there.
fn install(entry: &AtomicPtr<Remote>, index: u32) -> &'static Remote {
    let fresh = Box::into_raw(Box::new(Remote {
        index,
        next_generation: AtomicU32::new(0),
        mailbox: Mailbox::closed(),
        counters: Counters::default(),
        own_number: AtomicU32::new(0),
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
