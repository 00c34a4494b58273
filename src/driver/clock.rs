//! The clock: instants, and the ticks of the timer wheel.
//!
//! What time it is a [`TimeSource`] says, which is the other half of a backend
//! (`poller.rs`): a poller sleeps, and its time source says for how long.
//!
//! A tick is 2¹⁶ ns, 65.5 µs. Deadlines round up and the present rounds down:
//! a timer whose tick has come was due before.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sys::clock::monotonic_nanos;

/// Nanoseconds of a tick.
const TICK: u64 = 1 << 16;

/// Says what time it is, other than the system does. Never goes back.
pub(crate) trait TimeSource: Debug + Send + Sync {
    fn now(&self) -> Instant;
}

/// Some clock has a source of its own.
static OTHER_TIME: AtomicBool = AtomicBool::new(false);

/// The time, and its ticks since the clock was made.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// The system's monotonic clock then.
    origin_nanos: u64,
    source: Option<Arc<dyn TimeSource>>,
}

/// A time by a [`Clock`], in nanoseconds since that was made: what a worker reckons
/// with, since a difference of two `Instant`s takes 30 instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The time from `earlier` on; zero before.
    #[inline]
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The last tick that has come.
    #[inline]
    pub(super) fn tick(self) -> u64 {
        self.0 / TICK
    }

    /// How long it is until the tick comes; zero if it has.
    pub(super) fn until(self, tick: u64) -> Duration {
        Duration::from_nanos(tick.saturating_mul(TICK).saturating_sub(self.0))
    }
}

impl Clock {
    pub(super) fn new(source: Option<Arc<dyn TimeSource>>) -> Self {
        if source.is_some() {
            OTHER_TIME.store(true, Ordering::Relaxed);
        }
        let origin = source
            .as_ref()
            .map_or_else(Instant::now, |source| source.now());
        Self {
            origin,
            // After the origin: a moment is never ahead of the time.
            origin_nanos: monotonic_nanos(),
            source,
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.source {
            None => Instant::now(),
            Some(source) => source.now(),
        }
    }

    /// The present, for reckoning.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        Moment(match &self.source {
            None => monotonic_nanos().saturating_sub(self.origin_nanos),
            Some(source) => nanos(source.now().saturating_duration_since(self.origin)),
        })
    }

    /// Whether every clock of this process shows the system's time: then that
    /// need not be asked of the one that is meant.
    #[inline(always)]
    pub(crate) fn all_show_system_time() -> bool {
        !OTHER_TIME.load(Ordering::Relaxed)
    }

    /// The first tick that comes at `at` or later; 0 before the origin.
    pub(super) fn ceil(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.origin)).div_ceil(TICK)
    }

    /// When a tick comes; `None` if the clock does not reach that far.
    pub(super) fn instant(&self, tick: u64) -> Option<Instant> {
        self.origin.checked_add(Self::span(tick))
    }

    /// How long so many ticks take.
    pub(super) fn span(ticks: u64) -> Duration {
        Duration::from_nanos(ticks.saturating_mul(TICK))
    }
}

/// At most 584 years.
#[inline]
fn nanos(duration: Duration) -> u64 {
    let secs = duration.as_secs().saturating_mul(1_000_000_000);
    secs.saturating_add(duration.subsec_nanos().into())
}

/// How many ticks make at least `duration`.
pub(crate) const fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() / TICK as u128) as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_and_the_present_down() {
        let clock = Clock::new(None);
        let tick = Duration::from_nanos(TICK);
        let at = |d: Duration| clock.origin + d;
        assert_eq!(clock.ceil(at(Duration::ZERO)), 0);
        assert_eq!(clock.ceil(at(Duration::from_nanos(1))), 1);
        assert_eq!(clock.ceil(at(tick)), 1);
        assert_eq!((Moment(TICK - 1).tick(), Moment(TICK).tick()), (0, 1));
        let hour = at(Duration::from_secs(3600) + Duration::from_nanos(77));
        let due = clock.instant(clock.ceil(hour)).unwrap();
        assert!(due >= hour && due - hour < tick);
        let since = nanos(due - clock.origin);
        assert_eq!(Moment(since).tick(), clock.ceil(hour));
        let soon = Moment(since - 5);
        assert_eq!(soon.until(clock.ceil(hour)).as_nanos(), 5);
        assert_eq!(soon.until(clock.ceil(hour) - 1), Duration::ZERO);
    }

    /// A timer would be early otherwise.
    #[test]
    fn a_moment_is_not_ahead_of_the_time() {
        let clock = Clock::new(None);
        for _ in 0..1_000 {
            let moment = clock.moment();
            let elapsed = nanos(clock.origin.elapsed());
            assert!(moment.0 <= elapsed && elapsed - moment.0 < 60_000_000_000);
        }
    }

    #[test]
    fn before_the_origin_and_beyond_the_end() {
        let clock = Clock::new(None);
        if let Some(before) = clock.origin.checked_sub(Duration::from_nanos(1)) {
            assert_eq!(clock.ceil(before), 0);
        }
        // They reach 584 years; whoever waits for longer is woken then.
        let year = Duration::from_secs(365 * 86_400);
        assert!(
            clock
                .instant(u64::MAX)
                .is_none_or(|end| end - clock.origin > year * 584)
        );
        let far = clock.origin + year * 500;
        assert!(clock.instant(clock.ceil(far)).unwrap() >= far);
        let further = clock.ceil(clock.origin + year * 10_000);
        assert!(Moment(0).until(further) > year * 584 && further > clock.ceil(far));
        assert!(ticks(Duration::from_millis(50)) * TICK >= 50_000_000);
    }
}
