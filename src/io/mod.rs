//! Waiting for descriptors without hooks.
//!
//! [`Io`] makes anything with a descriptor park its coroutine where it would
//! block; [`readable`] and [`writable`] wait for a descriptor that you handle
//! yourself. All of it works with and without the feature `hook`, and on plain
//! threads too, which then block. Does not live here: the reactor, and the
//! hooks, with which plain `std::net` needs none of this.

mod net;
mod wrapper;

pub use wrapper::Io;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use crate::driver::Direction;
use crate::sched::Cx;
use crate::sys::{self, errno};

/// Waits until `fd` has something to read, has ended or has an error. Parks the
/// coroutine, or blocks the thread outside of one.
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
/// by code that the reactor does not hear of.
fn ready(fd: BorrowedFd<'_>, dir: Direction) -> io::Result<()> {
    let write = dir == Direction::Write;
    let Some(cx) = Cx::current() else {
        return sys::ready::poll(fd, write, None).map(drop);
    };
    loop {
        plain(cx.check())?;
        let ready = sys::ready::poll(fd, write, Some(Instant::now()))?;
        cx.spend();
        if ready {
            return Ok(());
        }
        cx.clear_readiness(fd.as_raw_fd(), dir);
        wait(cx, fd, dir)?;
    }
}

fn wait(cx: Cx, fd: BorrowedFd<'_>, dir: Direction) -> io::Result<()> {
    plain(cx.wait(fd.as_raw_fd(), dir, None))
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
    match Cx::current() {
        Some(cx) => {
            cx.clear_readiness(fd.as_raw_fd(), dir);
            wait(cx, fd, dir)
        }
        None => sys::ready::poll(fd, dir == Direction::Write, None).map(drop),
    }
}
