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
//! | borrow, limit, end | [`scope`], [`timeout`], [`JoinHandle::cancel`], [`Handle::shutdown`] |
//! | talk to each other | [`sync`]: channels, `select`, locks for coroutines, threads and futures |
//! | run ten million | [`spawn_shared`], on shared stacks |
//! | meet async code | [`block_on`], [`spawn_future`] |
//! | compute, or block for real | [`spawn_blocking`] |
//! | know which calls park | [`hook`]; [`io`] does without hooks |
//!
//! [`guide`] has the longer pages: which [kind](guide::kinds) of coroutine to choose,
//! which [locks](guide::locks) and [crates](guide::compatibility) work, how things
//! [end](guide::cancellation), what was [measured](guide::measured), and why it all
//! [holds](guide::architecture).

// Only the hooks use all that the rooms below offer.
#![cfg_attr(not(all(feature = "hook", feature = "futex")), allow(dead_code))]

mod block_on;
pub mod blocking;
mod driver;
pub mod guide;
mod helpers;
pub mod hook;
pub mod io;
pub mod local;
mod runtime;
mod sched;
mod scope;
mod shim;
pub mod signal;
mod stack;
mod supported;
mod switch;
pub mod sync;
mod sys;
mod task;
pub mod time;
mod util;

pub use block_on::block_on;
pub use blocking::spawn_blocking;
pub use hook::unhooked;
pub use runtime::info::{Awaited, CoroutineInfo, CoroutineState};
pub use runtime::join_handle::{Coroutine, CoroutineId, JoinHandle, current, try_current};
pub use runtime::metrics::Metrics;
pub use runtime::shutdown::StillRunning;
pub use runtime::spawn::{Builder, DEFAULT_STACK_SIZE, spawn, spawn_local, spawn_shared};
pub use runtime::spawn_future::{spawn_future, spawn_future_local};
pub use runtime::{Handle, Runtime, RuntimeBuilder, run};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use task::JoinError;
pub use time::timeout::{Elapsed, deadline, is_cancelled, timeout, timeout_at};
pub use time::wait::{park, park_timeout, sleep, sleep_until, yield_now};

// Its example is tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

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
