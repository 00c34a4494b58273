//! The promise: runtimes, coroutines and their handles do what `std::thread` leads
//! one to expect, on one worker and on many.

#[path = "../common/mod.rs"]
mod common;

mod coroutine_locals;
mod fairness;
mod generator_ends;
mod generator_homes;
mod generators;
mod grown;
mod idle;
mod io;
mod join_sets;
mod limits;
mod metrics;
mod misuse;
mod outside_a_runtime;
mod park;
mod polling;
mod servers;
mod spawn_future;
mod spawn_join;
mod stack_use;
mod test_aids;
mod thread_end;
mod trim;
mod workers;
