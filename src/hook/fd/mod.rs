//! What crore knows of a descriptor number, and the calls that begin and end one.

pub(crate) mod cache;
pub(crate) mod lifecycle;
pub(crate) mod shared_listener;
