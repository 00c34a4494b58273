//! Calls about time, threads and child processes.

#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod c11;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod join;
pub(crate) mod sleep;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod thread_id;
pub(crate) mod wait;
