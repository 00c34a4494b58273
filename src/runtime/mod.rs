//! The runtime's face: how it is built and run, how coroutines are spawned, joined,
//! watched and ended. The work is done by `sched`.

mod blockers;
mod builder;
pub(crate) mod contention;
pub(crate) mod driven;
pub(crate) mod dump;
mod dump_signal;
mod handle;
pub(crate) mod info;
pub(crate) mod join_handle;
pub(crate) mod join_set;
mod json;
pub(crate) mod left_over;
pub(crate) mod listing;
pub(crate) mod metrics;
pub(crate) mod profile;
mod run;
pub(crate) mod shutdown;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
pub(crate) mod spawn;
pub(crate) mod spawn_builder;
pub(crate) mod spawn_future;
pub(crate) mod stack_use;
#[cfg(all(test, not(loom)))]
mod tests;
mod threads;
#[cfg(feature = "trace")]
pub(crate) mod timeline;

pub use builder::RuntimeBuilder;
pub use handle::Handle;
pub use run::{Runtime, run};
