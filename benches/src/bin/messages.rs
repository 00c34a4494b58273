//! Messages through channels, all contenders in turns, so that a noisy machine
//! disturbs them alike; and what a second worker adds. `cargo run --release -p
//! crore-benches --bin messages [repetitions [part of a name]]`

use std::time::Duration;

use crore_benches::messages as on_crore;
use crore_peers::messages::{on_flume, on_std, on_tokio};

struct Contest {
    name: &'static str,
    /// Messages (or yields) in one call.
    operations: u64,
    contenders: &'static [(&'static str, fn() -> Duration)],
}

const CONTESTS: [Contest; 5] = [
    Contest {
        name: "ping-pong, one thread",
        operations: 1_000_000,
        contenders: &[
            ("crore", || on_crore::ping_pong(1, 500_000)),
            ("tokio", || on_tokio::ping_pong(1, 500_000)),
        ],
    },
    Contest {
        name: "stream, one thread",
        operations: 2_000_000,
        contenders: &[
            ("crore", || on_crore::stream(1, 2_000_000)),
            ("tokio", || on_tokio::stream(1, 2_000_000)),
        ],
    },
    Contest {
        name: "ping-pong, two threads",
        operations: 40_000,
        contenders: &[
            ("crore", || on_crore::ping_pong(2, 20_000)),
            ("tokio", || on_tokio::ping_pong(2, 20_000)),
            ("std", || on_std::ping_pong(20_000)),
            ("flume", || on_flume::ping_pong(20_000)),
        ],
    },
    Contest {
        name: "stream, two threads",
        operations: 1_000_000,
        contenders: &[
            ("crore", || on_crore::stream(2, 1_000_000)),
            ("tokio", || on_tokio::stream(2, 1_000_000)),
            ("std", || on_std::stream(1_000_000)),
            ("flume", || on_flume::stream(1_000_000)),
        ],
    },
    Contest {
        name: "yield, 200 runnable",
        operations: 8_000_000,
        contenders: &[
            ("two workers", || on_crore::yields(2, 200, 40_000)),
            ("one worker", || on_crore::yields(1, 200, 40_000)),
        ],
    },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let repetitions = arguments.next().map_or(7, |text| {
        text.parse()
            .expect("the first argument is a number of repetitions")
    });
    let wanted = arguments.next().unwrap_or_default();
    println!("ns for one operation: least (median) of {repetitions} repetitions;");
    println!("and how many times the first's, by the medians of the ratios\n");
    for contest in CONTESTS.iter().filter(|it| it.name.contains(&wanted)) {
        hold(contest, repetitions);
    }
}

fn hold(contest: &Contest, repetitions: usize) {
    println!("{}", contest.name);
    let each = |time: Duration| time.as_nanos() as f64 / contest.operations as f64;
    let rounds: Vec<Vec<f64>> = (0..repetitions)
        .map(|_| {
            let contenders = contest.contenders.iter();
            contenders.map(|(_, time)| each(time())).collect()
        })
        .collect();
    for (i, (name, _)) in contest.contenders.iter().enumerate() {
        let times = sorted(rounds.iter().map(|round| round[i]));
        let ratios = sorted(rounds.iter().map(|round| round[i] / round[0]));
        let middle = repetitions / 2;
        println!(
            "  {name:<14}{:>10.1} ({:>8.1}){:>8.2}",
            times[0], times[middle], ratios[middle]
        );
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
