//! The workloads and servers of the benchmarks on crore; those on other runtimes are in
//! `crore-peers`, which does not link crore.

pub mod kinds;
pub mod messages;
pub mod on_crore;
pub mod serve;
