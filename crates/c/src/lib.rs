//! crore for C and C++: the functions that `include/crore.h` declares.
//!
//! What C holds of an object is a number that is looked up (`table.rs`), so one that was
//! released, twice or never made is an error and no crash. Each function runs inside
//! `error::call`, which no unwind leaves: cancellations, time limits and panics become
//! codes, with a text for `crore_last_error`.
//!
//! A test compares each declaration of the header with the function here
//! (`tests/header.rs`).

mod channel;
mod co;
mod error;
mod local;
mod runtime;
mod sync;
mod table;
mod task;
mod wait;

// Its hooks are exported with it.
pub use crore;
