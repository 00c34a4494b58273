//! The scheduler.
//!
//! Lives here: the worker and its loop, waking by address, the mailbox for other
//! threads, cancellation, and [`Cx`], the coroutine's side of waiting. Does
//! not live here: what is waited for. Sockets and timers are the driver's;
//! locks, channels and futures only ever see a `std::task::Waker`.
//!
//! README.md in this folder has the idle protocol and its proof.

// What a worker is made of, and what other threads share with it.
mod counters;
mod extra;
mod locals;
mod mailbox;
mod plan;
mod quiescence;
mod snapshot;
mod stacks;
mod tls_blocks;
mod worker;
mod worker_handle;
mod workers;

// What a worker does, and the task that runs on it.
mod atfork;
mod cancel;
mod current;
mod end;
mod fd_wait;
mod inbox;
mod inspect;
mod label;
mod own_tls;
mod poll;
mod run;
mod setup;
mod spawn;
mod wake;

#[cfg(all(test, loom))]
mod loom_tests;

pub(crate) use cancel::{Late, why_unwound};
pub use counters::Metrics;
pub(crate) use current::Cx;
pub(crate) use extra::ActiveTimeout;
pub(crate) use inbox::renew_fd;
#[cfg(feature = "hook")]
pub(crate) use inbox::{renew_duplicate, renew_fds};
pub(crate) use label::describe_running;
pub(crate) use locals::LocalLookup;
#[cfg(feature = "futex")]
pub(crate) use own_tls::is_suspended;
#[cfg(feature = "hook")]
pub(crate) use own_tls::on_thread;
pub(crate) use plan::{Config, InjectedTask, Plan, SharedConfig, StackPlan, too_many};
pub(crate) use quiescence::QuiescenceWaiter;
pub(crate) use snapshot::{Detail, TaskInfo, TaskSnapshot};
pub(crate) use spawn::{coroutine, shared_coroutine};
pub(crate) use wake::{request, wake};
pub(crate) use worker::Worker;
pub(crate) use worker_handle::Message;
pub(crate) use workers::Workers;
