//! The promise: signals are waited for, and handlers may do what POSIX says.

#[path = "../common/mod.rs"]
mod common;

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
