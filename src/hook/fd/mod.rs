//! The calls that begin and end descriptor numbers.

#[cfg(all(
    not(all(feature = "futex", target_env = "gnu")),
    not(target_feature = "crt-static")
))]
pub(crate) mod files;
pub(crate) mod lifecycle;
pub(crate) mod lingering;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) mod streams;
