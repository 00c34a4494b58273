//! Worker handles: the shared half of a worker, which other threads find by its
//! index.
//!
//! A [`WorkerHandle`] is never freed: an address names a worker by a small number,
//! the number leads to a handle in a static table, and a message to a worker that
//! is gone finds a closed mailbox and is dropped. So a waker may outlive its
//! runtime (I4).

use std::io;
use std::os::fd::RawFd;
use std::ptr;
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::counters::Counters;
use super::mailbox::{Mailbox, Owner};
use super::plan::InjectedTask;
use super::snapshot::SnapshotRequest;
use crate::task::Addr;
use crate::task::provisional_id::TaskRequest;

/// What other threads tell a worker.
pub(crate) enum Message {
    /// Something is asked of a task, if it still exists.
    Task(TaskRequest, Addr),
    /// The meaning of a file descriptor has changed.
    FdGone(RawFd),
    /// Look whether the runtime is stopping.
    Stop,
    /// In this run of the runtime: say which tasks there are.
    Snapshot { run: u64, request: SnapshotRequest },
    /// In this run of the runtime: cancel all tasks but one.
    CancelAll { run: u64, spared: Option<Addr> },
}

/// The shared half of a worker.
pub(crate) struct WorkerHandle {
    index: u32,
    /// What the next owner's slots must start their generations from: no task
    /// of an earlier owner had this one or one above.
    next_generation: AtomicU32,
    pub(crate) mailbox: Mailbox<Message, InjectedTask>,
    /// What the worker counts.
    pub(crate) counters: Counters,
    /// The number by which locks know the coroutine with thread-locals of its own
    /// that runs here; 0 if none does.
    pub(super) own_number: AtomicU32,
}

/// All handles ever made, by index; index 0 is not used.
static TABLE: [AtomicPtr<WorkerHandle>; Addr::MAX_WORKERS as usize] =
    [const { AtomicPtr::new(ptr::null_mut()) }; Addr::MAX_WORKERS as usize];

impl WorkerHandle {
    /// Takes a handle without an owner.
    ///
    /// # Errors
    ///
    /// When the process has as many workers as an address can tell apart.
    pub(crate) fn claim() -> io::Result<(&'static Self, Owner)> {
        for (index, entry) in TABLE.iter().enumerate().skip(1) {
            let known = entry.load(Ordering::Acquire);
            // SAFETY: handles are never freed (I4).
            let handle = unsafe { known.as_ref() }.unwrap_or_else(|| install(entry, index as u32));
            if let Some(owner) = handle.mailbox.open() {
                handle.counters.reset();
                return Ok((handle, owner));
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

    /// The handle with this index, if there ever was one.
    pub(crate) fn by_index(index: u32) -> Option<&'static Self> {
        // SAFETY: handles are never freed (I4).
        unsafe { TABLE[index as usize].load(Ordering::Acquire).as_ref() }
    }

    /// Every handle there is, in use or not.
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

    /// Tasks that the worker has, injected ones that no worker has taken included.
    pub(crate) fn load(&self) -> u64 {
        let live = self
            .counters
            .spawned
            .get()
            .saturating_sub(self.counters.ended.get());
        live + self.mailbox.injected() as u64
    }
}

/// Puts a new handle into an empty place of the table, or finds the one that
/// another thread has just put there.
fn install(entry: &AtomicPtr<WorkerHandle>, index: u32) -> &'static WorkerHandle {
    let fresh = Box::into_raw(Box::new(WorkerHandle {
        index,
        next_generation: AtomicU32::new(0),
        mailbox: Mailbox::closed(),
        counters: Counters::default(),
        own_number: AtomicU32::new(0),
    }));
    match entry.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just made, and never freed from here on (I4).
        Ok(_) => unsafe { &*fresh },
        Err(other) => {
            // SAFETY: `fresh` was not published; `other` is never freed (I4).
            unsafe {
                drop(Box::from_raw(fresh));
                &*other
            }
        }
    }
}
