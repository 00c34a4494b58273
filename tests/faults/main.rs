//! The promise: what the kernel, the peer or a bug does is an error where it
//! happens, in words, and nothing elsewhere.

#[path = "../common/mod.rs"]
mod common;

mod child_of_fork;
mod dumps;
mod holds;
mod overflow;
mod peers_and_signals;
mod profiles;
mod refusals;
