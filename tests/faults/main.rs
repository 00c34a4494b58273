//! The promise: what the kernel, the peer or a bug does is an error where it
//! happens, in words, and nothing elsewhere.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/heap.rs"]
mod heap;

mod child_of_fork;
mod dumps;
mod holds;
mod overflow;
mod peers_and_signals;
mod profiles;
mod refusals;

/// No handler allocates, nor does the child of a fork in what it may call.
#[global_allocator]
static ALLOCATOR: heap::Watched = heap::Watched(|| {
    #[cfg(feature = "hook")]
    child_of_fork::nothing_in_the_child();
});
