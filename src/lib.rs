//! crore: millions of connections on one kernel thread, with plain blocking code.

mod shim;
mod stack;
mod switch;
mod sys;
mod task;
pub use task::JoinError;
