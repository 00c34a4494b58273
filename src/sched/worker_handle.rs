//! Worker handles: the shared half of a worker, which other threads find by its
//! index.
//!
//! A [`WorkerHandle`] is never freed: an address names a worker by a small number,
//! the number leads to a handle in a static table, and a message to a worker that
//! is gone finds a closed mailbox and is dropped. So a waker may outlive its
//! runtime (I4).

use std::io;
use std::ptr;
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::counters::Counters;
use super::mailbox::{Mail, Mailbox, Owner};
use super::own_number::OwnNumber;
use super::plan::InjectedTask;
use super::snapshot::SnapshotRequest;
use super::stack_use::StackUses;
#[cfg(feature = "trace")]
use super::step_log::StepLog;
use super::watch::Watched;
use crate::task::provisional_id::TaskRequest;
use crate::task::{Addr, Generations};
use crate::util::no_park::NoParkMutex;

/// What other threads tell a worker.
pub(crate) enum Message {
    /// Something is asked of a task, if it still exists.
    Task(TaskRequest, Addr),
    /// Look whether the runtime is stopping.
    Stop,
    /// In this run of the runtime: say which tasks there are.
    Snapshot { run: u64, request: SnapshotRequest },
    /// In this run of the runtime: cancel all tasks but one.
    CancelAll { run: u64, spared: Option<Addr> },
}

impl Mail for Message {
    type Says = (u8, u64, Option<Addr>);

    fn says(&self) -> Option<Self::Says> {
        match *self {
            Self::Task(request, addr) => Some((request as u8, 0, Some(addr))),
            Self::Stop => Some((u8::MAX, 0, None)),
            Self::CancelAll { run, spared } => Some((u8::MAX - 1, run, spared)),
            Self::Snapshot { .. } => None,
        }
    }

    fn is_wanted(&self) -> bool {
        !matches!(self, Self::Snapshot { request, .. } if !request.is_wanted())
    }

    /// Tasks live only while a worker reads its mail.
    fn can_wait(&self) -> bool {
        !matches!(self, Self::Task(..))
    }
}

/// The shared half of a worker.
pub(crate) struct WorkerHandle {
    index: u32,
    /// What the next owner's slots must start from.
    generations: NoParkMutex<Generations>,
    pub(crate) mailbox: Mailbox<Message, InjectedTask>,
    /// What the watchdog is told.
    pub(super) watch: Watched,
    /// What the worker counts.
    pub(crate) counters: Counters,
    /// What coroutines have used of their stacks, if that is measured.
    pub(crate) stack_uses: NoParkMutex<StackUses>,
    /// Which coroutine with thread-locals of its own runs here.
    pub(super) own_number: OwnNumber,
    /// What it does, while somebody records that.
    #[cfg(feature = "trace")]
    pub(super) steps: StepLog,
}

/// All handles ever made, by index; index 0 is not used, nor are those before
/// [`FIRST`].
static TABLE: [AtomicPtr<WorkerHandle>; Addr::MAX_WORKERS as usize] =
    [const { AtomicPtr::new(ptr::null_mut()) }; Addr::MAX_WORKERS as usize];

/// Where this process's handles begin: behind those of the process that it was
/// forked from, so that no address of a task there means one here.
static FIRST: AtomicU32 = AtomicU32::new(1);

impl WorkerHandle {
    /// Counts that move when a coroutine gives the worker back: those it has resumed, and its
    /// looks at the kernel's events.
    pub(super) fn switches(&self) -> [u64; 2] {
        [self.counters.resumed.get(), self.counters.turns.get()]
    }

    /// Takes a handle without an owner.
    ///
    /// # Errors
    ///
    /// When the process has as many workers as an address can tell apart.
    pub(crate) fn claim() -> io::Result<(&'static Self, Owner)> {
        let first = FIRST.load(Ordering::Relaxed) as usize;
        for (index, entry) in TABLE.iter().enumerate().skip(first) {
            let known = entry.load(Ordering::Acquire);
            // SAFETY: handles are never freed (I4).
            let handle = unsafe { known.as_ref() }.unwrap_or_else(|| install(entry, index as u32));
            if let Some(owner) = handle.mailbox.open() {
                handle.counters.reset();
                *handle.stack_uses.lock() = StackUses::default();
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
        (FIRST.load(Ordering::Relaxed)..Addr::MAX_WORKERS).map_while(Self::by_index)
    }

    /// How many have an owner, and what those that have none still have: mail, and tasks
    /// that have not ended.
    pub(crate) fn left_over() -> [usize; 3] {
        let mut sum = [0; 3];
        for handle in Self::all() {
            let left = match handle.mailbox.contents() {
                (true, _) => [1, 0, 0],
                (false, mail) => [0, mail, handle.load() as usize],
            };
            sum = std::array::from_fn(|at| sum[at] + left[at]);
        }
        sum
    }

    /// In a forked child: what there is belongs to the parent. Only stores.
    pub(super) fn forget_all() {
        let known = Self::all().count() as u32;
        FIRST.fetch_add(known, Ordering::Relaxed);
        TABLE
            .iter()
            .for_each(|entry| entry.store(ptr::null_mut(), Ordering::Relaxed));
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn generations(&self) -> Generations {
        self.generations.lock().clone()
    }

    /// The worker has ended; its slots used generations below these.
    pub(crate) fn set_generations(&self, generations: Generations) {
        *self.generations.lock() = generations;
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
        generations: NoParkMutex::new(Generations::new()),
        mailbox: Mailbox::closed(),
        watch: Watched::default(),
        counters: Counters::default(),
        stack_uses: NoParkMutex::default(),
        own_number: OwnNumber::default(),
        #[cfg(feature = "trace")]
        steps: StepLog::default(),
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sched::snapshot::{Detail, TaskSnapshot};

    fn mailbox() -> Mailbox<Message, InjectedTask> {
        let mailbox = Mailbox::closed();
        mailbox.open().expect("nobody else has it");
        mailbox
    }

    /// Posts what other threads may post, over and over, about a few tasks.
    fn storm(mailbox: &Mailbox<Message, InjectedTask>) {
        for round in 0..100_000 {
            let addr = Addr::new(1, round % 3, round % 5);
            for request in [TaskRequest::Wake, TaskRequest::Unpark, TaskRequest::Cancel] {
                mailbox.post(Message::Task(request, addr));
            }
            mailbox.post(Message::Stop);
            let spared = Some(addr).filter(|_| round % 2 == 0);
            mailbox.post(Message::CancelAll { run: 1, spared });
        }
    }

    #[test]
    fn what_others_say_over_and_over_takes_no_memory() {
        let mailbox = mailbox();
        mailbox.set_notifier(Some(Box::new(|| ())));
        storm(&mailbox);
        let (messages, room) = mailbox.messages();
        assert!(messages <= 512 && room <= 1024, "{messages} {room}");
        let mut mail = Vec::new();
        mailbox.read(&mut mail);
        let all: std::collections::BTreeSet<_> = mail.iter().map(Mail::says).collect();
        assert_eq!(all.len(), 15 * 3 + 1 + 16);
    }

    /// Between two runs: what tasks there were have ended.
    #[test]
    fn what_is_about_tasks_is_dropped_while_there_are_none() {
        let mailbox = mailbox();
        for slot in 0..1_000 {
            mailbox.post(Message::Task(TaskRequest::Wake, Addr::new(1, 0, slot)));
        }
        assert_eq!(mailbox.messages(), (0, 0));
        mailbox.post(Message::Stop);
        assert_eq!(mailbox.messages().0, 1);
    }

    #[test]
    fn a_spike_of_different_messages_is_read_and_given_back() {
        let mailbox = mailbox();
        mailbox.set_notifier(Some(Box::new(|| ())));
        let mut mail = Vec::new();
        for round in 0..3 {
            for slot in 0..100_000 {
                mailbox.post(Message::Task(TaskRequest::Wake, Addr::new(1, 0, slot)));
            }
            mailbox.read(&mut mail);
            assert_eq!(mail.len(), 100_000, "round {round}");
            mail.clear();
        }
        for _ in 0..2 {
            mailbox.read(&mut mail);
        }
        assert!(mail.capacity() <= 1024 && mailbox.messages().1 <= 1024);
    }

    /// Dumps that were not answered in time do not pile up; one that is waited for stays.
    #[test]
    fn requests_that_nobody_waits_for_are_dropped() {
        let mailbox = mailbox();
        mailbox.set_notifier(Some(Box::new(|| ())));
        let wanted = TaskSnapshot::new();
        let ask = |snapshot: &TaskSnapshot| {
            let request = snapshot.request(Detail::States);
            mailbox.post(Message::Snapshot { run: 1, request });
        };
        ask(&wanted);
        (0..10_000).for_each(|_| ask(&TaskSnapshot::new()));
        assert!(mailbox.messages().0 <= 256);
        assert!(!wanted.is_complete(std::task::Waker::noop().clone()));
        mailbox.read(&mut Vec::new());
        assert!(wanted.is_complete(std::task::Waker::noop().clone()));
    }
}
