//! Error numbers that floors above name.

pub(crate) use libc::{EBADF, ECANCELED, EDEADLK, ENOENT, ENOMEM, ENOSPC, EPERM, ETIME, ETIMEDOUT};
