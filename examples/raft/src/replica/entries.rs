//! Entries: how followers come to have the leader's (§5.3), and when they are committed.

use std::io;

use super::Replica;
use crate::config::Bugs;
use crate::log::Entry;
use crate::machine::Command;

impl Replica {
    /// Takes a leader's entries: whether they follow ours, and up to where the logs are the
    /// same, or from where the leader is to try.
    pub(super) fn on_append(
        &mut self,
        (previous, term): (u64, u64),
        commit: u64,
        entries: Vec<Entry>,
    ) -> io::Result<(bool, u64)> {
        let same = previous + entries.len() as u64;
        // What the snapshot stands for was committed, so it is the leader's, too.
        if previous >= self.log.base() && self.log.term(previous) != Some(term) {
            let last = self.log.last().0;
            return Ok((false, self.log.term_begin(previous.min(last + 1))));
        }
        let keeps = self.config.bugs.has(Bugs::KEEPS_CONFLICTS);
        let differs = |entry: &Entry| {
            let mine = self.log.term(entry.index);
            let other = mine.is_none_or(|mine| mine != entry.term && !keeps);
            entry.index > self.log.base() && other
        };
        if let Some(first) = entries.iter().position(differs) {
            self.put(entries[first..].to_vec())?;
        }
        self.commit_to(commit.min(same))?;
        Ok((true, same))
    }

    /// Writes entries down, and then has them in the log.
    pub(super) fn put(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.storage.append(&entries)?;
        for entry in entries {
            self.observer.appended(self.config.me, &entry);
            self.log.put(entry);
        }
        Ok(())
    }

    /// A leader's own.
    pub(super) fn append(&mut self, commands: Vec<Command>) -> io::Result<()> {
        let term = self.term;
        let indices = self.log.last().0 + 1..;
        let entries = indices.zip(commands).map(|(index, command)| Entry {
            index,
            term,
            command,
        });
        self.put(entries.collect())?;
        self.peers[self.config.me].matched = self.log.last().0;
        self.advance_commit()
    }

    /// Commits what a majority has, if it is of this term (§5.4.2).
    pub(super) fn advance_commit(&mut self) -> io::Result<()> {
        let alone = self.config.bugs.has(Bugs::COMMITS_ALONE);
        let quorum = if alone { 1 } else { self.config.quorum() };
        let mut matched: Vec<_> = self.peers.iter().map(|peer| peer.matched).collect();
        matched.sort_unstable();
        let index = matched[matched.len() - quorum];
        let ours = self.log.term(index) == Some(self.term);
        if ours || self.config.bugs.has(Bugs::COMMITS_OLD_TERMS) {
            self.commit_to(index)?;
        }
        Ok(())
    }

    pub(super) fn commit_to(&mut self, index: u64) -> io::Result<()> {
        while self.commit < index.min(self.log.last().0) {
            self.commit += 1;
            let entry = self.log.get(self.commit).expect("it is in the log");
            self.observer.committed(self.config.me, self.term, entry);
            let outcome = self.machine.apply(entry.index, &entry.command);
            self.observer.applied(self.config.me, entry, &outcome);
            if let Some(waiting) = self.waiting.get_mut(&(entry.index, entry.term)) {
                *waiting = Some(outcome);
            }
        }
        if self.commit - self.log.base() >= self.config.snapshot {
            self.take_snapshot()?;
        }
        Ok(())
    }

    pub(super) fn on_appended(&mut self, from: usize, success: bool, index: u64) -> io::Result<()> {
        let peer = &mut self.peers[from];
        // Whatever it has, it follows us.
        peer.round = peer.asked_round;
        peer.offset = 0;
        if !success {
            peer.next = index.min(peer.next - 1).max(peer.matched + 1);
            peer.asked = None;
            return Ok(());
        }
        peer.matched = peer.matched.max(index);
        peer.next = peer.matched + 1;
        self.advance_commit()
    }
}
