//! Checks: Raft's promises (Figure 3 of the paper), held against what the nodes do.
//!
//! They live as long as the test, longer than any node.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use crate::log::Entry;
use crate::machine::Outcome;
use crate::observer::Observer;

/// An observer that remembers what was broken.
#[derive(Default)]
pub struct Checks(Mutex<Seen>);

/// An entry's term, and a hash of its command.
type Mark = (u64, u64);

#[derive(Default)]
struct Seen {
    broken: Vec<String>,
    leaders: BTreeMap<u64, usize>,
    nodes: BTreeMap<usize, Replica>,
    /// Of each entry that any log had, by index and term: its command, and the term of
    /// the entry before.
    entries: BTreeMap<(u64, u64), (u64, u64)>,
    /// By index: the entry, and the first term in which it was known to be committed.
    committed: BTreeMap<u64, (Mark, u64)>,
    outcomes: BTreeMap<u64, Outcome>,
}

/// A node as it should be.
#[derive(Default)]
struct Replica {
    /// Index and term of the snapshot's last entry.
    base: (u64, u64),
    log: BTreeMap<u64, Mark>,
    applied: u64,
}

impl Checks {
    /// What was broken, in the order in which it was seen.
    pub fn broken(&self) -> Vec<String> {
        self.0.lock().unwrap().broken.clone()
    }

    /// How many terms had a leader.
    pub fn leaders(&self) -> usize {
        self.0.lock().unwrap().leaders.len()
    }

    /// The node that leads in the last term that has a leader.
    pub fn leader(&self) -> Option<usize> {
        let seen = self.0.lock().unwrap();
        seen.leaders.last_key_value().map(|(_, node)| *node)
    }

    /// Up to where entries are known to be committed.
    pub fn last_committed(&self) -> u64 {
        let seen = self.0.lock().unwrap();
        seen.committed
            .last_key_value()
            .map_or(0, |(index, _)| *index)
    }
}

impl Seen {
    fn broken(&mut self, what: String) {
        // One bug breaks the same thing a thousand times.
        if self.broken.len() < 20 {
            self.broken.push(what);
        }
    }

    /// Leader completeness: whoever leads has all that was committed in earlier terms.
    fn check_complete(&mut self, node: usize, term: u64) {
        let replica = self.nodes.entry(node).or_default();
        let earlier = self.committed.range(replica.base.0 + 1..);
        let missing = earlier.filter(|(index, (mark, committed))| {
            *committed < term && replica.log.get(index) != Some(mark)
        });
        let missing: Vec<_> = missing.map(|(index, _)| *index).collect();
        if !missing.is_empty() {
            self.broken(format!(
                "{node} leads term {term} without the committed {missing:?}"
            ));
        }
    }
}

fn mark(entry: &Entry) -> Mark {
    let mut hasher = DefaultHasher::new();
    entry.command.hash(&mut hasher);
    (entry.term, hasher.finish())
}

impl Observer for Checks {
    fn restored(&self, node: usize, index: u64, term: u64) {
        let seen = &mut *self.0.lock().unwrap();
        let replica = seen.nodes.entry(node).or_default();
        *replica = Replica {
            base: (index, term),
            log: BTreeMap::new(),
            applied: index,
        };
        let committed = seen.committed.get(&index);
        if committed.is_some_and(|((other, _), _)| *other != term) {
            seen.broken(format!(
                "{node} has a snapshot up to {index} of term {term}"
            ));
        }
    }

    /// Log matching: entries of the same index and term are the same, and so are all
    /// before them.
    fn appended(&self, node: usize, entry: &Entry) {
        let seen = &mut *self.0.lock().unwrap();
        let (place, mark) = ((entry.index, entry.term), mark(entry));
        let replica = seen.nodes.entry(node).or_default();
        let replaced = replica.log.split_off(&entry.index);
        let lost = entry.index <= replica.applied && replaced.get(&entry.index) != Some(&mark);
        let before = replica.log.last_key_value();
        let before = before.map_or(replica.base, |(index, mark)| (*index, mark.0));
        let gap = before.0 + 1 != entry.index;
        replica.log.insert(entry.index, mark);
        let first = *seen.entries.entry(place).or_insert((mark.1, before.1));
        if lost && !replaced.is_empty() {
            seen.broken(format!(
                "{node} replaced the committed entry {}",
                entry.index
            ));
        }
        if gap {
            seen.broken(format!("{node} has {} after {}", entry.index, before.0));
        }
        if first != (mark.1, before.1) {
            seen.broken(format!(
                "{node} has another entry, or one after another, at {place:?}"
            ));
        }
    }

    /// Election safety: a term has one leader.
    fn became_leader(&self, node: usize, term: u64) {
        let seen = &mut *self.0.lock().unwrap();
        // A node leads once in a term, too, even if it has ended meanwhile.
        if let Some(other) = seen.leaders.insert(term, node) {
            seen.broken(format!("{other} and {node} lead term {term}"));
        }
        seen.check_complete(node, term);
    }

    fn committed(&self, node: usize, term: u64, entry: &Entry) {
        let seen = &mut *self.0.lock().unwrap();
        let mark = mark(entry);
        let known = seen.committed.entry(entry.index).or_insert((mark, term));
        known.1 = known.1.min(term);
        if known.0 != mark {
            seen.broken(format!("{node} committed another entry {}", entry.index));
        }
    }

    /// State machine safety: each does the same, in the same order, with the same outcome.
    fn applied(&self, node: usize, entry: &Entry, outcome: &Outcome) {
        let seen = &mut *self.0.lock().unwrap();
        let replica = seen.nodes.entry(node).or_default();
        let before = std::mem::replace(&mut replica.applied, entry.index);
        let first = seen
            .outcomes
            .entry(entry.index)
            .or_insert_with(|| outcome.clone());
        if first != outcome {
            let what = format!("{node} did {} with {outcome:?}, not {first:?}", entry.index);
            seen.broken(what);
        }
        if before + 1 != entry.index {
            seen.broken(format!("{node} did {} after {before}", entry.index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Command;

    fn entry(index: u64, term: u64, command: Command) -> Entry {
        Entry {
            index,
            term,
            command,
        }
    }

    fn nothing(index: u64, term: u64) -> Entry {
        entry(index, term, Command::Nothing)
    }

    /// What is broken after `then`, where three nodes had committed two entries of term 1.
    fn broken(then: impl FnOnce(&Checks)) -> usize {
        let checks = Checks::default();
        checks.became_leader(0, 1);
        for node in 0..3 {
            checks.restored(node, 0, 0);
            for one in [nothing(1, 1), nothing(2, 1)] {
                checks.appended(node, &one);
                checks.committed(node, 1, &one);
                checks.applied(node, &one, &Outcome::Nothing);
            }
        }
        assert!(checks.broken().is_empty());
        then(&checks);
        checks.broken().len()
    }

    #[test]
    fn what_raft_does_is_not_broken() {
        let fine = |checks: &Checks| {
            checks.became_leader(1, 2);
            checks.appended(1, &nothing(3, 2));
            // An older term's leader is elected late, without the newer term's entries.
            checks.committed(1, 4, &nothing(3, 2));
            checks.became_leader(2, 3);
            checks.appended(2, &nothing(3, 3));
            // A replica takes another's entry in the place of its own.
            checks.appended(2, &nothing(3, 2));
            checks.restored(0, 2, 1);
            checks.appended(0, &nothing(3, 2));
            checks.applied(0, &nothing(3, 2), &Outcome::Nothing);
        };
        assert_eq!(broken(fine), 0);
    }

    #[test]
    fn each_broken_promise_is_seen() {
        assert_eq!(broken(|checks| checks.became_leader(1, 1)), 1);
        assert_eq!(broken(|checks| checks.became_leader(0, 1)), 1);
        // Another command at the same place; the same after another; a gap.
        let other = entry(2, 1, Command::Open);
        assert_eq!(broken(|checks| checks.appended(3, &other)), 2);
        let after = |checks: &Checks| {
            checks.restored(3, 1, 7);
            checks.appended(3, &nothing(2, 1));
        };
        assert_eq!(broken(after), 2);
        assert_eq!(broken(|checks| checks.appended(0, &nothing(4, 1))), 1);
        // An applied entry is replaced.
        assert_eq!(broken(|checks| checks.appended(0, &nothing(2, 2))), 1);
        // A leader without what was committed.
        let forgetful = |checks: &Checks| {
            checks.restored(1, 0, 0);
            checks.appended(1, &nothing(1, 1));
            checks.became_leader(1, 2);
        };
        assert_eq!(broken(forgetful), 1);
        // Two commands committed at one place; outcomes that differ; one is left out.
        assert_eq!(broken(|checks| checks.committed(0, 2, &nothing(2, 2))), 1);
        let differs = |checks: &Checks| {
            checks.restored(0, 1, 1);
            checks.applied(0, &nothing(2, 1), &Outcome::TooLate);
        };
        assert_eq!(broken(differs), 1);
        assert_eq!(
            broken(|checks| checks.applied(0, &nothing(4, 1), &Outcome::Nothing)),
            1
        );
        // A snapshot that ends with another entry.
        assert_eq!(broken(|checks| checks.restored(0, 2, 9)), 1);
    }
}
