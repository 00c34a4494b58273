//! Helper threads: a pool of threads for what blocks and can't be polled.
//!
//! The hooks of `fsync`, `getaddrinfo` and their like run their calls here, and
//! [`blocking`](crate::blocking) the closures of users. A coroutine that joins the job
//! parks meanwhile, and its worker goes on.
//!
//! Users have a [`Pool`] of their own, and so has each kind of the hooks' work. A
//! thread starts when there is work and none is
//! idle, up to a limit ([`set_max_threads`]); work beyond that waits in line. Where none
//! can be started and there is none, the work of hooks is done where it is called, and
//! that of users is an error. A
//! thread that has had nothing to do for ten seconds leaves. A child after `fork`
//! begins with empty pools.
//!
//! A job owns all that it touches. So a coroutine that waits for it may be cancelled at
//! any time: the job is dropped if it has not begun, and if it has, it runs to
//! its end and its result is dropped.

mod pool;

#[cfg(feature = "hook")]
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

#[cfg(feature = "hook")]
use crate::sched::CurrentTask;
use crate::sched::{Plan, StackPlan, Worker, coroutine};
use crate::shim::Lock;
use crate::sys::simulated;
use crate::task::{JoinError, JoinRef, promise, set_unhooked};

use pool::{Job, NoThread};
pub(crate) use pool::{Pool, any_busy};
pub use pool::{queued, set_max_threads, threads};

/// Of a user's job in a simulation: as threads have.
const USERS_STACK: usize = 2 << 20;

/// Starts a job on a helper thread. A user's handle is public. What is joined is
/// the `T`.
pub(crate) fn start<F, T>(f: F, pool: Pool) -> JoinRef
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (promise, join) = promise(pool == Pool::Users);
    let promise = Arc::new(Lock::new(Some(promise)));
    let theirs = Arc::clone(&promise);
    let job = Box::new(move || {
        let Some(promise) = theirs.lock().take() else {
            return;
        };
        if promise.is_cancelled() || promise.is_abandoned() {
            drop(f);
        } else {
            promise.fulfil(catch_unwind(AssertUnwindSafe(f)).map_err(JoinError::panicked));
        }
    });
    let submitted = match simulated::world() {
        None => pool::submit(job, pool),
        Some(_) => run_in_simulation(job, pool),
    };
    if let Err(NoThread { error, jobs }) = submitted {
        if pool == Pool::Users {
            if let Some(promise) = promise.lock().take() {
                promise.fulfil(Err(JoinError::not_started(error)));
            }
        } else {
            run_here(jobs);
        }
    }
    join
}

/// Does what there is no thread for, as the calls that were hooked would: the thread, and
/// all coroutines on it, wait.
#[cold]
fn run_here(jobs: Vec<Job>) {
    let before = set_unhooked(true);
    for job in jobs {
        job();
    }
    set_unhooked(before);
}

/// A thread would do it at some time or other. Users' jobs may wait: each is a coroutine.
#[cold]
fn run_in_simulation(job: Job, pool: Pool) -> Result<(), NoThread> {
    let Some(worker) = Worker::current().filter(|_| pool == Pool::Users) else {
        run_here(vec![job]);
        return Ok(());
    };
    let plan = Plan {
        stack: StackPlan::Dedicated(USERS_STACK),
        name: None,
        unhooked: false,
        daemon: false,
        own_tls: None,
        worker: None,
        thread: None,
        location: Location::caller(),
    };
    let spawned = worker.spawn_local(coroutine(job), plan);
    let refused = |error| NoThread {
        error,
        jobs: Vec::new(),
    };
    spawned.map(drop).map_err(refused)
}

/// Runs a job on a helper thread and parks the coroutine until it is done. One
/// that unwinds can't park, nor can a signal handler: then the job runs here,
/// and the worker waits.
///
/// # Errors
///
/// `ECANCELED` if the coroutine is cancelled meanwhile; then the result is
/// dropped.
#[cfg(feature = "hook")]
pub(crate) fn run<T: Send + 'static>(
    cx: CurrentTask,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    run_while(cx, job, Pool::Hooks, Some(CurrentTask::check))
}

/// As [`run`], but a cancelled coroutine waits, too: for jobs that take their
/// time but don't wait for others, and whose effect must be known.
#[cfg(feature = "hook")]
pub(crate) fn run_to_end<T: Send + 'static>(
    cx: CurrentTask,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    run_while(cx, job, Pool::Hooks, None)
}

/// As [`run`], for a job that waits for others: any number may wait.
///
/// # Errors
///
/// As [`run`].
#[cfg(feature = "hook")]
pub(crate) fn run_that_waits<T: Send + 'static>(
    cx: CurrentTask,
    job: impl FnOnce() -> T + Send + 'static,
    to_end: bool,
) -> io::Result<T> {
    let go_on = (!to_end).then_some(CurrentTask::check as fn(CurrentTask) -> io::Result<()>);
    run_while(cx, job, Pool::Waits, go_on)
}

/// Runs a job and waits as long as `go_on` allows, or to the end.
#[cfg(feature = "hook")]
fn run_while<T: Send + 'static>(
    cx: CurrentTask,
    job: impl FnOnce() -> T + Send + 'static,
    pool: Pool,
    go_on: Option<fn(CurrentTask) -> io::Result<()>>,
) -> io::Result<T> {
    if CurrentTask::parkable().is_none() || !cx.on_own_stack() {
        return Ok(job());
    }
    let mut join = start(job, pool);
    let waker = cx.waker();
    while !join.set_waker(&waker) {
        match go_on {
            Some(go_on) => {
                go_on(cx)?;
                cx.park();
            }
            // A `timeout` that is over would end each park at once.
            None => cx.park_regardless(),
        }
    }
    // SAFETY: the end has come, and the job returns `T`.
    unsafe { join.take::<T>() }.map_err(io::Error::from)
}

#[cfg(all(test, feature = "hook"))]
mod tests;
