//! The kernel, as the rest of the crate sees it.
//!
//! Lives here: every system call outside the hooks, wrapped so that callers get
//! `io::Result`s and plain types, and what the process knows of its descriptor
//! numbers. Functions of libc's are called only where they are not hooked; which
//! hooks std reaches from below nevertheless is in ARCHITECTURE.md. Does not live
//! here: any knowledge of coroutines, stacks or readiness.

pub(crate) mod errno;
pub(crate) mod fcntl;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod mem;
pub(crate) mod ready;
pub(crate) mod report;
pub(crate) mod signal;
pub(crate) mod signal_relay;
pub(crate) mod sockopt;
pub(crate) mod stat;
pub(crate) mod syscall;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tls;
pub(crate) mod valgrind;
