//! The promise: what is cancelled, late or shut down ends, leaves nothing, and says
//! who does not.

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod blockers;
mod callbacks;
mod cancel;
mod end_of_run;
mod event_loops;
mod exit;
mod lent_to_main;
mod scope;
mod shutdown;
mod timeout;
