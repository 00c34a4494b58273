//! Replica: Raft's state and rules, one call a step, all of them under the node's lock.
//!
//! It knows no socket and no clock: it is told the time, the messages that came, and says
//! which to send. What must not be forgotten it has written to its files before it says a
//! word of it; when that fails, the node ends.
//!
//! `elections` has terms and votes, `entries` the log and what is committed, `snapshots`
//! what takes the place of old entries, `clients` commands and reads; here is what they
//! share, and the way of messages to them.
//!
//! Section numbers are those of Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm" (extended version).

mod clients;
mod elections;
mod entries;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::log::Log;
use crate::machine::{Machine, Outcome};
use crate::observer::Observer;
use crate::storage::{Storage, Vote};
use crate::wire::{Reply, Request};

pub(crate) use clients::Progress;
use snapshots::Incoming;

/// Entries of one message have about so many bytes, at most, and so has a command.
pub(crate) const LARGEST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What a candidate or leader knows of another node.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// It has answered whether it votes for us, and how.
    voted: Option<bool>,
    /// The next entry to send.
    next: u64,
    /// Up to here its log is known to be ours.
    matched: u64,
    /// How much of our snapshot it has.
    offset: usize,
    /// When something was sent to it.
    asked: Option<Instant>,
    /// The round of reads in which that was, and the last that it has answered.
    asked_round: u64,
    round: u64,
}

pub(crate) struct Replica {
    config: Config,
    observer: Arc<dyn Observer>,
    storage: Storage,
    /// What the files say.
    saved: Vote,
    term: u64,
    vote: Option<usize>,
    role: Role,
    leader: Option<usize>,
    log: Log,
    /// Entries up to `commit` are on a majority of nodes; all are applied at once.
    commit: u64,
    machine: Machine,
    /// The last snapshot, as it is sent.
    snapshot: Arc<Vec<u8>>,
    incoming: Incoming,
    /// When a follower wants to lead.
    deadline: Instant,
    /// In the order of the members, this node among them.
    peers: Vec<Peer>,
    /// Rounds of heartbeats that reads have asked for.
    round: u64,
    /// The first entry of our term as a leader.
    term_begin: u64,
    /// What clients wait for, by index and term.
    waiting: BTreeMap<(u64, u64), Option<Outcome>>,
}

impl Replica {
    /// What the files have, as a follower.
    pub(crate) fn open(
        config: Config,
        observer: Arc<dyn Observer>,
        now: Instant,
    ) -> io::Result<Self> {
        let (storage, saved) = Storage::open(&config.dir, config.bugs)?;
        let mut replica = Self {
            peers: vec![Peer::default(); config.members.len()],
            storage,
            saved: saved.vote,
            term: saved.vote.term,
            vote: saved.vote.vote,
            role: Role::Follower,
            leader: None,
            commit: saved.snapshot.index,
            snapshot: Arc::new(saved.snapshot.encode()),
            machine: saved.snapshot.machine,
            log: saved.log,
            incoming: Incoming::default(),
            deadline: now,
            round: 0,
            term_begin: 0,
            waiting: BTreeMap::new(),
            observer,
            config,
        };
        replica.put_off(now);
        replica.say_restored();
        Ok(replica)
    }

    /// Tells the observer of all that the log has.
    fn say_restored(&self) {
        let (me, base) = (self.config.me, self.log.base());
        let term = self.log.term(base).unwrap_or_default();
        self.observer.restored(me, base, term);
        let entries = self.log.from(base + 1).iter();
        entries.for_each(|entry| self.observer.appended(me, entry));
    }

    // Messages.

    /// What to send to a peer now, if anything.
    pub(crate) fn request_for(&mut self, to: usize, now: Instant) -> Option<Request> {
        let (me, term) = (self.config.me, self.term);
        let peer = &mut self.peers[to];
        match self.role {
            Role::Follower => return None,
            Role::Candidate if peer.voted.is_some() => return None,
            Role::Candidate => {
                return Some(Request::Vote {
                    term,
                    candidate: me,
                    last: self.log.last(),
                });
            }
            Role::Leader => {}
        }
        let due = peer
            .asked
            .is_none_or(|asked| now >= asked + self.config.heartbeat);
        if !due && peer.next > self.log.last().0 && peer.round >= self.round {
            return None;
        }
        peer.asked = Some(now);
        peer.asked_round = self.round;
        let before = peer.next - 1;
        let Some(before_term) = self.log.term(before) else {
            let end = self.snapshot.len().min(peer.offset + self.config.chunk);
            return Some(Request::Snapshot {
                term,
                leader: me,
                index: self.log.base(),
                offset: peer.offset,
                data: self.snapshot[peer.offset..end].to_vec(),
                last: end == self.snapshot.len(),
            });
        };
        let mut room = LARGEST;
        let entries = self.log.from(peer.next).iter().take(self.config.batch);
        let entries = entries.take_while(|entry| {
            let fits = room > 0;
            room = room.saturating_sub(entry.command.size());
            fits
        });
        Some(Request::Append {
            term,
            leader: me,
            previous: (before, before_term),
            commit: self.commit,
            entries: entries.cloned().collect(),
        })
    }

    /// A peer's answer.
    pub(crate) fn on_reply(
        &mut self,
        from: usize,
        request: &Request,
        reply: &Reply,
        now: Instant,
    ) -> io::Result<()> {
        match (request, reply) {
            (Request::Vote { term: asked, .. }, &Reply::Vote { term, granted }) => {
                self.see_term(term, now)?;
                if self.role == Role::Candidate && self.term == *asked {
                    self.peers[from].voted = Some(granted);
                    self.count_votes()?;
                }
            }
            (
                Request::Append { term: asked, .. } | Request::Snapshot { term: asked, .. },
                &Reply::Append {
                    term,
                    success,
                    index,
                },
            ) => {
                self.see_term(term, now)?;
                if self.role == Role::Leader && self.term == *asked {
                    self.on_appended(from, success, index)?;
                }
            }
            (
                Request::Snapshot {
                    term: asked, index, ..
                },
                &Reply::Part { term, received },
            ) => {
                self.see_term(term, now)?;
                if self.role == Role::Leader && self.term == *asked {
                    let same = self.log.base() == *index && received <= self.snapshot.len();
                    let peer = &mut self.peers[from];
                    peer.offset = if same { received } else { 0 };
                    peer.round = peer.asked_round;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A peer's request.
    pub(crate) fn on_request(&mut self, request: Request, now: Instant) -> io::Result<Reply> {
        match request {
            Request::Vote {
                term,
                candidate,
                last,
            } => {
                self.see_term(term, now)?;
                let granted = self.on_vote(term, candidate, last, now);
                self.save_vote()?;
                Ok(Reply::Vote {
                    term: self.term,
                    granted,
                })
            }
            Request::Append {
                term,
                leader,
                previous,
                commit,
                entries,
            } => {
                let (success, index) = if self.follow(term, leader, now)? {
                    self.on_append(previous, commit, entries)?
                } else {
                    (false, 0)
                };
                Ok(self.appended(success, index))
            }
            Request::Snapshot {
                term,
                leader,
                index,
                offset,
                data,
                last,
            } => {
                if !self.follow(term, leader, now)? {
                    return Ok(self.appended(false, 0));
                }
                self.on_part(index, offset, &data, last)
            }
            Request::Open | Request::Do { .. } | Request::Read { .. } => {
                Err(io::Error::other("it is a client's"))
            }
        }
    }

    fn appended(&self, success: bool, index: u64) -> Reply {
        Reply::Append {
            term: self.term,
            success,
            index,
        }
    }
}
