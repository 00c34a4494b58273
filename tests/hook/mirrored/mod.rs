//! Calls compared with those of threads, one by one: each kind of end beside each other,
//! in each state, and random sequences of calls.

#![allow(clippy::incompatible_msrv, reason = "tests may use what is younger")]

mod calls;
mod ends;
mod random;
mod splices;
mod worlds;
