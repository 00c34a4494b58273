//! crore: millions of connections on one kernel thread, with plain blocking code.

mod future;
mod shim;
pub mod sync;
mod sys;
