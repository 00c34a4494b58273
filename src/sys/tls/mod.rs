//! Thread-locals of one's own for code that is no thread: blocks of
//! thread-local memory that this thread can change to and back.
//!
//! Lives here: what is known of glibc and how it is checked ([`support`]), the
//! making and ending of a [`Block`], and the one instruction that changes to
//! it. Does not live here: whose blocks they are and when they are changed
//! (`sched/own.rs`). README.md says why each part of glibc stays right.
//!
//! ```text
//!   a block, as glibc lays out a thread's
//!   ┌──────────────┬─────┬─────────┬────────────────┐
//!   │ static TLS   │ ... │ libc's  │ struct pthread │
//!   └──────────────┴─────┴─────────┴────────────────┘
//!    of every module, by offset    ↑ thread pointer (fs), `Block::pointer`
//! ```

#[cfg(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#[path = "glibc/mod.rs"]
mod kind;
#[cfg(not(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
)))]
#[path = "absent.rs"]
mod kind;

#[cfg(feature = "hook")]
pub(crate) use kind::with_kernel_tid;
pub(crate) use kind::{
    Block, ThreadPointer, end_of_thread_locals, no_thread_is, support, this_thread_is,
};

/// The numbers of threads from here on are those of blocks.
pub(crate) const FIRST_NUMBER: u32 = 1 << 22;

/// So many threads can be noted by [`this_thread_is`].
pub(crate) const MAX_THREADS: usize = 1 << 10;
