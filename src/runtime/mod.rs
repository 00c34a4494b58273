//! The runtime's face: how it is built and run, how coroutines are spawned, joined,
//! watched and ended. The work is done by `sched`.

mod builder;
pub(crate) mod dump;
mod handle;
pub(crate) mod info;
pub(crate) mod join_handle;
pub(crate) mod metrics;
mod run;
pub(crate) mod shutdown;
pub(crate) mod spawn;
pub(crate) mod spawn_future;
#[cfg(all(test, not(loom)))]
mod tests;
mod threads;

pub use builder::RuntimeBuilder;
pub use handle::Handle;
pub use run::{Runtime, run};
