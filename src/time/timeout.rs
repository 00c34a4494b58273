//! Time limits around any blocking code, ours or a stranger's.
//!
//! Lives here: `timeout` and what it leaves in the coroutine. How a passed
//! deadline makes waits fail is in `sched/cancel.rs`; the rules as users see
//! them are in docs/CANCELLATION.md.
//!
//! Nested time limits need no stack of deadlines. An inner one that ends after
//! the outer can never be felt, so it is not set at all; an inner one that ends
//! before the outer replaces it until it is over. So one deadline holds at any
//! moment, the earliest, and what unwinds by it belongs to the `timeout` that
//! set it.

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::sched::{ActiveTimeout, CurrentTask, Late, is_ours};
use crate::sys::unwind;

/// The time of a [`timeout`] was over before its closure was done.
///
/// ```
/// use std::time::Duration;
/// let late = crore::run(|| crore::timeout(Duration::from_millis(1), crore::park)).unwrap();
/// assert_eq!(std::io::Error::from(late.unwrap_err()).kind(), std::io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the time limit was reached")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(error: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}

/// Runs `f`, whose waits fail once `duration` is over: those of a library that
/// never heard of coroutines too.
///
/// From then on, and until `f` ends,
/// - every hooked call fails with `ETIMEDOUT`
///   ([`TimedOut`](io::ErrorKind::TimedOut)), also where it would not have to
///   wait; hooked sleeps return at once; calls on files are left alone;
/// - crore's own waits (`sleep`, `lock`, `recv`, `join` …) unwind up to here,
///   without a panic message, if they have to wait.
///
/// `Err` means that this has happened at least once. A value that `f` returned
/// all the same is dropped then: it was made of failures. A value that came
/// late, but without any failed wait, is `Ok`. So code that never waits is not
/// disturbed; it may ask for its [`deadline`].
///
/// Limits may be nested. The one that ends first makes itself felt first; when
/// the inner one has ended the outer one still holds. A limit that the user set
/// on a socket (`set_read_timeout`) also goes on holding, and reports in its
/// own way, as [`WouldBlock`](io::ErrorKind::WouldBlock).
///
/// Code that goes on after ten thousand of its waits have failed is cancelled,
/// with a message (see [`JoinHandle::cancel`](crate::JoinHandle::cancel)).
/// Coroutines that `f` spawned are not affected; [`scope`](crate::scope) ties
/// them to it.
///
/// # Panics
///
/// Outside a coroutine: the waits of a plain thread can't be ended. With `f`'s
/// panic if it panics.
///
/// # Examples
///
/// ```
/// use std::{io::Read, os::unix::net::UnixStream, time::Duration};
///
/// crore::run(|| {
///     # #[cfg(not(feature = "hook"))] return Ok(());
///     let (mut here, _there) = UnixStream::pair()?;
///     let read = crore::timeout(Duration::from_millis(10), || {
///         let mut byte = [0];
///         here.read_exact(&mut byte).map(|()| byte[0]) // nobody ever writes
///     });
///     assert!(read.is_err());
///     Ok::<(), std::io::Error>(())
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    limit(Instant::now().checked_add(duration), f)
}

/// As [`timeout`], up to a point in time, which may have passed: then `f` runs
/// up to its first wait.
///
/// # Panics
///
/// As [`timeout`].
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// crore::run(|| {
///     let end = Instant::now() + Duration::from_millis(5);
///     let slow = crore::timeout_at(end, || crore::sleep(Duration::from_secs(3600)));
///     assert!(slow.is_err() && Instant::now() >= end);
///     assert_eq!(crore::timeout_at(end, || 3), Ok(3)); // needs no wait
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn timeout_at<T>(deadline: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    limit(Some(deadline), f)
}

/// When the [`timeout`] around this ends, the earliest if there are several;
/// `None` if there is none.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// fn enough() -> bool {
///     crore::deadline().is_some_and(|end| Instant::now() >= end)
/// }
///
/// crore::run(|| {
///     assert_eq!(crore::deadline(), None);
///     let rounds = crore::timeout(Duration::from_millis(2), || {
///         let mut rounds = 0;
///         while !enough() {
///             rounds += 1; // a long computation
///         }
///         rounds
///     });
///     assert!(rounds.unwrap() > 0);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn deadline() -> Option<Instant> {
    CurrentTask::running()?.deadline()
}

/// Whether the coroutine that calls this has been cancelled; `false` outside a
/// coroutine. For computations that never wait, and would not hear of it.
///
/// It also looks whether word has come from other threads, which costs little.
///
/// # Examples
///
/// ```
/// let runtime = crore::Runtime::builder().build()?;
/// runtime.run(|| {
///     let itself = crore::current();
///     let other = std::thread::spawn(move || itself.cancel());
///     let mut rounds = 0_u64;
///     while !crore::is_cancelled() {
///         rounds += 1; // a long computation
///     }
///     // The main coroutine goes on; its next wait fails.
///     other
/// })?.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn is_cancelled() -> bool {
    CurrentTask::running().is_some_and(CurrentTask::is_cancelled)
}

fn limit<T>(deadline: Option<Instant>, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let Some(cx) = CurrentTask::running() else {
        outside();
    };
    let outer = cx.timeout();
    let Some(deadline) = deadline.filter(|&at| outer.deadline.is_none_or(|end| at < end)) else {
        // The outer one ends first, and will say so.
        return Ok(f());
    };
    cx.set_timeout(ActiveTimeout {
        deadline: Some(deadline),
        refusals: 0,
    });
    let result = catch_unwind(AssertUnwindSafe(f));
    let felt = cx.timeout().refusals > 0;
    cx.set_timeout(outer);
    match result {
        Ok(value) if !felt => Ok(value),
        Ok(_) => Err(Elapsed(())),
        Err(payload) => match payload.downcast_ref::<Late>() {
            Some(late) if late.0 == deadline => Err(Elapsed(())),
            // It was caught here, and C is next.
            _ if is_ours(&*payload) && !unwind::is_caught() => Err(Elapsed(())),
            _ => resume_unwind(payload),
        },
    }
}

#[cold]
fn outside() -> ! {
    panic!(
        "crore::timeout was called outside a coroutine: a plain thread's blocking calls can't be \
         ended; spawn a coroutine for this, or call it inside crore::run(|| …)"
    )
}
