//! Stackful coroutines that run plain blocking code: `std::net`, `std::thread::sleep`,
//! database drivers and C libraries park their coroutine instead of the thread.
//!
//! ```
//! use std::time::Duration;
//!
//! let sum = crore::run(|| {                       // this thread becomes a worker
//!     let workers: Vec<_> = (0..1000)
//!         .map(|i| crore::spawn(move || {         // 1 000 coroutines
//!             crore::sleep(Duration::from_millis(10));
//!             i
//!         }))
//!         .collect();
//!     workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
//! })?;
//! assert_eq!(sum, 499_500);
//! # std::io::Result::Ok(())
//! ```
//!
//! | to | take |
//! |---|---|
//! | begin | [`run`], [`spawn`], [`JoinHandle`], [`yield_now`], [`sleep`] |
//! | set stacks, workers, limits | [`Builder`] for a coroutine, [`Runtime`] for all |
//! | borrow, limit, end | [`scope`], [`JoinSet`], [`timeout`], [`CancelToken`], [`JoinHandle::cancel`], [`Handle::shutdown`] |
//! | talk to each other | [`sync`]: channels, locks for coroutines, threads and futures |
//! | wait for several things | [`select!`]: sockets, channels, times, joins, signals, the end |
//! | run ten million | [`spawn_shared`], on shared stacks |
//! | meet async code | [`block_on`], [`spawn_future`] |
//! | hand out values one by one | [`generator`], on the same stacks, without a scheduler |
//! | compute, or block for real | [`spawn_blocking`] |
//! | know which calls park | [`hook`]; [`io`] does without hooks |
//!
//! [`guide`] has the longer pages: how to come from [threads](guide::from_threads),
//! [tokio](guide::from_tokio), [Go](guide::from_go) and [libco](guide::from_libco); which [kind](guide::kinds) of coroutine to choose,
//! what a [service](guide::parts) is made of,
//! which [locks](guide::locks) and [crates](guide::compatibility) work, how things
//! [end](guide::cancellation), how to [size](guide::sizing), [deploy](guide::deploys) and
//! [multiply](guide::nodes) a service, which [buffer](guide::buffers) goes where, how to [look inside](guide::inside), what was [measured](guide::measured), and why it all
//! [holds](guide::architecture).

// gdb loads it from a program that has debug information.
#![debugger_visualizer(gdb_script_file = "../scripts/gdb/crore.py")]
// Only the hooks use all that the rooms below offer.
#![cfg_attr(not(all(feature = "hook", feature = "futex")), allow(dead_code))]

mod block_on;
pub mod blocking;
mod driver;
pub mod generator;
pub mod guide;
mod helpers;
pub mod hook;
pub mod io;
pub mod local;
mod runtime;
mod sched;
mod scope;
mod seam;
pub mod select;
mod shim;
pub mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod stack;
mod supported;
mod switch;
pub mod sync;
mod sys;
mod task;
mod test_run;
pub mod time;
mod util;
#[cfg(test)]
extern crate self as crore;

pub use block_on::block_on;
pub use blocking::spawn_blocking;
pub use generator::{grow, maybe_grow};
pub use hook::unhooked;
pub use local::{AccessError, LocalKey};
pub use runtime::contention::{Contended, Contention};
pub use runtime::info::{Awaited, CoroutineInfo, CoroutineState};
pub use runtime::join_handle::{
    CoroutineId, CoroutineId as ThreadId, JoinHandle, current, try_current,
};
pub use runtime::join_set::JoinSet;
pub use runtime::listing::Dump;
pub use runtime::metrics::{Metrics, StackMetrics};
pub use runtime::profile::Profile;
pub use runtime::shutdown::StillRunning;
pub use runtime::spawn::{spawn, spawn_local, spawn_on, spawn_shared};
pub use runtime::spawn_builder::{Builder, DEFAULT_STACK_SIZE};
pub use runtime::spawn_future::{spawn_future, spawn_future_local};
pub use runtime::stack_use::StackUse;
#[cfg(feature = "trace")]
pub use runtime::timeline::{Recording, Step, StepWhat, Timeline};
pub use runtime::{Handle, Runtime, RuntimeBuilder, run};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use std::thread::{available_parallelism, panicking};
pub use sync::CancelToken;
pub use task::{Coroutine, Coroutine as Thread, JoinError};
pub use time::timeout::{Elapsed, deadline, is_cancelled, timeout, timeout_at};
pub use time::wait::{park, park_timeout, sleep, sleep_until, yield_now};

pub mod test {
    //! Test aids: a run with a time limit that says who is stuck, and where.
    pub use crate::test_run::{run, run_on};
}

/// What [`JoinHandle::join`] returns, after [`std::thread::Result`].
///
/// ```
/// fn ended(result: crore::Result<u32>) -> bool {
///     result.is_ok()
/// }
/// assert!(crore::run(|| ended(crore::spawn(|| 7).join())).unwrap());
/// ```
pub type Result<T, E = JoinError> = std::result::Result<T, E>;

// Its example is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[doc(hidden)]
pub mod __driven {
    //! For libco's API in `crates/c`.
    pub use crate::runtime::driven::*;
}

#[doc(hidden)]
pub mod __tables {
    //! For tests: what should be empty at their end.
    pub use crate::runtime::left_over::left_over;
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzz {
    //! Entry points of the fuzz targets, absent from every other build.

    /// Operations on the saved-frame pool.
    pub fn pool(input: &[u8]) {
        crate::stack::fuzz_ops::pool(input);
    }

    /// Operations on the bytes of shared stacks.
    pub fn shared_bytes(input: &[u8]) {
        crate::stack::fuzz_ops::shared_bytes(input);
    }

    /// Operations on the timer wheel.
    pub fn wheel(input: &[u8]) {
        crate::driver::fuzz_ops::wheel(input);
    }

    /// Operations on the reactor, over files in memory.
    pub fn reactor(input: &[u8]) {
        crate::driver::fuzz_ops::reactor(input);
    }
}
