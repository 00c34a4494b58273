//! Error numbers that floors above name.

pub(crate) use libc::{
    EBADF, ECANCELED, EDEADLK, EINTR, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM, ETIME, ETIMEDOUT,
};

/// What `accept` says of one connection, and not of its listener (accept(2): to be treated
/// like `EAGAIN`).
pub(crate) const OF_ONE_CONNECTION: [i32; 11] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::ENETDOWN,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EHOSTUNREACH,
    libc::EOPNOTSUPP,
    libc::ENETUNREACH,
    libc::EPERM,
];

/// What it says when there is no room for another descriptor.
pub(crate) const OUT_OF_ROOM: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
