//! The scheduler.
//!
//! Lives here: the worker and its loop, waking by address, the mailbox for other
//! threads, cancellation, and [`CurrentTask`], the coroutine's side of waiting. Does
//! not live here: what is waited for. Sockets and timers are the driver's;
//! locks, channels and futures only ever see a `std::task::Waker`.
//!
//! README.md in this folder has the idle protocol and its proof.

// What a worker is made of, and what other threads share with it.
mod asked;
mod counters;
#[cfg(feature = "sim")]
mod crash;
mod ends;
mod extra;
mod idle;
mod locals;
mod look_ahead;
mod mailbox;
mod own_number;
mod plan;
mod quiescence;
mod sampler;
mod sighting;
mod snapshot;
mod stack_use;
mod stacks;
mod step_log;
mod thread_seat;
mod tls_blocks;
mod trim_schedule;
mod wait_mark;
mod watch;
mod worker;
mod worker_handle;
mod workers;

// What a worker does, and the task that runs on it.
mod atfork;
mod cancel;
mod contention;
mod current;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
mod deferred;
mod driven;
mod end;
mod fd_wait;
mod grown;
mod hold;
mod inbox;
mod inspect;
mod interrupted;
#[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
mod jump;
mod label;
mod own_tls;
mod poll;
mod run;
mod setup;
mod sight;
mod spawn;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
mod std_thread;
mod steps;
mod trim;
mod wake;
mod watchdog;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, shuttle))]
mod shuttle_tests;

pub(crate) use atfork::watch_forks;
#[cfg(feature = "hook")]
pub(crate) use cancel::WARN_AFTER;
pub(crate) use cancel::{Late, is_ours, why_unwound};
pub(crate) use contention::{contended, is_measuring, measure as measure_lock_waits};
pub use counters::Metrics;
pub(crate) use counters::StackCounters;
pub(crate) use current::CurrentTask;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) use deferred::{may_wake, wake_later};
pub(crate) use ends::sleepers;
pub(crate) use extra::ActiveTimeout;
pub(crate) use inbox::renew_fd;
#[cfg(feature = "hook")]
pub(crate) use inbox::{renew_duplicate, renew_fds};
#[cfg(all(test, feature = "hook", not(target_feature = "crt-static")))]
pub(crate) use jump::refused;
#[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
pub(crate) use jump::refused_jump;
pub(crate) use label::{describe_running, label_of_spawned};
pub(crate) use locals::LocalLookup;
#[cfg(feature = "futex")]
pub(crate) use own_tls::is_suspended;
#[cfg(feature = "hook")]
pub(crate) use own_tls::on_thread;
pub(crate) use plan::{Config, InjectedTask, Plan, SharedConfig, StackPlan, ThreadsPlan};
pub(crate) use quiescence::QuiescenceWaiter;
pub(crate) use sampler::Sampler;
pub(crate) use sight::tasks as tasks_seen;
pub(crate) use snapshot::{Detail, TaskInfo, TaskSnapshot};
pub(crate) use spawn::{coroutine, shared_coroutine};
pub(crate) use stack_use::SpawnPlace;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) use std_thread::{caught, is_beginning};
#[cfg(feature = "trace")]
pub(crate) use step_log::{StepKind, TaskStep};
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
pub(crate) use thread_seat::ThreadBlock;
#[cfg(feature = "futex")]
pub(crate) use wait_mark::number_at;
pub(crate) use wait_mark::{Blocker, OwnedObject, WaitMark, WaitsFor, waiting};
pub(crate) use wake::{request, wake};
pub(crate) use watchdog::Watchdog;
pub(crate) use worker::Worker;
pub(crate) use worker_handle::{Message, WorkerHandle};
pub(crate) use workers::Workers;
