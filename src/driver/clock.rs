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

const SHIFT: u32 = 16;
const NANOS_PER_SEC: u128 = 1_000_000_000;

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
    source: Option<Arc<dyn TimeSource>>,
}

impl Clock {
    pub(super) fn new(source: Option<Arc<dyn TimeSource>>) -> Self {
        if source.is_some() {
            OTHER_TIME.store(true, Ordering::Relaxed);
        }
        let origin = source
            .as_ref()
            .map_or_else(Instant::now, |source| source.now());
        Self { origin, source }
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match &self.source {
            None => Instant::now(),
            Some(source) => source.now(),
        }
    }

    /// Whether every clock of this process shows the system's time: then that
    /// need not be asked of the one that is meant.
    #[inline(always)]
    pub(crate) fn all_show_system_time() -> bool {
        !OTHER_TIME.load(Ordering::Relaxed)
    }

    /// The last tick that has come at `at`; 0 before the origin.
    #[inline]
    pub(super) fn floor(&self, at: Instant) -> u64 {
        Self::tick(at.saturating_duration_since(self.origin).as_nanos())
    }

    /// The first tick that comes at `at` or later; 0 before the origin.
    pub(super) fn ceil(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        Self::tick(nanos + ((1 << SHIFT) - 1))
    }

    /// When a tick comes; `None` if the clock does not reach that far.
    pub(super) fn instant(&self, tick: u64) -> Option<Instant> {
        let nanos = u128::from(tick) << SHIFT;
        let secs = u64::try_from(nanos / NANOS_PER_SEC).ok()?;
        let rest = (nanos % NANOS_PER_SEC) as u32;
        self.origin.checked_add(Duration::new(secs, rest))
    }

    /// How long so many ticks take.
    pub(super) fn span(ticks: u64) -> Duration {
        let nanos = u128::from(ticks) << SHIFT;
        let secs = u64::try_from(nanos / NANOS_PER_SEC).unwrap_or(u64::MAX);
        Duration::new(secs, (nanos % NANOS_PER_SEC) as u32)
    }

    fn tick(nanos: u128) -> u64 {
        u64::try_from(nanos >> SHIFT).unwrap_or(u64::MAX)
    }
}

/// How many ticks make at least `duration`.
pub(super) const fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() >> SHIFT) as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_and_the_present_down() {
        let clock = Clock::new(None);
        let tick = Duration::from_nanos(1 << SHIFT);
        let at = |d: Duration| clock.origin + d;
        assert_eq!(clock.ceil(at(Duration::ZERO)), 0);
        assert_eq!(clock.ceil(at(Duration::from_nanos(1))), 1);
        assert_eq!(clock.ceil(at(tick)), 1);
        assert_eq!(clock.floor(at(tick - Duration::from_nanos(1))), 0);
        assert_eq!(clock.floor(at(tick)), 1);
        let hour = at(Duration::from_secs(3600) + Duration::from_nanos(77));
        let due = clock.instant(clock.ceil(hour)).unwrap();
        assert!(due >= hour && due - hour < tick);
        assert_eq!(clock.floor(due), clock.ceil(hour));
    }

    #[test]
    fn before_the_origin_and_beyond_the_end() {
        let clock = Clock::new(None);
        if let Some(before) = clock.origin.checked_sub(Duration::from_nanos(1)) {
            assert_eq!((clock.floor(before), clock.ceil(before)), (0, 0));
        }
        // Ticks reach 38 million years; no Instant need to.
        let _ = clock.instant(u64::MAX);
        let far = clock.origin + Duration::from_secs(10_000 * 365 * 86_400);
        assert!(clock.instant(clock.ceil(far)).unwrap() >= far);
        assert!(ticks(Duration::from_millis(50)) << SHIFT >= 50_000_000);
    }
}
