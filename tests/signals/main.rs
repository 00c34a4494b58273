//! The promise: signals are waited for, and handlers may do what POSIX says.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/heap.rs"]
mod heap;

mod actions;
mod anything;
mod catching;
mod dumps;
mod ends;
mod forks;
mod handlers;
mod jump;
mod probes;
mod reports;
mod storms;
mod wait;

/// No handler allocates: ours run on signal stacks.
#[global_allocator]
static ALLOCATOR: heap::Watched = heap::Watched(|| ());
