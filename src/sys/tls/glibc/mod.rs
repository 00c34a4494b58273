//! TLS blocks as glibc makes them for threads. README.md, one folder up, has the
//! whole argument.

mod block;
mod check;
mod entered;
mod latch;
mod layout;
mod list;
mod probe;
mod setxid;
mod shape;
mod template;
#[cfg(test)]
mod tests;
mod thread_pointer;

pub(crate) use block::TlsBlock;
pub(crate) use block::numbers::in_use as blocks;
pub(crate) use check::support;
pub(crate) use entered::end_of_thread_locals;
#[cfg(feature = "hook")]
pub(crate) use entered::with_kernel_tid;
pub(crate) use setxid::{register_thread, registered_threads, unregister_thread};
pub(crate) use thread_pointer::ThreadPointer;

/// Why there can be no thread-locals of one's own here, in words.
type Refusal = String;
