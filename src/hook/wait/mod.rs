//! Waiting: what hooks are made of. README.md beside this file says which of it
//! a new hook takes.

pub(crate) mod backoff;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod retry;
pub(crate) mod shallow;
pub(crate) mod transfer;
