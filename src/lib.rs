//! crore: millions of connections on one kernel thread, with plain blocking code.

#[cfg(not(loom))]
mod driver;
mod sys;
