//! How a hooked call waits: what every hook is made of.

pub(crate) mod backoff;
pub(crate) mod retry;
pub(crate) mod shallow;
pub(crate) mod transfer;
