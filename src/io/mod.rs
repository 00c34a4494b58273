//! Waiting for descriptors without hooks.
//!
//! [`Io`] makes anything with a descriptor park its coroutine where it would
//! block; [`readable`] and [`writable`] wait for a descriptor that you handle
//! yourself; [`Listener`] accepts for servers, [`copy_bidirectional`] is a proxy. All of it works with and without the feature `hook`, and on plain
//! threads too, which then block. Does not live here: the reactor, and the
//! hooks, with which plain `std::net` needs none of this.

mod copy;
mod listener;
mod net;
mod wrapper;

pub use copy::copy_bidirectional;
pub use listener::Listener;
pub use net::bind_per_worker;
pub use wrapper::Io;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use crate::driver::{Condition, Direction};
use crate::sched::CurrentTask;
use crate::sys::{self, errno};

/// Whether an error says that the coroutine is to end: that a call failed because it was
/// [cancelled](crate::JoinHandle::cancel), or is [bound](crate::CancelToken::bind) to a
/// token that was.
///
/// The number of such an error is `ECANCELED` (125), which the kernel gives to no call
/// that waits for a descriptor. That of a [`timeout`](crate::timeout) that is over is
/// `ETIMEDOUT` (110), whose kind is [`TimedOut`](io::ErrorKind::TimedOut). What was made
/// non-blocking by its user gets `ECONNRESET` instead, as if the network had failed: no
/// program has to know of coroutines to end. [`guide::cancellation`](crate::guide::cancellation)
/// has all of it.
///
/// ```
/// use std::io::{Error, Read};
///
/// crore::run(|| {
///     # #[cfg(not(feature = "hook"))] return Ok(());
///     let (mut reader, _writer) = std::io::pipe()?;
///     let waiting = crore::spawn(move || reader.read(&mut [0]));
///     crore::yield_now();
///     waiting.cancel();
///     assert!(crore::io::is_cancelled(&waiting.join().unwrap().unwrap_err()));
///     assert!(!crore::io::is_cancelled(&Error::other("something else")));
///     std::io::Result::Ok(())
/// })??;
/// # std::io::Result::Ok(())
/// ```
pub fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(errno::ECANCELED)
}

/// Waits until `fd` has something to read, has ended or has an error. Parks the
/// coroutine, or blocks the thread outside of one.
///
/// A connection that waits here needs no buffer meanwhile: read into one when this
/// returns, and give it back. Where the read before took all that there was, waiting makes
/// no system call. Where others read the same descriptor, what came may be gone again.
///
/// # Errors
///
/// `EBADF` if the descriptor is closed meanwhile, `ECANCELED` if the coroutine
/// is cancelled, and what the kernel says of descriptors that it can't watch.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::io::Write;
/// crore::run(|| {
///     let (here, mut there) = std::os::unix::net::UnixStream::pair()?;
///     crore::spawn(move || there.write_all(b"!"));
///     crore::io::readable(&here)
/// })?
/// # }
/// ```
pub fn readable(fd: impl AsFd) -> io::Result<()> {
    ready(fd.as_fd(), Direction::Read)
}

/// Waits until `fd` takes bytes, or has an error.
///
/// # Errors
///
/// As for [`readable`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let (here, _there) = std::os::unix::net::UnixStream::pair()?;
/// crore::io::writable(&here)
/// # }
/// ```
pub fn writable(fd: impl AsFd) -> io::Result<()> {
    ready(fd.as_fd(), Direction::Write)
}

/// Asks the kernel first: what the reactor remembers may have been consumed
/// by code that the reactor does not hear of. Not where a stream was just read to its end.
fn ready(fd: BorrowedFd<'_>, dir: Direction) -> io::Result<()> {
    let write = dir == Direction::Write;
    let Some(cx) = CurrentTask::current() else {
        return sys::ready::poll(fd, write, None).map(drop);
    };
    if !write && cx.has_become_readable(fd.as_raw_fd(), None) {
        return Ok(());
    }
    loop {
        plain(cx.check_for(dir))?;
        let ready = sys::ready::poll(fd, write, Some(Instant::now()))?;
        cx.spend();
        if ready {
            return Ok(());
        }
        wait_unready(cx, fd, Condition::polled(dir))?;
    }
}

/// Waits for what was just found not to be so.
fn wait_unready(cx: CurrentTask, fd: BorrowedFd<'_>, condition: Condition) -> io::Result<()> {
    cx.clear_readiness(fd.as_raw_fd(), condition);
    plain(cx.wait(fd.as_raw_fd(), condition, None))
}

/// What the scheduler tells apart from a caller's own time limit is plain
/// `TimedOut` to users.
fn plain(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| match error.raw_os_error() {
        Some(errno::ETIME) => io::Error::from_raw_os_error(errno::ETIMEDOUT),
        _ => error,
    })
}

/// Waits after a `WouldBlock`: until the descriptor may be ready again.
fn park(fd: BorrowedFd<'_>, dir: Direction) -> io::Result<()> {
    match CurrentTask::current() {
        Some(cx) => wait_unready(cx, fd, dir.into()),
        None => sys::ready::poll(fd, dir == Direction::Write, None).map(drop),
    }
}
