//! The state of a channel, under its lock: a buffer, and the waiters on either
//! side.
//!
//! ```text
//!   senders that wait, each with its value      receivers that wait
//!   [Offer 7] [Offer 8]  ──►  buffer [4 5 6]  ──►  [Want] [Want]
//!        only while the buffer is full       only while it is empty
//! ```
//!
//! Values are handed over, not announced: a send gives its value to the first
//! receiver that waits; a receive moves the first waiting sender's value up
//! into the buffer. So no waiter can be overtaken, and a waiter that is woken is
//! done. A rendezvous channel is one whose buffer holds none.
//!
//! The node of a waiter belongs to its future until that removes it; a value
//! that was handed to a receiver which is dropped before it looked goes back
//! to the front ([`ChannelState::put_back`]).
//!
//! Values are dropped by the caller, outside the lock: that is foreign code.

use std::collections::VecDeque;

use super::select_token::{Claim, SelectWaiter, claim};
use crate::sync::waiters::{Removed, WaiterKey, Waiters, WakeList};

pub(super) struct ChannelState<T> {
    buffer: VecDeque<T>,
    capacity: usize,
    pub(super) senders: usize,
    pub(super) receivers: usize,
    /// Receivers that have `Got` a value and did not look yet. It may come
    /// back, so the channel is not at its end while there are any.
    handed: usize,
    pub(super) offers: Waiters<ChannelWaiter<Offer<T>>>,
    pub(super) wants: Waiters<ChannelWaiter<Want<T>>>,
}

/// A waiter on one side, and its token if it is a `select`.
pub(super) struct ChannelWaiter<X> {
    pub(super) what: X,
    pub(super) select: Option<SelectWaiter>,
}

/// A sender that waits.
pub(super) enum Offer<T> {
    Waiting(T),
    Accepted,
    /// All receivers are gone.
    Refused(T),
}

/// A receiver that waits.
pub(super) enum Want<T> {
    Waiting,
    Got(T),
    /// All senders are gone, and so are their values.
    Closed,
}

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It would have to wait.
    Wait,
    /// The other side is gone.
    Disconnected,
    /// It belongs to a `select` that goes on with another case.
    Elsewhere,
}

impl<T> ChannelState<T> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            buffer: VecDeque::new(),
            capacity,
            senders: 1,
            receivers: 1,
            handed: 0,
            offers: Waiters::new(),
            wants: Waiters::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sends what is in `value`, which is left there if it stops.
    #[inline]
    pub(super) fn send(
        &mut self,
        value: &mut Option<T>,
        me: Option<&SelectWaiter>,
        wakes: &mut WakeList,
    ) -> Result<(), Stop> {
        if self.receivers == 0 {
            claim_alone(me)?;
            return Err(Stop::Disconnected);
        }
        if let Some(want) = take_partner(&mut self.wants, me, wakes)? {
            if let Some(value) = value.take() {
                *want = Want::Got(value);
                self.handed += 1;
            }
        } else if self.buffer.len() < self.capacity {
            claim_alone(me)?;
            self.buffer.extend(value.take());
        } else {
            return Err(Stop::Wait);
        }
        Ok(())
    }

    /// Receives the next value.
    #[inline]
    pub(super) fn recv(
        &mut self,
        me: Option<&SelectWaiter>,
        wakes: &mut WakeList,
    ) -> Result<T, Stop> {
        if !self.buffer.is_empty() {
            claim_alone(me)?;
            if let Some(value) = self.buffer.pop_front() {
                self.refill(wakes);
                return Ok(value);
            }
        }
        if let Some(value) = take_partner(&mut self.offers, me, wakes)?.and_then(Offer::accept) {
            return Ok(value);
        }
        if self.at_end() {
            claim_alone(me)?;
            return Err(Stop::Disconnected);
        }
        Err(Stop::Wait)
    }

    /// Whether no value will come any more.
    fn at_end(&self) -> bool {
        self.senders == 0 && self.handed == 0 && self.buffer.is_empty()
    }

    /// Moves up the value of the first waiting sender, if there is room.
    fn refill(&mut self, wakes: &mut WakeList) {
        if self.buffer.len() < self.capacity {
            if let Ok(Some(offer)) = take_partner(&mut self.offers, None, wakes) {
                self.buffer.extend(offer.accept());
            }
        }
    }

    /// Returns a value that was handed to a receiver which did not take it.
    /// It is the oldest there is; the buffer may exceed its capacity by it.
    pub(super) fn put_back(&mut self, value: T, wakes: &mut WakeList) {
        match take_partner(&mut self.wants, None, wakes) {
            Ok(Some(want)) => {
                *want = Want::Got(value);
                self.handed += 1;
            }
            _ => self.buffer.push_front(value),
        }
    }

    /// Tells the receivers that wait, if no value will come any more.
    pub(super) fn close_wants(&mut self, wakes: &mut WakeList) {
        if !self.at_end() {
            return;
        }
        while let Ok(Some(want)) = take_partner(&mut self.wants, None, wakes) {
            *want = Want::Closed;
        }
    }

    /// Ends the wait of a receiver. What it had got is in the result, or goes
    /// back to the channel if it is not to be kept.
    #[must_use = "values, wakers and tokens are dropped outside the lock"]
    #[inline(always)]
    pub(super) fn leave_wants(
        &mut self,
        key: &mut Option<WaiterKey>,
        keep: bool,
        wakes: &mut WakeList,
    ) -> Option<Removed<ChannelWaiter<Want<T>>>> {
        let mut removed = self.wants.remove(key.take()?);
        let want = &mut removed.payload.what;
        if matches!(want, Want::Got(_)) {
            self.handed -= 1;
            if !keep {
                if let Want::Got(value) = std::mem::replace(want, Want::Waiting) {
                    self.put_back(value, wakes);
                }
            }
            self.close_wants(wakes);
        }
        Some(removed)
    }

    /// Ends the wait of a sender.
    #[must_use = "values, wakers and tokens are dropped outside the lock"]
    #[inline]
    pub(super) fn leave_offers(
        &mut self,
        key: &mut Option<WaiterKey>,
    ) -> Option<Removed<ChannelWaiter<Offer<T>>>> {
        key.take().map(|key| self.offers.remove(key))
    }

    /// The last receiver is gone: gives the senders that wait their values
    /// back. The caller drops what can't be received any more.
    #[must_use = "values are dropped outside the lock"]
    pub(super) fn close_offers(&mut self, wakes: &mut WakeList) -> VecDeque<T> {
        while let Ok(Some(offer)) = take_partner(&mut self.offers, None, wakes) {
            offer.refuse();
        }
        std::mem::take(&mut self.buffer)
    }
}

impl<T> Offer<T> {
    /// Takes the value out and says so.
    fn accept(&mut self) -> Option<T> {
        match std::mem::replace(self, Self::Accepted) {
            Self::Waiting(value) | Self::Refused(value) => Some(value),
            Self::Accepted => None,
        }
    }

    fn refuse(&mut self) {
        if let Some(value) = self.accept() {
            *self = Self::Refused(value);
        }
    }

    /// The value, if it was not accepted.
    pub(super) fn into_value(self) -> Option<T> {
        match self {
            Self::Waiting(value) | Self::Refused(value) => Some(value),
            Self::Accepted => None,
        }
    }
}

/// Claims this side where no partner is needed.
#[inline]
fn claim_alone(me: Option<&SelectWaiter>) -> Result<(), Stop> {
    if claim(me, None) == Claim::Won {
        Ok(())
    } else {
        Err(Stop::Elsewhere)
    }
}

/// Takes the first off the queue that can be had as a partner of `me`.
///
/// A `select` that has gone elsewhere is taken off too: its node is of no use,
/// and to wake it once more does no harm.
#[inline]
fn take_partner<'a, X>(
    queue: &'a mut Waiters<ChannelWaiter<X>>,
    me: Option<&SelectWaiter>,
    wakes: &mut WakeList,
) -> Result<Option<&'a mut X>, Stop> {
    let mut at = queue.first_key();
    while let Some(key) = at {
        let after = queue.key_after(key);
        match claim(me, queue.payload(key).select.as_ref()) {
            Claim::Won => return Ok(Some(&mut queue.take(key, wakes).what)),
            Claim::SelfGone => return Err(Stop::Elsewhere),
            Claim::PartnerGone => {
                queue.take(key, wakes);
            }
            Claim::Same => {}
        }
        at = after;
    }
    Ok(None)
}
