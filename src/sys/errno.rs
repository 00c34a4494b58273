//! Error numbers that floors above name.

pub(crate) use libc::{EBADF, ECANCELED, ENOMEM, ENOSPC, EPERM, ETIME, ETIMEDOUT};
