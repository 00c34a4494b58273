//! Scenarios: models of more threads than loom can try all orders of, run by shuttle.
//!
//! Each runs under some thousand schedules: half of them change threads at random, the
//! others (PCT: probabilistic concurrency testing) let the thread of the highest priority
//! run and change priorities at a few places, which finds what needs one rare order.
//! A scenario blocks where production would: shuttle fails when all threads are blocked,
//! which is what a lost wake-up comes to. Every atomic access is sequentially consistent
//! here; whether weaker orders suffice is loom's question.
//!
//! The seed is the same each time. `SHUTTLE_RANDOM_SEED` gives another one,
//! `SHUTTLE_SCHEDULES` another number of schedules, and `SHUTTLE_REPLAY` runs the one
//! that a failure has printed.

use std::env;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

const SEED: u64 = 0x5eed;

/// Schedules of each kind.
const SCHEDULES: usize = 2_000;

/// How many orders between two threads a bug may need so that PCT finds it.
const DEPTH: usize = 3;

/// Runs a scenario under many schedules.
pub(crate) fn check(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    if let Ok(schedule) = env::var("SHUTTLE_REPLAY") {
        return shuttle::replay(scenario, &schedule);
    }
    let schedules = env::var("SHUTTLE_SCHEDULES").map_or(SCHEDULES, |number| {
        number.parse().expect("SHUTTLE_SCHEDULES is a number")
    });
    run(RandomScheduler::new_from_seed(SEED, schedules), scenario);
    run(
        PctScheduler::new_from_seed(SEED, DEPTH, schedules),
        scenario,
    );
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // For the report of a panic.
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

/// So many threads, which know their numbers.
pub(crate) fn crowd<T: Send + 'static>(
    number: usize,
    each: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<JoinHandle<T>> {
    let one = |number| {
        let each = each.clone();
        thread::spawn(move || each(number))
    };
    (0..number).map(one).collect()
}

/// What all of them return.
pub(crate) fn join<T>(crowd: Vec<JoinHandle<T>>) -> Vec<T> {
    let join = |thread: JoinHandle<T>| thread.join().expect("a failed one ends the scenario");
    crowd.into_iter().map(join).collect()
}
