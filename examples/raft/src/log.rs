//! Log: the entries that no snapshot stands for yet.

use serde::{Deserialize, Serialize};

use crate::machine::Command;

/// A command in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its place: 1, 2, ….
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// What it does.
    pub command: Command,
}

/// Entries without a gap, after those that a snapshot stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Index and term of the snapshot's last entry; 0 and 0 without one.
    base: (u64, u64),
    entries: Vec<Entry>,
}

impl Log {
    /// An empty log after a snapshot.
    pub fn after(index: u64, term: u64) -> Self {
        Self {
            base: (index, term),
            entries: Vec::new(),
        }
    }

    /// The snapshot's last index.
    pub fn base(&self) -> u64 {
        self.base.0
    }

    /// Index and term of the last entry.
    pub fn last(&self) -> (u64, u64) {
        let last = self.entries.last();
        last.map_or(self.base, |entry| (entry.index, entry.term))
    }

    /// The term at an index, if that is known.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entry at an index.
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(place as usize)
    }

    /// The entries from an index on, which is after the snapshot.
    pub fn from(&self, index: u64) -> &[Entry] {
        let place = (index - self.base.0 - 1) as usize;
        &self.entries[place.min(self.entries.len())..]
    }

    /// Puts an entry in its place; what was there, and after it, is gone.
    ///
    /// # Panics
    ///
    /// If there would be a gap.
    pub fn put(&mut self, entry: Entry) {
        let place = (entry.index - self.base.0 - 1) as usize;
        assert!(place <= self.entries.len(), "a gap before {}", entry.index);
        self.entries.truncate(place);
        self.entries.push(entry);
    }

    /// A snapshot stands for all up to this entry: what follows it stays. If this log has
    /// another entry there, or none, nothing stays.
    pub fn compact(&mut self, index: u64, term: u64) {
        let same = self.term(index) == Some(term);
        let rest = if same {
            self.from(index + 1).to_vec()
        } else {
            Vec::new()
        };
        self.base = (index, term);
        self.entries = rest;
    }

    /// The first index of those with the same term as the entry at `index`.
    pub fn term_begin(&self, index: u64) -> u64 {
        let term = self.term(index);
        let mut begin = index;
        while begin > self.base.0 + 1 && self.term(begin - 1) == term {
            begin -= 1;
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(base: (u64, u64), terms: &[u64]) -> Log {
        let mut log = Log::after(base.0, base.1);
        for (index, &term) in (base.0 + 1..).zip(terms) {
            log.put(entry(index, term));
        }
        log
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            command: Command::Nothing,
        }
    }

    #[test]
    fn an_entry_takes_the_place_of_all_from_there_on() {
        let mut log = log((3, 1), &[1, 1, 2]);
        assert_eq!(log.last(), (6, 2));
        log.put(entry(5, 4));
        assert_eq!(
            (log.last(), log.term(5), log.term(6)),
            ((5, 4), Some(4), None)
        );
        assert_eq!(
            (log.term(2), log.term(3), log.term(4)),
            (None, Some(1), Some(1))
        );
    }

    #[test]
    fn a_snapshot_keeps_what_follows_the_same_entry() {
        let mut kept = log((0, 0), &[1, 1, 2, 2]);
        kept.compact(3, 2);
        assert_eq!(kept, log((3, 2), &[2]));
        let mut other = log((0, 0), &[1, 1, 2, 2]);
        other.compact(3, 5);
        assert_eq!(other, log((3, 5), &[]));
        let mut short = log((0, 0), &[1]);
        short.compact(9, 5);
        assert_eq!((short.last(), short.from(10).len()), ((9, 5), 0));
    }

    #[test]
    fn a_term_begins_where_it_says() {
        let log = log((3, 1), &[1, 2, 2, 2]);
        assert_eq!(
            (log.term_begin(7), log.term_begin(5), log.term_begin(4)),
            (5, 5, 4)
        );
    }
}
