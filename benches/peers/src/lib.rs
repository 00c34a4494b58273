//! What crore is compared with: workloads and echo servers on other runtimes.
//! Nothing here, and no program of this package, links crore, whose hooks bind
//! in the whole program.
//!
//! A workload takes the number of operations, does them in a runtime of its
//! own that is warm by then, checks what came out, and returns the time of the
//! operations alone. So criterion, `compare` and `peers` time the same code.
//!
//! - `on_tokio`, `on_may`, `on_threads`, `raw`, `messages` the workloads
//! - `serve` the echo servers, and those of the services in `pipelined`
//! - `subject` the command line of the programs that `peers` starts: those of
//!   this package, of `crore-benches`, of `benches/go` and of `benches/cpp`
//! - `clock` how time is taken · `process` what a process uses

use std::time::{Duration, Instant};

pub mod clock;
pub mod computing;
pub mod messages;
pub mod on_may;
pub mod on_threads;
pub mod on_tokio;
pub mod pipelined;
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

/// How long those sleep that sleep for a moment.
pub const NAP: Duration = Duration::from_millis(1);

/// Bursts before the one that is measured. In the first ones some end before the last begin,
/// so that each of them needs some memory that is new.
pub const WARM_UPS: usize = 5;

/// When all of `n` that sleep have gone to sleep, on a machine that has other work too.
pub fn late(begin: Instant, n: u64) -> Instant {
    begin + Duration::from_millis(50) + Duration::from_micros(4) * n as u32
}
