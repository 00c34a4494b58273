//! Aliases: addresses for tasks that have none yet.
//!
//! With several workers a spawned task waits for whichever worker takes it,
//! and only then gets a slot, whose place is its address. Few ask for it
//! before that ([`JoinHandle::coroutine`](crate::JoinHandle::coroutine)); for
//! them there is this table. An alias is an [`Addr`] of worker 0, which is no
//! worker; it leads to an entry that remembers what was asked of the task, and
//! the true address once there is one. The alias stays the task's identity to
//! its end.

use std::sync::MutexGuard;

use slab::Slab;

use super::Addr;
use crate::util::section::{Held, SectionMutex};

/// What an alias stands for.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Nobody has taken the task yet.
    Waiting { unparked: bool, cancelled: bool },
    /// It lives here.
    Placed(Addr),
}

#[derive(Default)]
struct Table {
    entries: Slab<(u32, Entry)>,
    /// Counts the aliases made, so that no two entries of one place are equal.
    made: u32,
}

/// Not from the shim: a static lives longer than a loom model.
static TABLE: SectionMutex<Table> = SectionMutex::new(Table {
    entries: Slab::new(),
    made: 0,
});

fn table() -> Held<MutexGuard<'static, Table>> {
    TABLE.lock()
}

/// What is asked of a task by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Wake,
    Unpark,
    Cancel,
}

/// What was asked before the task had an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) unparked: bool,
    pub(crate) cancelled: bool,
}

/// Whether the address is an alias.
#[inline(always)]
pub(crate) fn is_alias(addr: Addr) -> bool {
    addr.worker() == 0
}

/// A new alias.
pub(crate) fn create() -> Addr {
    let mut table = table();
    table.made = table.made.wrapping_add(1);
    let generation = Addr::generation_bits(table.made);
    let entry = Entry::Waiting {
        unparked: false,
        cancelled: false,
    };
    let index = table.entries.insert((generation, entry));
    assert!(
        index < Addr::MAX_SLOTS as usize,
        "more aliases than addresses"
    );
    Addr::alias(generation, index as u32)
}

/// The task has ended, or the alias was never given to anybody.
pub(crate) fn discard(alias: Addr) {
    let mut table = table();
    if table.find(alias).is_some() {
        table.entries.remove(alias.slot() as usize);
    }
}

/// The task lives at `addr` now; what was asked of it before.
pub(crate) fn place(alias: Addr, addr: Addr) -> Asked {
    let mut table = table();
    let entry = table
        .find(alias)
        .expect("a task's alias lives as long as the task");
    match std::mem::replace(entry, Entry::Placed(addr)) {
        Entry::Waiting {
            unparked,
            cancelled,
        } => Asked {
            unparked,
            cancelled,
        },
        Entry::Placed(_) => unreachable!("a task is placed once"),
    }
}

/// Asks something of the task behind an alias: `Some` of where it lives, to
/// ask there; or the entry keeps it in mind, or the alias is stale.
pub(crate) fn ask(alias: Addr, what: Ask) -> Option<Addr> {
    let mut table = table();
    match table.find(alias)? {
        Entry::Placed(addr) => Some(*addr),
        Entry::Waiting {
            unparked,
            cancelled,
        } => {
            *unparked |= what == Ask::Unpark;
            *cancelled |= what == Ask::Cancel;
            None
        }
    }
}

/// Whether a task that never gets an address was cancelled.
pub(crate) fn is_cancelled(alias: Addr) -> bool {
    matches!(
        table().find(alias),
        Some(Entry::Waiting {
            cancelled: true,
            ..
        })
    )
}

impl Table {
    fn find(&mut self, alias: Addr) -> Option<&mut Entry> {
        let (generation, entry) = self.entries.get_mut(alias.slot() as usize)?;
        (*generation == alias.generation()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_early_is_told_at_placing() {
        let alias = create();
        assert!(is_alias(alias));
        assert_eq!(ask(alias, Ask::Unpark), None);
        let addr = Addr::new(1, 2, 3);
        assert_eq!(
            place(alias, addr),
            Asked {
                unparked: true,
                cancelled: false
            }
        );
        assert_eq!(ask(alias, Ask::Cancel), Some(addr));
        discard(alias);
        assert_eq!(ask(alias, Ask::Cancel), None, "stale");
        let other = create();
        assert_ne!(other, alias);
        assert_eq!(
            ask(alias, Ask::Wake),
            None,
            "the place's next alias is another"
        );
        discard(alias);
        assert_eq!(
            place(other, addr),
            Asked {
                unparked: false,
                cancelled: false
            }
        );
        discard(other);
    }
}
