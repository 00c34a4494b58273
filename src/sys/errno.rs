//! Error numbers that floors above name.

pub(crate) use libc::{EBADF, ECANCELED, EDEADLK, ENOMEM, ENOSPC, EPERM, ETIME, ETIMEDOUT};
