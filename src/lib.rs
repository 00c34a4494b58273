//! crore: millions of connections on one kernel thread, with plain blocking code.

mod driver;
mod sys;
