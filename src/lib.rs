//! crore: millions of connections on one kernel thread, with plain blocking code.

mod builder;
mod driver;
mod future;
mod handle;
mod runtime;
mod sched;
mod shim;
mod stack;
mod switch;
mod sys;
mod task;
mod time;

pub use builder::{Builder, DEFAULT_STACK_SIZE, spawn, spawn_local};
pub use future::block_on;
pub use handle::{Coroutine, CoroutineId, JoinHandle, current, try_current};
pub use runtime::{Handle, Metrics, Runtime, RuntimeBuilder, run};
pub use task::JoinError;
pub use time::{park, park_timeout, sleep, sleep_until, yield_now};
