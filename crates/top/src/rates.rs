//! What has happened between two summaries.

use std::time::Duration;

use crore_inspect::Summary;

/// A summary and how far the numbers have come since the one before.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    pub(crate) summary: Summary,
    pub(crate) workers: Vec<WorkerRates>,
}

/// Of one worker, a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WorkerRates {
    pub(crate) number: usize,
    /// The share of a processor that it uses.
    pub(crate) busy: f64,
    pub(crate) resumed: f64,
    pub(crate) spawned: f64,
    pub(crate) steals: f64,
    /// How many there are now, and for how long one has had the worker at most.
    pub(crate) live: u64,
    pub(crate) runnable: u64,
    pub(crate) longest: Duration,
}

impl Rates {
    /// `last` is what was known `time` ago.
    pub(crate) fn between(last: &Summary, now: Summary, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1e-3);
        let workers = now.workers.iter().enumerate().map(|(number, ours)| {
            let count = |name| named(ours, name);
            let before = |name| last.workers.get(number).map_or(0, |last| named(last, name));
            // It may have been another program, by the same number.
            let rate = |name| count(name).saturating_sub(before(name)) as f64 / seconds;
            WorkerRates {
                number,
                busy: rate("busy_micros") / 1e6,
                resumed: rate("resumed"),
                spawned: rate("spawned"),
                steals: rate("steals"),
                live: count("spawned").saturating_sub(count("ended")),
                runnable: count("runnable"),
                longest: Duration::from_micros(longest(ours)),
            }
        });
        Self {
            workers: workers.collect(),
            summary: now,
        }
    }

    pub(crate) fn sum(&self, of: impl Fn(&WorkerRates) -> f64) -> f64 {
        self.workers.iter().map(of).sum()
    }

    pub(crate) fn live(&self) -> u64 {
        self.workers.iter().map(|one| one.live).sum()
    }

    pub(crate) fn runnable(&self) -> u64 {
        self.workers.iter().map(|one| one.runnable).sum()
    }
}

fn named(numbers: &[(String, u64)], name: &str) -> u64 {
    let found = numbers.iter().find(|(other, _)| other == name);
    found.map_or(0, |(_, number)| *number)
}

/// The longest slice; where it is not counted, the longest that the watchdog has seen.
fn longest(numbers: &[(String, u64)]) -> u64 {
    named(numbers, "longest_slice_micros").max(named(numbers, "longest_hold_micros"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(busy: u64, resumed: u64, spawned: u64) -> Summary {
        let numbers = [
            ("busy_micros", busy),
            ("resumed", resumed),
            ("spawned", spawned),
            ("ended", 3),
            ("longest_hold_micros", 40_000),
        ];
        Summary {
            workers: vec![numbers.map(|(name, n)| (name.to_owned(), n)).to_vec()],
            ..Summary::default()
        }
    }

    #[test]
    fn rates_are_by_the_second() {
        let (last, now) = (summary(1_000_000, 100, 5), summary(2_000_000, 300, 7));
        let rates = Rates::between(&last, now, Duration::from_secs(2));
        let one = &rates.workers[0];
        assert_eq!((one.busy, one.resumed, one.spawned), (0.5, 100.0, 1.0));
        assert_eq!((one.live, one.longest), (4, Duration::from_millis(40)));
    }

    #[test]
    fn numbers_that_go_back_are_no_rate() {
        let rates = Rates::between(&summary(9, 9, 9), summary(1, 1, 1), Duration::from_secs(1));
        assert_eq!(rates.workers[0].resumed, 0.0);
    }
}
