//! Calls on sockets, and name look-ups.

pub(crate) mod connect;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod databases;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod later;
pub(crate) mod message;
pub(crate) mod mmsg;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod query;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod resolve;
