#![doc = include_str!("../README.md")]
//!
//! # Finding your way
//!
//! [`run`] and [`spawn`] to begin with, [`Builder`] and [`Runtime`] for settings,
//! [`hook`] for what parks, [`io`] for programs without hooks, [`sync`] for locks
//! and channels. docs/KINDS.md says which kind of coroutine to choose, ARCHITECTURE.md has the floors and the invariants.

// The hooks are who uses all that the floors below offer.
#![cfg_attr(not(all(feature = "hook", feature = "futex")), allow(dead_code))]

mod block_on;
pub mod blocking;
mod driver;
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
