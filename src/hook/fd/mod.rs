//! The calls that begin and end descriptor numbers.

pub(crate) mod lifecycle;
