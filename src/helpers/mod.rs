//! Helper threads: a pool of threads for what blocks and can't be polled.
//!
//! The hooks of `fsync`, `getaddrinfo` and their like run their calls here, and
//! [`blocking`](crate::blocking) the closures of users. A coroutine that joins the job
//! parks meanwhile, and its worker goes on.
//!
//! One pool serves the hooks of the process, and one its users, whose closures may
//! wait for each other. A thread starts when there is work and none is
//! idle, up to a limit ([`set_max_threads`]); work beyond that waits in line. A
//! thread that has had nothing to do for ten seconds leaves. A child after `fork`
//! begins with empty pools.
//!
//! A job owns all that it touches. So a coroutine that waits for it may be cancelled at
//! any time: the job is dropped if it has not begun, and if it has, it runs to
//! its end and its result is dropped.

mod pool;

#[cfg(feature = "hook")]
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[cfg(feature = "hook")]
use crate::sched::Cx;
use crate::shim::Lock;
use crate::task::{JoinError, JoinRef, promise};

pub use pool::{set_max_threads, threads};

/// Starts a job on a helper thread. Its handle goes to the user if it is `public`.
/// What is joined is the `T`.
pub(crate) fn start<F, T>(f: F, public: bool) -> JoinRef
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (promise, join) = promise(public);
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
    if let Err(error) = pool::submit(job, public) {
        if let Some(promise) = promise.lock().take() {
            promise.fulfil(Err(JoinError::not_started(error)));
        }
    }
    join
}

/// Runs a job on a helper thread and parks the coroutine until it is done. One
/// that unwinds can't park, nor can a signal handler: then the job runs here,
/// and the worker waits.
///
/// # Errors
///
/// `ECANCELED` if the coroutine is cancelled meanwhile; then the result is
/// dropped. What starting a thread says if there is none.
#[cfg(feature = "hook")]
pub(crate) fn run<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    run_while(cx, job, Some(Cx::check))
}

/// As [`run`], but a cancelled coroutine waits, too: for jobs that take their
/// time but don't wait for others, and whose effect must be known.
#[cfg(feature = "hook")]
pub(crate) fn run_to_end<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    run_while(cx, job, None)
}

/// Runs a job and waits as long as `go_on` allows, or to the end.
#[cfg(feature = "hook")]
fn run_while<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
    go_on: Option<fn(Cx) -> io::Result<()>>,
) -> io::Result<T> {
    if Cx::parkable().is_none() || !cx.is_at_home() {
        return Ok(job());
    }
    let mut join = start(job, false);
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
