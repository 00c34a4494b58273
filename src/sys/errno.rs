//! Error numbers that floors above name.

pub(crate) use libc::{EBADF, ECANCELED, EPERM, ETIME, ETIMEDOUT};
