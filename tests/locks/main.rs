//! The promise: locks of std and of C park coroutines, and what cannot is said.
#![cfg(feature = "futex")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../hook_common/mod.rs"]
mod hook_common;
#[macro_use]
mod locks_common;

mod contention;
mod file_locks;
mod futex;
mod limits;
mod once_and_c11;
mod pthread;
mod std;
