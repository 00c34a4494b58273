//! The promise: signals are waited for, and handlers may do what POSIX says.

#[path = "../common/mod.rs"]
mod common;

mod handlers;
mod wait;
