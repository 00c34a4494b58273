//! The promise: over random operations nothing differs from a simple model.

#[cfg(feature = "hook")]
mod fd_ops;
#[cfg(feature = "hook")]
mod hook_ops;
#[path = "../common/left_over.rs"]
mod left_over;
mod sched_ops;
mod shared_ops;

#[cfg(feature = "hook")]
mod descriptors;
#[cfg(feature = "hook")]
mod hooks;
mod scheduler;
mod shared_stacks;
