//! Calls about time, threads and child processes.

#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod c11;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod command;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod exit;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod handlers;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod join;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod jump;
pub(crate) mod queues;
pub(crate) mod signals;
pub(crate) mod sleep;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod thread_id;
pub(crate) mod wait;
