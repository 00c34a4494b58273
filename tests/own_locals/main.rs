//! The promise: a coroutine with thread-locals of its own is a thread to libc, to
//! libraries and to locks.

#[path = "../common/mod.rs"]
mod common;

mod dlopen;
mod libc;
mod lifecycle;
mod sync;
mod user;
