//! The promise: over random operations nothing differs from a simple model.

#[cfg(feature = "hook")]
mod fd_ops;
#[cfg(feature = "hook")]
mod hook_ops;
mod sched_ops;
mod shared_ops;

#[cfg(feature = "hook")]
mod descriptors;
#[cfg(feature = "hook")]
mod hooks;
mod scheduler;
mod shared_stacks;
