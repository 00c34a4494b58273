//! The promise: runtimes, coroutines and their handles do what `std::thread` leads
//! one to expect, on one worker and on many.

#[path = "../common/mod.rs"]
mod common;

mod coroutine_locals;
mod fairness;
mod idle;
mod io;
mod limits;
mod metrics;
mod misuse;
mod outside_a_runtime;
mod park;
mod polling;
mod spawn_future;
mod spawn_join;
mod thread_end;
mod workers;
