//! Provisional ids: addresses for tasks that have none yet.
//!
//! With several workers a spawned task waits for whichever worker takes it,
//! and only then gets a slot, whose place is its address. Few ask for it
//! before that ([`JoinHandle::coroutine`](crate::JoinHandle::coroutine)); for
//! them there is this table. A provisional id is an [`Addr`] of worker 0, which
//! is no worker; it leads to an entry that remembers what was requested of the
//! task, and its address once there is one. It stays the task's identity to the
//! end.

use std::sync::MutexGuard;

use slab::Slab;

use super::Addr;
use crate::util::no_park::{Held, NoParkMutex};

/// What a provisional id stands for.
#[derive(Clone, Copy, Debug)]
enum Provisional {
    /// No worker has taken the task yet.
    Waiting(EarlyRequests),
    /// It lives here.
    Resolved(Addr),
}

#[derive(Default)]
struct ProvisionalIds {
    entries: Slab<(u32, Provisional)>,
    /// Counts the ids made, so that no two of one entry are equal.
    made: u32,
}

/// Not from the shim: a static lives longer than a loom model.
static TABLE: NoParkMutex<ProvisionalIds> = NoParkMutex::new(ProvisionalIds {
    entries: Slab::new(),
    made: 0,
});

fn table() -> Held<MutexGuard<'static, ProvisionalIds>> {
    TABLE.lock()
}

/// What is requested of a task by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskRequest {
    Wake,
    Unpark,
    Cancel,
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
    let mut table = table();
    table.made = table.made.wrapping_add(1);
    let generation = Addr::generation_bits(table.made);
    let entry = Provisional::Waiting(EarlyRequests::default());
    let index = table.entries.insert((generation, entry));
    assert!(
        index < Addr::MAX_SLOTS as usize,
        "more provisional ids than addresses"
    );
    Addr::provisional(generation, index as u32)
}

/// The task has ended, or never got this id.
pub(crate) fn discard(id: Addr) {
    let mut table = table();
    if table.find(id).is_some() {
        table.entries.remove(id.slot() as usize);
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

impl ProvisionalIds {
    fn find(&mut self, id: Addr) -> Option<&mut Provisional> {
        let (generation, entry) = self.entries.get_mut(id.slot() as usize)?;
        (*generation == id.generation()).then_some(entry)
    }
}

#[cfg(test)]
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
}
