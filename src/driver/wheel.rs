//! A hierarchical timer wheel, which knows ticks, not clocks.
//!
//! ```text
//!  level 10      …        level 1              level 0
//!  bits 60–63             bits 6–11            bits 0–5      of the deadline
//!  [16 slots]             [64 slots]           [64 slots]    each slot a list
//!                                    elapsed ──────▲
//! ```
//!
//! A timer lies on the level of the highest 6-bit digit in which its deadline
//! differs from `elapsed`, in the slot that this digit of the deadline names.
//! Three things follow (W1–W3):
//!
//! - **W1** All slots in use on a level lie ahead of `elapsed`'s own digit
//!   there (on level 0: at or ahead of it), so a level never wraps around and
//!   its first slot is the lowest set bit of its bitmap.
//! - **W2** Everything on one level is due before everything on the next.
//! - **W3** While `elapsed` has not reached the beginning of a timer's slot,
//!   the timer's level stays what it was. So neither level nor slot is
//!   stored: they follow from deadline and `elapsed`.
//!
//! When `elapsed` reaches a slot above level 0, its timers are dealt out to
//! lower levels. Timers of one tick are always in the same slot and keep
//! their order throughout: they fire in the order of insertion.

use super::linked_slab::{LinkedSlab, SlabKey};
use crate::util::list::List;

const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
/// Eleven digits of 6 bits hold any `u64`.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT) as usize;
/// How far [`Wheel::next_deadline`] looks into a slot for its exact minimum.
pub(super) const PEEK: usize = 8;

/// Names a timer; a key whose timer fired or was removed is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(SlabKey);

#[derive(Debug)]
struct Timer<T> {
    deadline: u64,
    value: T,
}

/// Where a timer lies: W3 says why it need not be stored.
#[derive(Clone, Copy)]
struct WheelSlot {
    level: usize,
    slot: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// Every timer with a deadline before this has fired.
    elapsed: u64,
    timers: LinkedSlab<Timer<T>>,
    slots: Box<[[List; SLOTS]; LEVELS]>,
    /// Bit `s` of `occupied[l]`: slot `s` of level `l` is not empty.
    occupied: [u64; LEVELS],
    /// Bit `l`: level `l` is not empty.
    levels: u32,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self {
            elapsed: 0,
            timers: LinkedSlab::new(),
            slots: Box::new([[List::EMPTY; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            levels: 0,
        }
    }

    /// How many timers there are.
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    /// Adds a timer. One whose deadline has passed fires at the next
    /// [`advance`](Self::advance), with those of the tick reached last.
    pub(super) fn insert(&mut self, deadline: u64, value: T) -> TimerKey {
        let deadline = deadline.max(self.elapsed);
        let key = self.timers.insert(Timer { deadline, value });
        let index = self.timers.index(key).expect("inserted just now");
        self.link(deadline, index);
        TimerKey(key)
    }

    /// Takes a timer out, unless it has fired or was removed before.
    #[inline(always)]
    pub(super) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let index = self.timers.index(key.0)?;
        let at = self.slot_of(self.timers.get(index).deadline);
        let list = &mut self.slots[at.level][at.slot];
        list.unlink(&self.timers, index);
        if list.is_empty() {
            self.vacate(at);
        }
        Some(self.timers.remove(index).value)
    }

    /// Moves on to `now` and hands out every timer that is due by then, in
    /// the order of deadlines. A `now` before an earlier one counts as that.
    pub(super) fn advance(&mut self, now: u64, fire: &mut impl FnMut(T)) {
        let now = now.max(self.elapsed);
        while let Some((at, begin)) = self.first_slot() {
            if begin > now {
                break;
            }
            self.elapsed = begin;
            if at.level == 0 {
                self.fire_slot(at, fire);
            } else {
                self.deal_out(at);
            }
        }
        self.elapsed = now;
    }

    /// When [`advance`](Self::advance) has something to do next.
    ///
    /// Exact if the earliest slot holds few timers. Else it may be the
    /// beginning of that slot: never later than the earliest deadline, and
    /// past the last `advance`. Each such visit takes the slot's timers to a
    /// lower level, so a timer causes fewer extra visits than there are
    /// levels, and all timers of a slot share them.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let (at, begin) = self.first_slot()?;
        if at.level == 0 {
            return Some(begin);
        }
        let list = &self.slots[at.level][at.slot];
        let mut deadlines = self.timers.iter(list).map(|timer| timer.deadline);
        let earliest = deadlines.by_ref().take(PEEK).min();
        if deadlines.next().is_none() {
            earliest
        } else {
            Some(begin)
        }
    }

    /// All timers with their deadlines, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &T)> {
        let timers = self.timers.values();
        timers.map(|timer| (timer.deadline, &timer.value))
    }

    /// The slot that comes first (W1, W2), and its first tick.
    fn first_slot(&self) -> Option<(WheelSlot, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level as u32 * DIGIT;
        // The digits above the level are those of `elapsed`. The top level
        // has none above it, and a shift by 66 would be one too far.
        let above = u64::MAX.checked_shl(shift + DIGIT).unwrap_or(0);
        let begin = (self.elapsed & above) | ((slot as u64) << shift);
        Some((WheelSlot { level, slot }, begin))
    }

    fn slot_of(&self, deadline: u64) -> WheelSlot {
        let differs = (deadline ^ self.elapsed) | 1;
        let level = (u64::BITS - 1 - differs.leading_zeros()) / DIGIT;
        let slot = (deadline >> (level * DIGIT)) as usize % SLOTS;
        WheelSlot {
            level: level as usize,
            slot,
        }
    }

    fn link(&mut self, deadline: u64, index: u32) {
        let WheelSlot { level, slot } = self.slot_of(deadline);
        self.slots[level][slot].push_back(&self.timers, index);
        self.occupied[level] |= 1 << slot;
        self.levels |= 1 << level;
    }

    /// Clears the bit of a slot that has become empty.
    fn vacate(&mut self, WheelSlot { level, slot }: WheelSlot) {
        self.occupied[level] &= !(1 << slot);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    /// Fires one by one, so that a panic in `fire` leaves the wheel in order.
    fn fire_slot(&mut self, at: WheelSlot, fire: &mut impl FnMut(T)) {
        while let Some(index) = self.slots[at.level][at.slot].pop_front(&self.timers) {
            if self.slots[at.level][at.slot].is_empty() {
                self.vacate(at);
            }
            fire(self.timers.remove(index).value);
        }
    }

    /// Moves a slot's timers to lower levels, in their order.
    fn deal_out(&mut self, at: WheelSlot) {
        let mut list = std::mem::replace(&mut self.slots[at.level][at.slot], List::EMPTY);
        self.vacate(at);
        while let Some(index) = list.pop_front(&self.timers) {
            self.link(self.timers.get(index).deadline, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::fuzz_ops::WheelPair;

    #[test]
    fn a_crowded_far_slot_costs_few_visits() {
        let mut pair = WheelPair::new();
        for i in 0..100 {
            pair.insert((1 << 40) + 1_000_000 + i % 10);
        }
        let mut visits = 0;
        while let Some(next) = pair.next_deadline() {
            pair.advance(next);
            pair.check();
            visits += 1;
        }
        assert!(visits <= 10 + LEVELS, "{visits} visits for ten ticks");
    }

    #[test]
    fn a_panic_while_firing_loses_only_the_timer_fired() {
        let mut wheel = Wheel::new();
        for value in 0..3 {
            wheel.insert(5, value);
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wheel.advance(9, &mut |value| assert_ne!(value, 0, "the first"));
        }));
        assert!(result.is_err());
        let mut rest = Vec::new();
        wheel.advance(9, &mut |value| rest.push(value));
        assert_eq!(rest, [1, 2]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_spike_of_timers_is_given_back() {
        let mut wheel = Wheel::new();
        for i in 0..300_000u64 {
            wheel.insert(i * 7, i);
        }
        wheel.advance(u64::MAX, &mut |_| {});
        assert!(wheel.timers.capacity() <= 1024);
    }
}
