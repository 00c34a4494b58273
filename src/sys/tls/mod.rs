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
mod glibc {
    pub(super) mod block;
    pub(super) mod check;
    pub(super) mod facts;
    pub(super) mod futex;
    pub(super) mod list;
    pub(super) mod probe;
    pub(super) mod template;
    #[cfg(test)]
    mod tests;
}

#[cfg(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#[cfg(feature = "hook")]
pub(crate) use glibc::block::with_kernel_tid;
#[cfg(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) use glibc::{
    block::{Block, ThreadPointer, end_of_thread_locals},
    check::support,
};

#[cfg(not(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
)))]
mod absent;
#[cfg(not(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
)))]
pub(crate) use absent::{Block, ThreadPointer, end_of_thread_locals, support, with_kernel_tid};

/// Why there can be no thread-locals of one's own here, in words.
pub(crate) type Why = String;
