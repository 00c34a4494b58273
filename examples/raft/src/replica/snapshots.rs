//! Snapshots: what takes the place of old entries (§7).

use std::io;
use std::sync::Arc;

use super::Replica;
use crate::config::Bugs;
use crate::storage::Snapshot;
use crate::wire::Reply;

/// The parts of a leader's snapshot that have come.
#[derive(Default)]
pub(super) struct Incoming {
    index: u64,
    data: Vec<u8>,
}

impl Replica {
    pub(super) fn take_snapshot(&mut self) -> io::Result<()> {
        let Some(term) = self.log.term(self.commit) else {
            return Ok(());
        };
        let mut snapshot = Snapshot {
            index: self.commit,
            term,
            machine: self.machine.clone(),
        };
        if self.config.bugs.has(Bugs::SNAPSHOT_FORGETS_SESSIONS) {
            snapshot.machine.forget_what_was_done();
        }
        self.install(snapshot.encode(), self.commit, term)
    }

    /// Puts a snapshot, which is encoded, in the place of the entries up to its last.
    pub(super) fn install(&mut self, bytes: Vec<u8>, index: u64, term: u64) -> io::Result<()> {
        let mut log = self.log.clone();
        log.compact(index, term);
        self.storage
            .install(&bytes, self.saved, log.from(index + 1))?;
        self.log = log;
        self.snapshot = Arc::new(bytes);
        self.peers.iter_mut().for_each(|peer| peer.offset = 0);
        Ok(())
    }

    /// Takes a part of a leader's snapshot, and installs it with the last.
    pub(super) fn on_part(
        &mut self,
        index: u64,
        offset: usize,
        data: &[u8],
        last: bool,
    ) -> io::Result<Reply> {
        if index <= self.commit {
            return Ok(self.appended(true, index));
        }
        if self.incoming.index != index || offset == 0 {
            self.incoming = Incoming {
                index,
                data: Vec::new(),
            };
        }
        if offset == self.incoming.data.len() {
            self.incoming.data.extend(data);
            if last {
                return self.restore();
            }
        }
        Ok(self.received())
    }

    pub(super) fn received(&self) -> Reply {
        Reply::Part {
            term: self.term,
            received: self.incoming.data.len(),
        }
    }

    pub(super) fn restore(&mut self) -> io::Result<Reply> {
        let bytes = std::mem::take(&mut self.incoming).data;
        let Some(snapshot) = Snapshot::decode(&bytes) else {
            return Ok(self.received());
        };
        self.install(bytes, snapshot.index, snapshot.term)?;
        self.machine = snapshot.machine;
        self.commit = snapshot.index;
        self.say_restored();
        Ok(self.appended(true, snapshot.index))
    }
}
