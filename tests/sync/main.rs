//! The promise: `crore::sync` works between coroutines, threads and futures, and
//! loses nothing.

#[path = "../common/left_over.rs"]
mod left_over;
#[macro_use]
mod suite;

// Statics want constructors that are const, and those of loom are not.
#[cfg(not(loom))]
mod as_std;
mod coroutines;
mod futures;
mod handed;
mod threads;
