//! Helper threads for what blocks and can't be polled: files, name look-ups,
//! and closures of yours.
//!
//! [`spawn_blocking`] runs a closure on a helper thread; a coroutine that joins
//! it parks, and its worker goes on. The hooks of `fsync`, `getaddrinfo` and
//! their like use the same threads.
//!
//! One pool serves the process. A thread starts when there is work and nobody
//! idle, up to a limit ([`set_max_threads`], 64 unless it is called); work
//! beyond that waits in line. A thread that has had nothing to do for ten
//! seconds leaves. A child after `fork` begins with an empty pool.
//!
//! A job owns all that it touches. So whoever waits for it may be cancelled at
//! any time: the job is dropped if it has not begun, and if it has, it runs to
//! its end and its result is dropped.

mod pool;

#[cfg(feature = "hook")]
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "hook")]
use std::pin::Pin;
#[cfg(feature = "hook")]
use std::task::{Context, Poll};

use crate::runtime::join_handle::JoinHandle;
#[cfg(feature = "hook")]
use crate::sched::Cx;
use crate::task::{JoinError, promise};

pub use pool::{set_max_threads, threads};

/// Runs a closure that blocks on a helper thread, and returns the handle to
/// join it by: from a coroutine, from a thread, or as a future.
///
/// For what no hook turns into parking: long computations, libraries that wait
/// by themselves, many small calls on files. The closure may use sockets and
/// locks as any thread may. Works outside a runtime, too.
///
/// Dropping the handle drops a closure that has not begun, and lets one that
/// has run to its end; so does [`JoinHandle::cancel`]. Closures that wait for
/// each other can use up all threads: such things belong in coroutines.
///
/// # Examples
///
/// ```
/// let sum = crore::run(|| {
///     let sum = crore::spawn_blocking(|| (1..=1_000_000u64).sum::<u64>());
///     // Other coroutines run meanwhile.
///     sum.join().unwrap()
/// })?;
/// assert_eq!(sum, 500_000_500_000);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    start(f, true)
}

fn start<F, T>(f: F, public: bool) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (promise, join) = promise(public);
    let promise = std::sync::Arc::new(crate::shim::Lock::new(Some(promise)));
    let theirs = std::sync::Arc::clone(&promise);
    let submitted = pool::submit(Box::new(move || {
        let Some(promise) = theirs.lock().take() else {
            return;
        };
        if promise.is_cancelled() || promise.is_abandoned() {
            drop(f);
        } else {
            promise.fulfil(catch_unwind(AssertUnwindSafe(f)).map_err(JoinError::panicked));
        }
    }));
    if let Err(error) = submitted {
        if let Some(promise) = promise.lock().take() {
            promise.fulfil(Err(JoinError::not_started(error)));
        }
    }
    JoinHandle::new(join)
}

/// Runs a job on a helper thread and parks the coroutine until it is done. One
/// that unwinds can't park, nor can a signal handler: then the job runs here,
/// and the worker waits.
///
/// # Errors
///
/// `ECANCELED` if the coroutine is cancelled meanwhile; then nobody gets the
/// result, and it is dropped. What starting a thread says if there is none.
#[cfg(feature = "hook")]
pub(crate) fn run<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if !may_park(cx) {
        return Ok(job());
    }
    wait(cx, start(job, false), Some(Cx::check))
}

/// As [`run`], but a cancelled coroutine waits, too: for jobs that take their
/// time but don't wait for others, and whose effect must be known.
#[cfg(feature = "hook")]
pub(crate) fn run_to_end<T: Send + 'static>(
    cx: Cx,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if !may_park(cx) {
        return Ok(job());
    }
    wait(cx, start(job, false), None)
}

#[cfg(feature = "hook")]
fn may_park(cx: Cx) -> bool {
    Cx::parkable().is_some() && cx.is_at_home()
}

/// Waits as long as `go_on` allows, or to the end.
#[cfg(feature = "hook")]
fn wait<T>(
    cx: Cx,
    mut handle: JoinHandle<T>,
    go_on: Option<fn(Cx) -> io::Result<()>>,
) -> io::Result<T> {
    let waker = cx.waker();
    loop {
        if let Poll::Ready(result) =
            std::future::Future::poll(Pin::new(&mut handle), &mut Context::from_waker(&waker))
        {
            return result.map_err(io::Error::from);
        }
        match go_on {
            Some(go_on) => {
                go_on(cx)?;
                cx.park();
            }
            // A `timeout` that is over would end each park at once.
            None => cx.park_regardless(),
        }
    }
}

#[cfg(test)]
mod tests;
