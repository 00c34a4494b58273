//! The promise: coroutines on shared stacks keep their frames, wait as others do,
//! and are checked.

#[path = "../common/mod.rs"]
mod common;

mod check_mode;
mod frames;
mod hooks;
mod limits;
mod waits;
