//! The workloads of the benchmarks, each written for crore and for tokio's
//! current_thread runtime.
//!
//! A workload takes the number of operations, does them in a runtime of its
//! own that is warm by then, checks what came out, and returns the time of the
//! operations alone. So criterion and `compare` time the same code.

use std::time::{Duration, Instant};

pub mod on_crore;
pub mod on_tokio;
pub mod raw;

/// So far away that no timer of it ever fires.
const NEVER: Duration = Duration::from_secs(3600);

/// Over how much time the deadlines of `sleepers` are spread.
const SPREAD: Duration = Duration::from_millis(20);

/// The deadline of the i-th of many sleepers.
fn deadline(start: Instant, i: u64) -> Instant {
    // A step that is prime to the number of steps: neighbours are far apart.
    start + SPREAD * (i * 377 % 1000) as u32 / 1000
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
