//! When the stacks of parked coroutines are trimmed: the periods, and the walk over the
//! slots that is under way. What a walk does is in `trim.rs`.

use std::cell::Cell;
use std::time::Duration;

use crate::driver::ticks;

const PERIOD: u64 = ticks(Duration::from_secs(4));

/// Ticks between two pieces of a walk.
const PAUSE: u64 = ticks(Duration::from_millis(1));

/// What is trimmed next, and when.
#[derive(Debug, Default)]
pub(super) struct TrimSchedule {
    /// The tick of the next piece, or of the end of the period.
    due: Cell<u64>,
    /// The ends of the last two periods, the older one first.
    ends: Cell<[PeriodEnd; 2]>,
    walk: Cell<SlotWalk>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PeriodEnd {
    park_time: u32,
    /// Resumes until then, and until the end of the period before.
    resumed: u64,
    before: u64,
}

/// A walk over the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotWalk {
    /// The number of the next slot, if it is not over.
    pub(super) next: Option<u32>,
    /// It is for those that parked from the first time on, and before the second.
    pub(super) parked: (u32, u32),
}

impl TrimSchedule {
    /// When there is something to do next, if `resumed` is all that has happened.
    pub(super) fn due(&self, resumed: u64) -> Option<u64> {
        // Who parked just before the end of a period may have noted the time of the next.
        let [older, _] = self.ends.get();
        let wanted = self.walk.get().next.is_some() || resumed != older.before;
        wanted.then_some(self.due.get())
    }

    #[inline(always)]
    pub(super) fn is_due(&self, now: u64) -> bool {
        now >= self.due.get()
    }

    /// At the tick `now`, of which coroutines that park now note `park_time`: the walk to
    /// go on with, if there is one. [`TrimSchedule::walked`] follows.
    pub(super) fn begin(&self, park_time: u32, resumed: u64) -> Option<SlotWalk> {
        if self.walk.get().next.is_none() && self.due(resumed).is_some() {
            self.end_period(park_time, resumed);
        }
        let walk = self.walk.get();
        walk.next.is_some().then_some(walk)
    }

    /// So much is left of it.
    pub(super) fn walked(&self, now: u64, rest: SlotWalk) {
        let pause = if rest.next.is_some() { PAUSE } else { PERIOD };
        self.due.set(now + pause);
        self.walk.set(rest);
    }

    fn end_period(&self, park_time: u32, resumed: u64) {
        let [older, newer] = self.ends.get();
        let now = PeriodEnd {
            park_time,
            resumed,
            before: newer.resumed,
        };
        self.ends.set([newer, now]);
        if newer.resumed != older.before {
            self.walk.set(SlotWalk {
                next: Some(0),
                parked: (older.park_time, newer.park_time),
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Coroutines that park at random; each stay is walked over once, not before a period
    /// has passed, and when nobody has run for some there is nothing to do.
    #[test]
    fn each_stay_is_looked_at_once() {
        const UNIT: u64 = 1 << 10;
        let schedule = TrimSchedule::default();
        let mut random = 7_u32;
        let mut next = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        // When they parked; as noted; how often they were walked over.
        let mut stays: Vec<(u64, u32, u32)> = Vec::new();
        let (mut now, mut resumed) = (77 * UNIT, 0);
        let look = |now: u64, resumed: u64, stays: &mut Vec<(u64, u32, u32)>| {
            if !schedule.is_due(now) {
                return schedule.due(resumed).is_some();
            }
            let walk = schedule.begin((now / UNIT) as u32, resumed);
            for (parked, noted, walks) in stays {
                let (from, before) = walk.unwrap_or_default().parked;
                if (from..before).contains(noted) {
                    *walks += 1;
                    assert!(now - *parked >= PERIOD - UNIT);
                }
            }
            let over = SlotWalk::default();
            schedule.walked(now, over);
            schedule.due(resumed).is_some()
        };
        for _ in 0..2_000 {
            now += u64::from(next(UNIT as u32 / 2));
            look(now, resumed, &mut stays);
            // Some time later, as of that look.
            if next(50) > 0 {
                (0..next(3)).for_each(|_| stays.push((now, (now / UNIT) as u32, 0)));
                resumed += 1;
            }
            if next(100) == 0 {
                now += u64::from(next(4)) * PERIOD;
            }
        }
        let mut more = 0;
        while look(now, resumed, &mut stays) {
            now += PERIOD + 1;
            more += 1;
        }
        assert!((1..5).contains(&more), "{more}");
        assert!(stays.iter().all(|(.., walks)| *walks == 1));
    }
}
