//! Terms and elections (§5.2).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

use super::{Peer, Replica, Role};
use crate::config::Bugs;
use crate::machine::Command;
use crate::storage::Vote;

impl Replica {
    /// What the clock is for: says when to come again.
    pub(crate) fn tick(&mut self, now: Instant) -> io::Result<Duration> {
        if self.role == Role::Leader {
            return Ok(self.config.election);
        }
        if now >= self.deadline {
            self.begin_election(now)?;
        }
        Ok(self.deadline.saturating_duration_since(now))
    }

    /// The leader, or a candidate, has been heard: it may go on for a while.
    pub(super) fn put_off(&mut self, now: Instant) {
        let share = RandomState::new().hash_one(0) as u32;
        let share = f64::from(share) / f64::from(u32::MAX);
        self.deadline = now + self.config.election.mul_f64(1.0 + share);
    }

    pub(super) fn begin_election(&mut self, now: Instant) -> io::Result<()> {
        self.term += 1;
        self.vote = Some(self.config.me);
        self.role = Role::Candidate;
        self.leader = None;
        self.peers.fill(Peer::default());
        self.peers[self.config.me].voted = Some(true);
        self.save_vote()?;
        self.put_off(now);
        self.count_votes()
    }

    pub(super) fn count_votes(&mut self) -> io::Result<()> {
        let votes = self.peers.iter().filter(|peer| peer.voted == Some(true));
        if votes.count() < self.config.quorum() {
            return Ok(());
        }
        self.observer.became_leader(self.config.me, self.term);
        self.role = Role::Leader;
        self.leader = Some(self.config.me);
        self.term_begin = self.log.last().0 + 1;
        let unknown = Peer {
            next: self.term_begin,
            ..Peer::default()
        };
        self.peers.fill(unknown);
        self.append(vec![Command::Nothing])
    }

    pub(super) fn save_vote(&mut self) -> io::Result<()> {
        let vote = Vote {
            term: self.term,
            vote: self.vote,
        };
        if vote != self.saved {
            self.storage.save_vote(vote)?;
            self.saved = vote;
        }
        Ok(())
    }

    /// Somebody is in a later term.
    pub(super) fn see_term(&mut self, term: u64, now: Instant) -> io::Result<()> {
        if term <= self.term {
            return Ok(());
        }
        self.term = term;
        self.vote = None;
        self.step_down(now);
        self.save_vote()
    }

    pub(super) fn step_down(&mut self, now: Instant) {
        if self.role == Role::Leader {
            self.put_off(now);
        }
        self.role = Role::Follower;
        self.leader = None;
    }

    pub(super) fn on_vote(
        &mut self,
        term: u64,
        candidate: usize,
        last: (u64, u64),
        now: Instant,
    ) -> bool {
        let (index, mine) = self.log.last();
        let has_all = (last.1, last.0) >= (mine, index);
        let free = self.vote.is_none_or(|vote| vote == candidate);
        let granted = term == self.term
            && free
            && (has_all || self.config.bugs.has(Bugs::VOTES_FOR_OLD_LOGS));
        if granted {
            self.vote = Some(candidate);
            self.put_off(now);
        }
        granted
    }

    /// Follows the leader of a term, unless that is over.
    pub(super) fn follow(&mut self, term: u64, leader: usize, now: Instant) -> io::Result<bool> {
        self.see_term(term, now)?;
        if term < self.term && !self.config.bugs.has(Bugs::FOLLOWS_OLD_TERMS) {
            return Ok(false);
        }
        self.step_down(now);
        self.leader = Some(leader);
        self.put_off(now);
        Ok(true)
    }
}
