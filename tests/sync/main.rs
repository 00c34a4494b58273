//! The promise: `crore::sync` works between coroutines, threads and futures, and
//! loses nothing.

#[macro_use]
mod suite;

mod coroutines;
mod futures;
mod handed;
mod threads;
