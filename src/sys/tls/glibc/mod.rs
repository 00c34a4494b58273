//! Blocks as glibc makes them for threads, on x86_64. README.md, one folder up,
//! has the whole argument.

mod block;
mod check;
mod facts;
mod futex;
mod list;
mod probe;
mod setxid;
mod template;
#[cfg(test)]
mod tests;

#[cfg(feature = "hook")]
pub(crate) use block::with_kernel_tid;
pub(crate) use block::{Block, ThreadPointer, end_of_thread_locals};
pub(crate) use check::support;
pub(crate) use setxid::{no_thread_is, this_thread_is};

/// Why there can be no thread-locals of one's own here, in words.
type Why = String;
