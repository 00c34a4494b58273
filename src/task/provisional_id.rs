//! Provisional ids: addresses for tasks that have none yet.
//!
//! With several workers a spawned task waits for whichever worker takes it,
//! and only then gets a slot, whose place is its address. Few ask for it
//! before that ([`JoinHandle::coroutine`](crate::JoinHandle::coroutine)); for
//! them there is this table. A provisional id is an [`Addr`] of worker 0, which
//! is no worker; it leads to an entry that remembers what was requested of the
//! task, and its address once there is one. It stays the task's identity to the
//! end.

use std::ops::DerefMut;

use super::Addr;
use crate::shim::{NoParkMutex, process_static};

/// What a provisional id stands for.
#[derive(Clone, Copy, Debug)]
enum Provisional {
    /// No worker has taken the task yet.
    Waiting(EarlyRequests),
    /// It lives here.
    Resolved(Addr),
}

struct ProvisionalIds {
    entries: Vec<Entry>,
    /// Entries that are free, and have generations left.
    free: Vec<u32>,
}

struct Entry {
    /// Counts the ids of this entry, so that no two are equal.
    generation: u32,
    /// What its latest id stands for; `None` while it is free.
    means: Option<Provisional>,
}

process_static! {
    static TABLE: NoParkMutex<ProvisionalIds> = NoParkMutex::new(ProvisionalIds::new());
}

fn table() -> impl DerefMut<Target = ProvisionalIds> {
    TABLE.lock()
}

/// What is requested of a task by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskRequest {
    Wake,
    Unpark,
    Cancel,
    /// To see whether a token that it is bound to asks it to end. Only a task that
    /// runs is bound.
    SeeAsked,
    /// To interrupt what it waits in, once: a signal came, or it is to end as a thread
    /// does. Only a task that runs is interrupted.
    Interrupt,
}

/// What was requested before the task had an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlyRequests {
    pub(crate) unparked: bool,
    pub(crate) cancelled: bool,
}

/// Whether this is a provisional id.
#[inline(always)]
pub(crate) fn is_provisional(id: Addr) -> bool {
    id.worker() == 0
}

/// A new one.
pub(crate) fn create() -> Addr {
    table().create()
}

/// The task has ended, or never got this id.
pub(crate) fn discard(id: Addr) {
    table().discard(id);
}

/// [`discard`], unless the task has been placed: then its end does that.
#[cold]
pub(super) fn discard_unplaced(id: Addr) {
    let mut table = table();
    if let Some(Provisional::Waiting(_)) = table.find(id) {
        table.discard(id);
    }
}

/// The task lives at `addr` now; what was requested of it before.
pub(crate) fn resolve(id: Addr, addr: Addr) -> EarlyRequests {
    let mut table = table();
    let entry = table
        .find(id)
        .expect("a task's provisional id lives as long as the task");
    match std::mem::replace(entry, Provisional::Resolved(addr)) {
        Provisional::Waiting(requests) => requests,
        Provisional::Resolved(_) => unreachable!("a task is placed once"),
    }
}

/// Passes a request on to the task: `Some` of where it lives, to be requested
/// there; or the entry keeps it in mind, or the id is stale.
pub(crate) fn forward(id: Addr, request: TaskRequest) -> Option<Addr> {
    let mut table = table();
    match table.find(id)? {
        Provisional::Resolved(addr) => Some(*addr),
        Provisional::Waiting(requests) => {
            requests.unparked |= request == TaskRequest::Unpark;
            requests.cancelled |= request == TaskRequest::Cancel;
            None
        }
    }
}

/// Whether a task that never gets an address was cancelled.
pub(crate) fn is_cancelled(id: Addr) -> bool {
    matches!(table().find(id), Some(Provisional::Waiting(requests)) if requests.cancelled)
}

/// How many there are.
pub(crate) fn count() -> usize {
    let table = table();
    table
        .entries
        .iter()
        .filter(|entry| entry.means.is_some())
        .count()
}

impl ProvisionalIds {
    const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    fn create(&mut self) -> Addr {
        let index = self.free.pop().unwrap_or_else(|| self.add_entry());
        let entry = &mut self.entries[index as usize];
        entry.generation += 1;
        entry.means = Some(Provisional::Waiting(EarlyRequests::default()));
        Addr::provisional(entry.generation, index)
    }

    #[cold]
    fn add_entry(&mut self) -> u32 {
        let index = self.entries.len() as u32;
        assert!(
            index < Addr::MAX_SLOTS,
            "more provisional ids than addresses"
        );
        self.entries.push(Entry {
            generation: 0,
            means: None,
        });
        index
    }

    /// Frees the entry, unless the id is stale. One that has had all generations is not
    /// used again.
    fn discard(&mut self, id: Addr) {
        if self.find(id).is_some() {
            let entry = &mut self.entries[id.slot() as usize];
            entry.means = None;
            if entry.generation < Addr::LAST_GENERATION {
                self.free.push(id.slot());
            }
        }
    }

    fn find(&mut self, id: Addr) -> Option<&mut Provisional> {
        let entry = self.entries.get_mut(id.slot() as usize)?;
        let means = entry.means.as_mut()?;
        (entry.generation == id.generation()).then_some(means)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn what_is_requested_early_is_told_when_the_id_is_resolved() {
        let id = create();
        assert!(is_provisional(id));
        assert_eq!(forward(id, TaskRequest::Unpark), None);
        let addr = Addr::new(1, 2, 3);
        let requests = EarlyRequests {
            unparked: true,
            cancelled: false,
        };
        assert_eq!(resolve(id, addr), requests);
        assert_eq!(forward(id, TaskRequest::Cancel), Some(addr));
        discard(id);
        assert_eq!(forward(id, TaskRequest::Cancel), None, "stale");
        let other = create();
        assert_ne!(other, id);
        assert_eq!(
            forward(id, TaskRequest::Wake),
            None,
            "the entry's next id is another"
        );
        discard(id);
        assert_eq!(resolve(other, addr), EarlyRequests::default());
        discard(other);
    }

    #[test]
    fn an_entry_that_has_used_up_its_generations_is_not_used_again() {
        let mut ids = ProvisionalIds::new();
        let first = ids.create();
        ids.discard(first);
        ids.entries[first.slot() as usize].generation = Addr::LAST_GENERATION - 1;
        let last = ids.create();
        assert_eq!(
            (last.slot(), last.generation()),
            (first.slot(), Addr::LAST_GENERATION)
        );
        ids.discard(last);
        ids.discard(last);
        let next = ids.create();
        assert_ne!(next.slot(), last.slot());
        assert!(ids.find(last).is_none() && ids.find(first).is_none());
        ids.discard(next);
        assert_eq!(ids.create().slot(), next.slot());
    }
}
