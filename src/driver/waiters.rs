//! Who waits for a descriptor.
//!
//! Lives here: the waiters of one descriptor, its [`Line`], and the memory of
//! all lines' crowds, [`Waiters`]. Does not live here: what is known of the
//! descriptor (`fd.rs`).
//!
//! Most descriptors have one waiter. He has a seat in the line itself, which
//! is a part of the descriptor's entry: so a wait, the event that ends it and
//! the call that it was for find all that they need in one cache line. Whoever
//! comes while the seat is taken joins the crowd, a list for each direction.
//!
//! A waiter is pending until he has an outcome. In a crowd he is on a list for
//! as long; his seat, or his place in the pool, is his until [`Waiters::leave`].

use std::os::fd::RawFd;
use std::task::Waker;

use slab::Slab;

use super::fd::{Direction, Outcome};
use super::pool::{Key, List, Pool};

/// No crowd.
const NONE: u32 = u32::MAX;

/// A wait that is not finished yet: hand it to `Driver::finish`, once.
#[derive(Debug)]
#[must_use = "a wait holds its waker until it is finished"]
pub(crate) struct WaitKey(Place);

#[derive(Debug)]
enum Place {
    /// The seat of this descriptor.
    Seat(RawFd),
    Crowd(Key),
}

#[derive(Debug)]
pub(super) struct Waiter {
    /// Taken when the outcome is known.
    pub(super) waker: Option<Waker>,
    pub(super) fd: RawFd,
    /// That of the registration which he waits under.
    pub(super) epoch: u32,
    /// The tick of parking, without its upper half.
    pub(super) since: u32,
    pub(super) direction: Direction,
    pub(super) outcome: Outcome,
    /// The registration was made or checked since.
    pub(super) checked: bool,
}

impl Waiter {
    fn is_pending(&self) -> bool {
        self.outcome == Outcome::Pending
    }

    /// Gives a pending waiter an outcome, and his waker to `woken`.
    #[inline(always)]
    fn resolve(&mut self, outcome: Outcome, woken: &mut Vec<Waker>) {
        self.outcome = outcome;
        if let Some(waker) = self.waker.take() {
            woken.push(waker);
        }
    }
}

/// The waiters of one descriptor.
#[derive(Debug)]
pub(super) struct Line {
    seat: Option<Waiter>,
    /// Index of the lists of all others.
    crowd: u32,
}

impl Line {
    pub(super) const EMPTY: Self = Self {
        seat: None,
        crowd: NONE,
    };
}

/// All lines' crowds, and how many wait in all.
#[derive(Debug)]
pub(super) struct Waiters {
    pool: Pool<Waiter>,
    /// Pending waiters by direction. Empty ones are removed.
    crowds: Slab<[List; 2]>,
    seated: usize,
}

impl Waiters {
    pub(super) const fn new() -> Self {
        Self {
            pool: Pool::new(),
            crowds: Slab::new(),
            seated: 0,
        }
    }

    /// How many have not left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.seated + self.pool.len()
    }

    #[inline(always)]
    pub(super) fn join(&mut self, line: &mut Line, waiter: Waiter) -> WaitKey {
        if line.seat.is_some() {
            return self.join_crowd(line, waiter);
        }
        let fd = waiter.fd;
        line.seat = Some(waiter);
        self.seated += 1;
        WaitKey(Place::Seat(fd))
    }

    #[cold]
    fn join_crowd(&mut self, line: &mut Line, waiter: Waiter) -> WaitKey {
        if line.crowd == NONE {
            let index = self.crowds.insert([List::EMPTY; 2]);
            line.crowd = u32::try_from(index).expect("fewer crowds than descriptors");
        }
        let list = &mut self.crowds[line.crowd as usize][waiter.direction as usize];
        WaitKey(Place::Crowd(self.pool.append(list, waiter)))
    }

    /// The descriptor that a key's owner waits for.
    #[inline(always)]
    pub(super) fn fd(&self, key: &WaitKey) -> RawFd {
        match key.0 {
            Place::Seat(fd) => fd,
            Place::Crowd(key) => self.pool.get(self.in_crowd(key)).fd,
        }
    }

    /// Takes a waiter out of his line, pending or not: his outcome, and the
    /// epoch that he waited under.
    ///
    /// (Read where they are: a copy of the waiter would go through a part of the
    /// stack that the coroutine has not used since it was resumed, and wait for
    /// that to come from memory.)
    #[inline(always)]
    pub(super) fn leave(&mut self, line: &mut Line, key: WaitKey) -> (Outcome, u32) {
        match key.0 {
            Place::Seat(_) => {
                self.seated -= 1;
                let seat = line.seat.as_ref().expect(KEPT);
                let end = (seat.outcome, seat.epoch);
                line.seat = None;
                end
            }
            Place::Crowd(key) => self.leave_crowd(line, key),
        }
    }

    #[cold]
    fn leave_crowd(&mut self, line: &mut Line, key: Key) -> (Outcome, u32) {
        let index = self.in_crowd(key);
        let waiter = self.pool.get(index);
        if waiter.is_pending() {
            let list = &mut self.crowds[line.crowd as usize][waiter.direction as usize];
            self.pool.unlink(list, index);
            self.drop_empty_crowd(line);
        }
        let waiter = self.pool.remove(index);
        (waiter.outcome, waiter.epoch)
    }

    fn in_crowd(&self, key: Key) -> u32 {
        self.pool.index(key).expect(KEPT)
    }

    fn drop_empty_crowd(&mut self, line: &mut Line) {
        if self.crowds[line.crowd as usize].iter().all(List::is_empty) {
            self.crowds.remove(line.crowd as usize);
            line.crowd = NONE;
            // A spike's memory goes with its last crowd.
            if self.crowds.is_empty() {
                self.crowds = Slab::new();
            }
        }
    }

    /// Gives all who wait in `direction` an outcome, and their wakers to `woken`.
    #[inline(always)]
    pub(super) fn resolve(
        &mut self,
        line: &mut Line,
        direction: Direction,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        if let Some(seat) = &mut line.seat {
            if seat.direction == direction && seat.is_pending() {
                seat.resolve(outcome, woken);
            }
        }
        if line.crowd != NONE {
            self.resolve_crowd(line, direction, outcome, woken);
        }
    }

    #[cold]
    fn resolve_crowd(
        &mut self,
        line: &mut Line,
        direction: Direction,
        outcome: Outcome,
        woken: &mut Vec<Waker>,
    ) {
        let list = &mut self.crowds[line.crowd as usize][direction as usize];
        while let Some(index) = self.pool.pop_front(list) {
            self.pool.get_mut(index).resolve(outcome, woken);
        }
        self.drop_empty_crowd(line);
    }

    /// The pending waiters of a line.
    pub(super) fn pending<'a>(&'a self, line: &'a Line) -> impl Iterator<Item = &'a Waiter> {
        let crowd = self.crowds.get(line.crowd as usize);
        let crowd = crowd.into_iter().flatten();
        let seat = line.seat.iter().filter(|waiter| waiter.is_pending());
        seat.chain(crowd.flat_map(|list| self.pool.iter(list)))
    }

    /// Notes that all who wait in a line have had their registration checked.
    pub(super) fn set_checked(&mut self, line: &mut Line) {
        if let Some(seat) = &mut line.seat {
            seat.checked = true;
        }
        if let Some(lists) = self.crowds.get(line.crowd as usize) {
            for list in lists {
                self.pool.for_each(list, |waiter| waiter.checked = true);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_pending(&self, line: &Line, key: &WaitKey) -> bool {
        match key.0 {
            Place::Seat(_) => line.seat.as_ref().is_some_and(Waiter::is_pending),
            Place::Crowd(key) => self.pool.get(self.in_crowd(key)).is_pending(),
        }
    }
}

const KEPT: &str = "a key is finished once, by being moved here";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_waiters_stay_small() {
        assert_eq!(size_of::<WaitKey>(), 8);
        assert_eq!(size_of::<Option<Waiter>>(), 32);
    }
}
