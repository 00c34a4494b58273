//! [`Interval`]: ticks of a fixed period.

use std::time::{Duration, Instant};

use super::wait::{sleep, sleep_until};

/// A beat of one tick every `period`, the first after one period.
///
/// The ticks keep to the grid that begins now: a tick that is noticed late
/// does not shift those after it. Ticks that were not waited for are left out
/// (as those of Go's `time.Ticker` are), so a loop that was busy for three
/// periods has one tick at once, and the next on the grid.
///
/// Works in coroutines, which park, and on plain threads, which block.
///
/// # Panics
///
/// If `period` is zero: a beat without time between is a loop.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let mut beat = crore::time::interval(Duration::from_millis(1));
/// let first = beat.tick();
/// assert!(beat.tick() >= first + beat.period());
/// ```
#[must_use = "it does nothing until its `tick` is called"]
pub fn interval(period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "interval(0) would never wait: use yield_now in a loop"
    );
    Interval {
        period,
        next: Instant::now().checked_add(period),
    }
}

/// See [`interval`].
///
/// ```
/// use std::time::{Duration, Instant};
/// crore::run(|| {
///     let begun = Instant::now();
///     let mut beat = crore::time::interval(Duration::from_millis(5));
///     (0..3).for_each(|_| drop(beat.tick()));
///     assert!(begun.elapsed() >= beat.period() * 2);
/// }).unwrap();
/// ```
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    /// `None`: later than the clock can say.
    next: Option<Instant>,
}

impl Interval {
    /// Waits for the next tick, and says when it was due: now, or up to one
    /// period ago if the caller was busy.
    ///
    /// # Panics
    ///
    /// As [`sleep`](crate::sleep): unwinds if the coroutine is cancelled or a
    /// [`timeout`](crate::timeout) ends. The tick is still to come then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// crore::run(|| {
    ///     let mut beat = crore::time::interval(Duration::from_millis(2));
    ///     let (first, second) = (beat.tick(), beat.tick());
    ///     assert!(second >= first + beat.period());
    /// }).unwrap();
    /// ```
    pub fn tick(&mut self) -> Instant {
        let Some(next) = self.next else {
            loop {
                sleep(Duration::MAX);
            }
        };
        sleep_until(next);
        let due = self.latest(next, Instant::now());
        self.next = due.checked_add(self.period);
        due
    }

    /// The last tick of the grid that is not after `now`.
    fn latest(&self, next: Instant, now: Instant) -> Instant {
        const SECOND: u128 = 1_000_000_000;
        let late = now.saturating_duration_since(next);
        let past = late.as_nanos() % self.period.as_nanos();
        // Less than `late`, so it fits.
        next + (late - Duration::new((past / SECOND) as u64, (past % SECOND) as u32))
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Begins a new grid now: the next tick comes in one period.
    pub fn reset(&mut self) {
        self.next = Instant::now().checked_add(self.period);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(1);

    #[test]
    fn ticks_keep_to_the_grid() {
        crate::run(|| {
            let mut beat = interval(PERIOD);
            let start = beat.next.unwrap();
            let mut last = start - PERIOD;
            for round in 0..20 {
                if round % 5 == 4 {
                    crate::sleep(3 * PERIOD);
                }
                let tick = beat.tick();
                assert!(tick <= Instant::now());
                assert!(tick > last);
                assert_eq!((tick - start).as_nanos() % PERIOD.as_nanos(), 0);
                last = tick;
            }
        })
        .unwrap();
    }

    #[test]
    fn missed_ticks_are_one() {
        let beat = interval(PERIOD);
        let next = beat.next.unwrap();
        let just_after = Duration::from_nanos(1);
        assert_eq!(beat.latest(next, next), next);
        assert_eq!(beat.latest(next, next + PERIOD - just_after), next);
        assert_eq!(beat.latest(next, next + PERIOD), next + PERIOD);
        assert_eq!(
            beat.latest(next, next + 7 * PERIOD + just_after),
            next + 7 * PERIOD
        );
    }

    #[test]
    fn a_cancelled_wait_keeps_its_tick() {
        crate::run(|| {
            let mut beat = interval(Duration::MAX);
            assert!(crate::timeout(PERIOD, || beat.tick()).is_err());
            assert!(beat.next.is_none());
            let mut beat = interval(10 * PERIOD);
            let next = beat.next;
            let ended = crate::timeout_at(next.unwrap() - 5 * PERIOD, || beat.tick()).is_err();
            assert!(!ended || beat.next == next);
        })
        .unwrap();
    }

    #[test]
    #[should_panic(expected = "interval(0)")]
    fn zero_is_refused() {
        let _ = interval(Duration::ZERO);
    }
}
