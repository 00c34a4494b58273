#![doc = include_str!("../README.md")]
//!
//! # Finding your way
//!
//! [`run`] and [`spawn`] to begin with, [`Builder`] and [`Runtime`] for settings,
//! [`hook`] for what parks, [`io`] for programs without hooks, [`sync`] for locks
//! and channels. docs/KINDS.md says which kind of coroutine to choose, ARCHITECTURE.md has the floors and the invariants.

// The hooks are who uses all that the floors below offer.
#![cfg_attr(not(all(feature = "hook", feature = "futex")), allow(dead_code))]

pub mod blocking;
mod builder;
mod crew;
mod driver;
mod future;
mod handle;
pub mod hook;
mod info;
pub mod io;
pub mod local;
mod metrics;
mod runtime;
mod sched;
mod scope;
mod shim;
mod shutdown;
pub mod signal;
mod stack;
mod switch;
pub mod sync;
mod sys;
mod task;
pub mod time;
mod timeout;
mod util;

pub use blocking::spawn_blocking;
pub use builder::{Builder, DEFAULT_STACK_SIZE, spawn, spawn_local, spawn_shared};
pub use future::{block_on, spawn_future, spawn_future_local};
pub use handle::{Coroutine, CoroutineId, JoinHandle, current, try_current};
pub use hook::unhooked;
pub use info::{Awaited, CoroutineInfo, CoroutineState};
pub use metrics::Metrics;
pub use runtime::{Handle, Runtime, RuntimeBuilder, run};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use shutdown::StillRunning;
pub use task::JoinError;
pub use time::wait::{park, park_timeout, sleep, sleep_until, yield_now};
pub use timeout::{Elapsed, deadline, is_cancelled, timeout, timeout_at};

// The examples on these pages are tested.
#[cfg(doctest)]
#[doc = include_str!("../docs/CANCELLATION.md")]
mod pages {}

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
        crate::driver::fuzz_ops::run(input);
    }
}
