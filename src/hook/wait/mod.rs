//! Waiting: what hooks are made of. README.md beside this file says which of it
//! a new hook takes.

pub(crate) mod backoff;
pub(crate) mod broken;
pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod interrupt;
pub(crate) mod lent;
pub(crate) mod retry;
pub(crate) mod shallow;
pub(crate) mod slow_wait;
pub(crate) mod transfer;
