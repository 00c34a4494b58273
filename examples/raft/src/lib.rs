//! Raft: a key-value store that is the same on several nodes, and goes on while most of
//! them do.
//!
//! - `node` begins everything that a node does: a coroutine for its clock, one for each
//!   peer, one for each connection, all of them around one lock;
//! - `replica` is what is under that lock and decides: elections, replication, commits,
//!   reads; it knows no socket and no clock;
//! - `log` has a replica's entries, `storage` the files, `machine` the values and the
//!   clients' sessions that the committed commands make;
//! - `wire` has the messages, `client` the client, `config` the settings, and ten bugs
//!   that can be switched on;
//! - `observer` is told what replicas do; `checks` holds it against Raft's invariants,
//!   `history` what clients saw against one copy of the store.

#![warn(missing_docs)]

pub mod checks;
pub mod client;
pub mod config;
pub mod history;
pub mod log;
pub mod machine;
pub mod node;
pub mod observer;
pub mod replica;
pub mod storage;
pub mod wire;

pub use client::Client;
pub use config::{Bugs, Config};
pub use node::run;
