//! Select tokens: a waiter that is registered on several channels is claimed by
//! exactly one of them.
//!
//! A `select` queues at each of its channels with the same token. A partner that
//! wants to complete an operation with it claims the token first, for that
//! case; a token is claimed once. The partner may be a `select` itself, queued
//! elsewhere already, so that its own token may be claimed at the same moment:
//! both are claimed or none, under both tokens' locks, taken in the order of
//! their numbers (so no two claims wait in a circle).
//!
//! Locks nest in one direction: a channel's, then tokens'.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shim::{Arc, Lock, SPARES};

/// One `select`'s token: which of its cases has won.
pub(super) struct SelectToken {
    /// Unique. Addresses would do, but are not the same in each run of a loom
    /// model.
    number: u64,
    winner: Lock<Option<usize>>,
}

/// A token, and the case that wins if it is claimed here.
#[derive(Clone)]
pub(super) struct SelectWaiter {
    pub(super) token: Arc<SelectToken>,
    pub(super) case: usize,
}

/// Which tokens a claim has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Claim {
    /// Both sides: the operation must now happen.
    Won,
    /// None: the other side goes on elsewhere.
    PartnerGone,
    /// None: this side has been claimed elsewhere.
    SelfGone,
    /// None: both are one `select`, which names the channel twice.
    Same,
}

thread_local! {
    /// Tokens of selects that are over.
    static SPARE: RefCell<Vec<Arc<SelectToken>>> = const { RefCell::new(Vec::new()) };
}

impl SelectToken {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            winner: Lock::new(None),
        }
    }

    /// One that no case has won: a spare one, if there is any.
    pub(super) fn take() -> Arc<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let spare = spare.ok().flatten();
        spare.unwrap_or_else(|| Arc::new(Self::new()))
    }

    /// Keeps the token of a select that has left all its queues.
    pub(super) fn give(mut token: Arc<Self>) {
        if Arc::get_mut(&mut token).is_none() {
            return;
        }
        *token.winner.lock() = None;
        // What is too much is dropped when no borrow is left.
        let mut token = Some(token);
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.extend(token.take());
            }
        });
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

/// Claims `me` and `partner`, both or none. `None` stands for a side that waits
/// for, or does, just this one operation, and so can always be had.
#[inline]
pub(super) fn claim(me: Option<&SelectWaiter>, partner: Option<&SelectWaiter>) -> Claim {
    match (me, partner) {
        (None, None) => Claim::Won,
        (Some(one), None) => claim_one(one, Claim::SelfGone),
        (None, Some(one)) => claim_one(one, Claim::PartnerGone),
        (Some(me), Some(partner)) => claim_both(me, partner),
    }
}

fn claim_one(one: &SelectWaiter, gone: Claim) -> Claim {
    let mut winner = one.token.winner.lock();
    if winner.is_some() {
        return gone;
    }
    *winner = Some(one.case);
    Claim::Won
}

fn claim_both(me: &SelectWaiter, partner: &SelectWaiter) -> Claim {
    if Arc::ptr_eq(&me.token, &partner.token) {
        return Claim::Same;
    }
    let (mut mine, mut theirs);
    if me.token.number < partner.token.number {
        mine = me.token.winner.lock();
        theirs = partner.token.winner.lock();
    } else {
        theirs = partner.token.winner.lock();
        mine = me.token.winner.lock();
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
