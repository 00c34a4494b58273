//! TLS blocks for code that is no thread: thread-local memory, with the thread
//! control block (TCB), that a thread can change to and back.
//!
//! Lives here: glibc's layout and its check ([`support`]), the making and ending
//! of a [`TlsBlock`], and the one instruction that changes to it. Lives
//! elsewhere: whose blocks they are and when they are changed (`sched`).
//! README.md says why each part of glibc stays right.
//!
//! ```text
//!   a block, as glibc lays out a thread's on x86_64 (on aarch64 the other way round)
//!   ┌──────────────┬─────┬─────────┬────────────────┐
//!   │ static TLS   │ ... │ libc's  │ struct pthread │
//!   └──────────────┴─────┴─────────┴────────────────┘
//!    of every module, by offset    ↑ thread pointer, `TlsBlock::pointer`
//! ```

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
#[path = "glibc/mod.rs"]
mod kind;
#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static")
)))]
#[path = "absent.rs"]
mod kind;

#[cfg(feature = "hook")]
pub(crate) use kind::with_kernel_tid;
pub(crate) use kind::{
    ThreadPointer, TlsBlock, blocks, end_of_thread_locals, register_thread, registered_threads,
    support, unregister_thread,
};

/// The numbers of threads from here on are those of blocks.
pub(crate) const FIRST_NUMBER: u32 = 1 << 22;

/// So many threads can be registered by [`register_thread`].
pub(crate) const MAX_THREADS: usize = 1 << 10;
