//! The kernel, as the rest of the crate sees it.
//!
//! Lives here: every system call outside the hooks, wrapped so that callers get
//! `io::Result`s and plain types, and what the process knows of its descriptor
//! numbers. Functions of libc's are called only where they are not hooked; which
//! hooks std reaches from below nevertheless is in ARCHITECTURE.md. Does not live
//! here: any knowledge of coroutines, stacks or readiness.

#[cfg(feature = "sim")]
pub(crate) mod call_names;
pub(crate) mod clock;
pub(crate) mod cpu;
#[cfg(all(feature = "sim", target_arch = "x86_64"))]
pub(crate) mod dispatch;
#[cfg(feature = "hook")]
pub(crate) mod epoll_interest;
pub(crate) mod era;
pub(crate) mod errno;
pub(crate) mod fcntl;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod handlers;
#[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
pub(crate) mod jump;
pub(crate) mod kernel_thread;
#[cfg(test)]
#[path = "../../tests/common/left_over.rs"]
pub(crate) mod left_over;
pub(crate) mod library;
pub(crate) mod mem;
#[cfg(all(feature = "sim", target_arch = "x86_64"))]
mod own_call;
mod per_fd;
pub(crate) mod proc;
pub(crate) mod ready;
pub(crate) mod report;
pub(crate) mod signal;
pub(crate) mod signal_mask;
pub(crate) mod signal_relay;
pub(crate) mod simulated;
pub(crate) mod socket;
pub(crate) mod sockopt;
pub(crate) mod stack_of_thread;
pub(crate) mod start_routine;
pub(crate) mod stat;
pub(crate) mod symbols;
pub(crate) mod syscall;
pub(crate) mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod thread_files;
#[cfg(target_env = "gnu")]
pub(crate) mod thread_pointer;
pub(crate) mod tls;
pub(crate) mod transfer;
pub(crate) mod tsan;
pub(crate) mod unwind;
pub(crate) mod valgrind;
