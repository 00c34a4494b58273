//! The workloads of the benchmarks, each written for crore and for tokio's
//! current_thread runtime.
//!
//! A workload takes the number of operations, does them in a runtime of its
//! own that is warm by then, checks what came out, and returns the time of the
//! operations alone. So criterion and `compare` time the same code.

use std::time::{Duration, Instant};

pub mod kinds;
pub mod messages;
pub mod on_crore;
pub mod on_tokio;
pub mod raw;

/// So far away that no timer of it ever fires.
const NEVER: Duration = Duration::from_secs(3600);

/// The deadline of the i-th of many sleepers: on one of twenty milliseconds,
/// because that is how finely tokio tells deadlines apart (crore: 66 µs), and
/// late enough for all to be asleep by then.
fn deadline(begin: Instant, i: u64) -> Instant {
    begin + Duration::from_millis(10 + i * 7 % 20)
}

/// Processor time that this thread has used.
fn processor_time() -> Duration {
    // SAFETY: the struct is valid and outlives the call.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time),
            0
        );
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}
