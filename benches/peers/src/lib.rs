//! What crore is compared with: workloads and echo servers on other runtimes.
//! Nothing here, and no program of this package, links crore, whose hooks bind
//! in the whole program.
//!
//! A workload takes the number of operations, does them in a runtime of its
//! own that is warm by then, checks what came out, and returns the time of the
//! operations alone. So criterion, `compare` and `peers` time the same code.
//!
//! - `on_tokio`, `on_may`, `on_threads`, `raw`, `messages` the workloads
//! - `serve` the echo servers
//! - `subject` the command line of the programs that `peers` starts: those of
//!   this package, of `crore-benches` and of `benches/go`
//! - `process` what a process uses

use std::time::{Duration, Instant};

pub mod messages;
pub mod on_may;
pub mod on_threads;
pub mod on_tokio;
pub mod process;
pub mod raw;
pub mod serve;
pub mod subject;

/// So far away that no timer of it ever fires.
pub const NEVER: Duration = Duration::from_secs(3600);

/// The deadline of the i-th of many sleepers: on one of twenty milliseconds,
/// because that is how finely tokio tells deadlines apart (crore: 66 µs), and
/// late enough for all to be asleep by then.
pub fn deadline(begin: Instant, i: u64) -> Instant {
    begin + Duration::from_millis(10 + i * 7 % 20)
}

/// When one of many taskers began and ended to yield, and how often it did.
pub type Turns = (Instant, Instant, u64);

/// The time from when the last of them had begun until the last one ended.
///
/// # Panics
///
/// Unless they have yielded `expected` times in all.
pub fn time_of_turns(all: impl IntoIterator<Item = Turns>, expected: u64) -> Duration {
    let mut all = all.into_iter();
    let (mut begun, mut ended, mut done) = all.next().expect("at least one yields");
    for (begin, end, count) in all {
        (begun, ended) = (begun.max(begin), ended.max(end));
        done += count;
    }
    assert_eq!(done, expected);
    ended - begun
}
