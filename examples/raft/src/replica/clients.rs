//! Clients: their commands, and reads that see all that was written before (§8).

use std::io;

use super::{Replica, Role};
use crate::config::Bugs;
use crate::machine::{Command, Outcome};

/// A read that waits until the leader knows that it still leads (§8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    term: u64,
    index: u64,
    round: u64,
}

/// What has become of something that a client waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<T> {
    Done(T),
    Waits,
    Lost,
}

impl Replica {
    /// A client's command goes into the log; else the leader's address.
    pub(crate) fn propose(
        &mut self,
        command: Command,
    ) -> io::Result<Result<(u64, u64), Option<String>>> {
        if self.role != Role::Leader {
            return Ok(Err(self.leader_address()));
        }
        let place = (self.log.last().0 + 1, self.term);
        self.waiting.insert(place, None);
        self.append(vec![command])?;
        Ok(Ok(place))
    }

    /// What has become of a command.
    pub(crate) fn outcome(&mut self, place: (u64, u64)) -> Progress<Outcome> {
        match self.waiting.get(&place) {
            Some(Some(outcome)) => Progress::Done(outcome.clone()),
            Some(None) if self.commit < place.0 => Progress::Waits,
            _ => Progress::Lost,
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&mut self, place: (u64, u64)) {
        self.waiting.remove(&place);
    }

    /// Begins a read, which has to see whatever was committed before; else the leader's
    /// address.
    pub(crate) fn begin_read(&mut self) -> Result<Read, Option<String>> {
        if self.role != Role::Leader {
            return Err(self.leader_address());
        }
        self.round += 1;
        Ok(Read {
            term: self.term,
            // Only with an entry of its own does a leader know what was committed.
            index: self.commit.max(self.term_begin),
            round: self.round,
        })
    }

    /// The value, once a majority has said after the read began that it follows us.
    pub(crate) fn read(&self, read: Read, key: &str) -> Progress<Option<String>> {
        if self.role != Role::Leader || self.term != read.term {
            return Progress::Lost;
        }
        let others = self.peers.iter().filter(|peer| peer.round >= read.round);
        let follow = others.count() + 1 >= self.config.quorum();
        let leads = follow || self.config.bugs.has(Bugs::STALE_READS);
        if leads && self.commit >= read.index {
            return Progress::Done(self.machine.get(key));
        }
        Progress::Waits
    }

    pub(super) fn leader_address(&self) -> Option<String> {
        self.leader
            .map(|leader| self.config.members[leader].address.clone())
    }
}
