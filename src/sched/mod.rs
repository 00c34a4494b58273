//! Floor 5: the scheduler.
//!
//! Lives here: the worker and its loop, waking by address, the mailbox for other
//! threads, cancellation, and [`Cx`], the coroutine's side of waiting. Does
//! not live here: what is waited for. Sockets and timers are the driver's;
//! locks, channels and futures only ever see a `std::task::Waker`.
//!
//! README.md in this folder has the idle protocol and its proof.

mod cancel;
mod census;
mod counters;
mod cx;
mod describe;
mod forked;
mod locals;
mod mailbox;
mod own;
mod poll;
mod pool;
mod remote;
mod run;
mod stacks;
mod wake;
mod watchers;
mod worker;

#[cfg(all(test, loom))]
mod loom_tests;

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::driver::{Backend, epoch};
use crate::stack::ArenaConfig;

pub(crate) use cancel::{Late, Limit, why_unwound};
pub(crate) use census::{Asked, Census, Person};
pub(crate) use counters::Counters;
pub(crate) use cx::{Cx, set_unhooked};
pub(crate) use describe::describe_running;
pub(crate) use locals::{Found, coroutine, shared_coroutine};
#[cfg(feature = "futex")]
pub(crate) use own::is_suspended;
#[cfg(feature = "hook")]
pub(crate) use own::on_thread;
pub(crate) use pool::Pool;
pub(crate) use remote::{Message, Remote, Unstarted};
pub(crate) use stacks::SharedConfig;
pub(crate) use wake::{ask, wake};
pub(crate) use watchers::Watch;
pub(crate) use worker::{Plan, StackPlan, Worker, too_many};

/// What a runtime's builder decides about each worker.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What the workers wait with.
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) max_coroutines: u32,
    pub(crate) arena: ArenaConfig,
    pub(crate) shared: SharedConfig,
    /// Whether coroutines have thread-locals of their own unless they or who
    /// spawns them say otherwise.
    pub(crate) own_locals: bool,
}

/// A file descriptor's number is about to end or to change its meaning: its
/// waiters get `EBADF`, on every worker. Called by any thread, before the
/// kernel is told.
pub(crate) fn fd_gone(fd: RawFd) {
    if epoch::bump(fd) {
        tell_all(fd);
    }
}

/// [`fd_gone`] for every number from `first` to `last`.
pub(crate) fn fds_gone(first: u32, last: u32) {
    epoch::bump_range(first, last, &mut tell_all);
}

fn tell_all(fd: RawFd) {
    let here = Worker::current();
    if let Some(worker) = here {
        worker.fd_gone(fd);
    }
    for remote in Remote::all() {
        if here.is_none_or(|worker| worker.index() != remote.index()) {
            remote.mailbox.post(Message::FdGone(fd));
        }
    }
}
