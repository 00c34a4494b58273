//! crore beside tokio's current_thread runtime: the pairs run in turns, so
//! that a noisy machine disturbs both alike. `cargo run --release -p
//! crore-benches --bin compare [repetitions [part of a name]]`

use std::time::Duration;

use crore_benches::on_crore::{self, Own};
use crore_peers::{clock, on_tokio, raw};

struct Pair {
    name: &'static str,
    /// Operations that one call does.
    operations: u64,
    ours: fn() -> Duration,
    theirs: fn() -> Duration,
}

const PAIRS: [Pair; 17] = [
    Pair {
        name: "yield, 2 runnable",
        operations: 2_000_000,
        ours: || on_crore::yields::<Own>(2, 1_000_000),
        theirs: || on_tokio::yields(1, 2, 1_000_000),
    },
    Pair {
        name: "yield, 1 000 runnable",
        operations: 2_000_000,
        ours: || on_crore::yields::<Own>(1_000, 2_000),
        theirs: || on_tokio::yields(1, 1_000, 2_000),
    },
    Pair {
        name: "yield, 100 000 runnable",
        operations: 2_000_000,
        ours: || on_crore::yields::<Own>(100_000, 20),
        theirs: || on_tokio::yields(1, 100_000, 20),
    },
    Pair {
        name: "the same, floor (corosensei raw)",
        operations: 2_000_000,
        ours: || raw::switches(1_000, 2_000),
        theirs: || on_tokio::yields(1, 1_000, 2_000),
    },
    Pair {
        name: "spawn + join, one by one",
        operations: 500_000,
        ours: || on_crore::spawn_join::<Own>(500_000),
        theirs: || on_tokio::spawn_join(1, 500_000),
    },
    Pair {
        name: "spawn + join, batches of 1 000",
        operations: 500_000,
        ours: || on_crore::spawn_join_batch::<Own>(1_000, 500),
        theirs: || on_tokio::spawn_join_batch(1, 1_000, 500),
    },
    Pair {
        name: "join of the ended",
        operations: 4_000,
        ours: || on_crore::joins::<Own>(4_000),
        theirs: || on_tokio::joins(1, 4_000),
    },
    Pair {
        name: "unpark + park, there and back",
        operations: 500_000,
        ours: || on_crore::ping_pong::<Own>(500_000),
        theirs: || on_tokio::ping_pong(1, 500_000),
    },
    Pair {
        name: "the same, each with a timer",
        operations: 200_000,
        ours: || on_crore::timer_cancel::<Own>(200_000),
        theirs: || on_tokio::timer_cancel(1, 200_000),
    },
    Pair {
        name: "spawn, sleep, wake, join",
        operations: 4_000,
        ours: || on_crore::sleepers::<Own>(4_000),
        theirs: || on_tokio::sleepers(1, 4_000),
    },
    Pair {
        name: "the same, burst of 10 000",
        operations: 10_000,
        ours: || on_crore::sleepers::<Own>(10_000),
        theirs: || on_tokio::sleepers(1, 10_000),
    },
    Pair {
        name: "the same, burst of 100 000",
        operations: 100_000,
        ours: || on_crore::sleepers::<Own>(100_000),
        theirs: || on_tokio::sleepers(1, 100_000),
    },
    Pair {
        name: "spawn, nap of 1 ms, join, 10 000",
        operations: 10_000,
        ours: || on_crore::naps::<Own>(10_000),
        theirs: || on_tokio::naps(1, 10_000),
    },
    Pair {
        name: "the same, 100 000",
        operations: 100_000,
        ours: || on_crore::naps::<Own>(100_000),
        theirs: || on_tokio::naps(1, 100_000),
    },
    Pair {
        name: "timer, set, 100 000",
        operations: 100_000,
        ours: || on_crore::timers_set::<Own>(100_000),
        theirs: || on_tokio::timers_set(1, 100_000),
    },
    Pair {
        name: "timer, set, 1 000 000",
        operations: 1_000_000,
        ours: || on_crore::timers_set::<Own>(1_000_000),
        theirs: || on_tokio::timers_set(1, 1_000_000),
    },
    Pair {
        name: "std Mutex held across a wait, 8",
        operations: 200_000,
        ours: || on_crore::std_mutex::<Own>(8, 200_000),
        theirs: || on_tokio::mutex(1, 8, 200_000),
    },
];

fn main() {
    clock::use_processor_time();
    let mut arguments = std::env::args().skip(1);
    let repetitions = arguments.next().map_or(11, |text| {
        text.parse()
            .expect("the first argument is a number of repetitions")
    });
    let wanted = arguments.next().unwrap_or_default();
    println!(
        "ns of processor time for one operation: least (median) of {repetitions} repetitions\n"
    );
    println!(
        "{:<34}{:>16}{:>18}   ratio: median (least to most)",
        "", "crore", "tokio 1 thread"
    );
    for pair in PAIRS.iter().filter(|pair| pair.name.contains(&wanted)) {
        compare(pair, repetitions);
    }
}

fn compare(pair: &Pair, repetitions: usize) {
    let each = |time: Duration| time.as_nanos() as f64 / pair.operations as f64;
    let times: Vec<_> = (0..repetitions)
        .map(|_| (each((pair.ours)()), each((pair.theirs)())))
        .collect();
    let ours = sorted(times.iter().map(|time| time.0));
    let theirs = sorted(times.iter().map(|time| time.1));
    let ratios = sorted(times.iter().map(|time| time.1 / time.0));
    let middle = repetitions / 2;
    println!(
        "{:<34}{:>8.1} ({:>5.1}){:>9.1} ({:>6.1})   {:.1} ({:.1} to {:.1})",
        pair.name,
        ours[0],
        ours[middle],
        theirs[0],
        theirs[middle],
        ratios[middle],
        ratios[0],
        ratios[repetitions - 1],
    );
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
