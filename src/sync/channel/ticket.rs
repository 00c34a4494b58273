//! Tickets: who waits on several channels at once goes on with one of them.
//!
//! A `select` queues at each of its channels with the same ticket. Whoever
//! wants to complete an operation with it claims the ticket first, for that
//! case; the claim can be won once. The one who claims may be a `select`
//! itself, queued elsewhere already, so that its own ticket may be claimed at
//! the same moment: both are claimed or none, under both tickets' locks,
//! taken in the order of their numbers (so no two claims wait in a circle).
//!
//! Locks nest in one direction: a channel's, then tickets'.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shim::{Arc, Lock};

/// Of one `select`: which of its cases has won.
pub(super) struct Ticket {
    /// No other's. Addresses would do, but are not the same in each run of a
    /// loom model.
    number: u64,
    winner: Lock<Option<usize>>,
}

/// A ticket, and the case that wins if it is claimed here.
#[derive(Clone)]
pub(super) struct Entrant {
    pub(super) ticket: Arc<Ticket>,
    pub(super) case: usize,
}

/// Who has been claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Claim {
    /// Both sides: the operation must now happen.
    Won,
    /// Nobody: the other side goes on elsewhere.
    PartnerGone,
    /// Nobody: this side has been claimed elsewhere.
    SelfGone,
    /// Nobody: both are one `select`, which names the channel twice.
    Same,
}

impl Ticket {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            winner: Lock::new(None),
        }
    }

    pub(super) fn winner(&self) -> Option<usize> {
        *self.winner.lock()
    }

    /// Ends the selection if no case has won, so that none will.
    pub(super) fn withdraw(&self) -> Option<usize> {
        let mut winner = self.winner.lock();
        let before = *winner;
        *winner = before.or(Some(usize::MAX));
        before
    }
}

/// Claims `me` and `partner`, both or none. `None` is somebody who waits for,
/// or does, just this one operation, and so can always be had.
#[inline]
pub(super) fn claim(me: Option<&Entrant>, partner: Option<&Entrant>) -> Claim {
    match (me, partner) {
        (None, None) => Claim::Won,
        (Some(one), None) => claim_one(one, Claim::SelfGone),
        (None, Some(one)) => claim_one(one, Claim::PartnerGone),
        (Some(me), Some(partner)) => claim_both(me, partner),
    }
}

fn claim_one(one: &Entrant, gone: Claim) -> Claim {
    let mut winner = one.ticket.winner.lock();
    if winner.is_some() {
        return gone;
    }
    *winner = Some(one.case);
    Claim::Won
}

fn claim_both(me: &Entrant, partner: &Entrant) -> Claim {
    if Arc::ptr_eq(&me.ticket, &partner.ticket) {
        return Claim::Same;
    }
    let (mut mine, mut theirs);
    if me.ticket.number < partner.ticket.number {
        mine = me.ticket.winner.lock();
        theirs = partner.ticket.winner.lock();
    } else {
        theirs = partner.ticket.winner.lock();
        mine = me.ticket.winner.lock();
    }
    if mine.is_some() {
        return Claim::SelfGone;
    }
    if theirs.is_some() {
        return Claim::PartnerGone;
    }
    *mine = Some(me.case);
    *theirs = Some(partner.case);
    Claim::Won
}
