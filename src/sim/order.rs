//! Who runs next, by the seed.

use super::chance::Chance;

/// How a simulation chooses among the coroutines that could run.
///
/// ```
/// use crore::sim::{Schedule, Sim};
///
/// let schedule = Schedule::Pct { changes: 3, steps: 1_000 };
/// Sim::new(1).schedule(schedule).client("one", || {}).run();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// Each of them is as likely as the others.
    #[default]
    Uniform,
    /// Each has a random priority, the highest runs; at so many random moments among the
    /// first `steps` the one that runs gets the lowest. It finds what takes few
    /// unlucky switches and much persistence otherwise. After "A Randomized Scheduler with
    /// Probabilistic Guarantees of Finding Bugs" (Burckhardt and others, ASPLOS 2010).
    /// (One choice in 64 is uniform, or who waits by spinning would wait for ever.)
    Pct {
        /// Moments at which priorities change.
        changes: u32,
        /// About how many choices a run takes.
        steps: u64,
    },
}

/// One choice in so many is fair.
const FAIR: u64 = 64;

pub(super) struct Order {
    schedule: Schedule,
    chance: Chance,
    step: u64,
    /// By the coroutine's serial number.
    priorities: Vec<u64>,
    /// When priorities change, the latest first.
    changes: Vec<u64>,
}

impl Order {
    pub(super) fn new(schedule: Schedule, mut chance: Chance) -> Self {
        let mut changes = Vec::new();
        if let Schedule::Pct { changes: n, steps } = schedule {
            changes.extend((0..n).map(|_| chance.below(steps)));
            changes.sort_unstable_by(|a, b| b.cmp(a));
        }
        Self {
            schedule,
            chance,
            step: 0,
            priorities: Vec::new(),
            changes,
        }
    }

    /// The place of the next to run among those with these serial numbers; there is one.
    pub(super) fn next(&mut self, queue: impl ExactSizeIterator<Item = usize>) -> usize {
        self.step += 1;
        let len = queue.len();
        if len == 1 {
            return 0;
        }
        let is_fair = self.schedule == Schedule::Uniform || self.step % FAIR == 0;
        if is_fair {
            return self.chance.below(len as u64) as usize;
        }
        let serials = queue.enumerate();
        let highest = serials.max_by_key(|&(_, serial)| self.priority(serial));
        let (place, serial) = highest.expect("somebody is to run");
        if self.changes.last().is_some_and(|at| *at <= self.step) {
            self.changes.pop();
            // Below all others, and below those that were put there before.
            self.priorities[serial] = self.changes.len() as u64;
        }
        place
    }

    fn priority(&mut self, serial: usize) -> u64 {
        while self.priorities.len() <= serial {
            let lowest = u64::from(u32::MAX);
            self.priorities.push(self.chance.draw().max(lowest));
        }
        self.priorities[serial]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(schedule: Schedule) -> Order {
        Order::new(schedule, Chance::new(3))
    }

    #[test]
    fn uniform_is_everybody_in_turn() {
        let mut order = order(Schedule::Uniform);
        let mut times = [0; 4];
        for _ in 0..4_000 {
            times[order.next(0..4)] += 1;
        }
        assert!(times.iter().all(|n| (800..1_200).contains(n)), "{times:?}");
    }

    #[test]
    fn the_highest_runs_until_a_change() {
        let schedule = Schedule::Pct {
            changes: 1,
            steps: 100,
        };
        let mut order = order(schedule);
        let run: Vec<_> = (1..=300).map(|step| (step, order.next(0..4))).collect();
        let persistent = run.iter().filter(|(step, _)| step % FAIR != 0);
        let mut ran: Vec<_> = persistent.map(|&(_, place)| place).collect();
        ran.dedup();
        assert_eq!(ran.len(), 2, "{ran:?}");
    }
}
