//! Calls on sockets, and name look-ups.

pub(crate) mod connect;
pub(crate) mod message;
pub(crate) mod mmsg;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod passwd;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod resolve;
