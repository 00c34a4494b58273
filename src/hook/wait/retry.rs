//! The retry loop: how a hooked call waits for a descriptor. Try; ask whether the
//! user wants to wait; park; try again.
//!
//! ```text
//!            ┌──────────── not ready, and the user blocks: no try ────────────┐
//!            │                                                                ▼
//!   call ────┴──► try without waiting ──► EAGAIN ──► non-blocking? ───────► park ──┐
//!                   ▲    │                             │                    │  │   │
//!                   │    └─► anything else: answer     └─► by the user:      │  └─► EPERM (no such thing as ready):
//!                   │                                      EAGAIN           │      the plain call
//!                   └───────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing here knows which call it is. What a call does to the kernel is a
//! closure over a [`Mode`]; what time-outs mean is in [`WaitContext`].

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::driver::Direction;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::code;
use crate::hook::wait::clock::after;
use crate::hook::wait::interrupt;
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::fd::table::{self, Probe};
use crate::sys::ready::poll_now;
use crate::sys::sockopt;
use crate::sys::syscall::{Answer, Errno};

/// How a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Must answer `EAGAIN` instead of waiting.
    NoWait,
    /// As the user wrote it; for what can't be polled.
    Plain,
}

/// The answer of a shallow wait's call instead of parking (`shallow.rs`). No error
/// of the kernel, which has them up to 4095.
pub(crate) const WOULD_PARK: Errno = 4096;

/// Which descriptor a call waits for, in which direction, and for how long.
pub(crate) struct WaitContext {
    pub(crate) fd: RawFd,
    pub(crate) dir: Direction,
    /// Whether the call answers [`WOULD_PARK`] where there is no limit to its wait.
    shallow: bool,
    /// Asked at the first park only: most calls never need it.
    limit: Option<Limit>,
    /// The call has waited before.
    parked: bool,
}

#[derive(Clone, Copy)]
enum Limit {
    UserIsNonBlocking,
    Until(Option<Instant>),
}

impl WaitContext {
    pub(crate) fn new(fd: RawFd, dir: Direction) -> Self {
        Self {
            fd,
            dir,
            shallow: false,
            limit: None,
            parked: false,
        }
    }

    /// For a call that may answer [`WOULD_PARK`].
    #[inline(always)]
    pub(crate) fn shallow(self, shallow: bool) -> Self {
        Self { shallow, ..self }
    }

    /// When waiting must end.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the user made the descriptor non-blocking.
    pub(crate) fn deadline(&mut self) -> Result<Option<Instant>, Errno> {
        self.deadline_with(table::cached(self.fd))
    }

    /// [`deadline`](Self::deadline), with what is known of the descriptor.
    #[inline]
    fn deadline_with(&mut self, known: u32) -> Result<Option<Instant>, Errno> {
        let all = table::BLOCKING | no_limit(self.dir);
        let limit = match self.limit {
            Some(limit) => limit,
            None if known & all == all => Limit::Until(None),
            None => *self.limit.insert(ask(self.fd, self.dir)?),
        };
        match limit {
            Limit::UserIsNonBlocking => Err(libc::EAGAIN),
            Limit::Until(deadline) => Ok(deadline),
        }
    }

    /// Asks the kernel again whether the user wants to wait.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if not.
    #[cold]
    fn confirm(&mut self) -> Result<(), Errno> {
        if is_nonblocking(self.fd)? {
            table::invalidate(self.fd);
            self.limit = Some(Limit::UserIsNonBlocking);
        }
        self.deadline().map(drop)
    }
}

/// The cached flag that says "no time-out" for a direction.
fn no_limit(dir: Direction) -> u32 {
    match dir {
        Direction::Read => table::NO_READ_LIMIT,
        Direction::Write => table::NO_WRITE_LIMIT,
    }
}

/// Asks the kernel what the user set.
#[cold]
fn ask(fd: RawFd, dir: Direction) -> Result<Limit, Errno> {
    let all = table::BLOCKING | no_limit(dir);
    let probe = Probe::begin(fd);
    if is_nonblocking(fd)? {
        return Ok(Limit::UserIsNonBlocking);
    }
    let limit = time_limit(fd, dir);
    let flags = if limit.is_none() {
        all
    } else {
        table::BLOCKING
    };
    probe.commit(match dir {
        Direction::Write if fills_peer_queue(fd) => flags | table::PEER_QUEUE,
        _ => flags,
    });
    Ok(Limit::Until(limit.map(after)))
}

fn fills_peer_queue(fd: RawFd) -> bool {
    sockopt::number(fd, libc::SO_DOMAIN) == Ok(libc::AF_UNIX)
        && sockopt::number(fd, libc::SO_TYPE) != Ok(libc::SOCK_STREAM)
}

/// No event tells when to write again.
fn eventless(fd: RawFd, dir: Direction) -> bool {
    dir == Direction::Write && table::known(fd, table::PEER_QUEUE)
}

/// `SO_RCVTIMEO` or `SO_SNDTIMEO`, where set.
pub(crate) fn time_limit(fd: RawFd, dir: Direction) -> Option<Duration> {
    let name = match dir {
        Direction::Read => libc::SO_RCVTIMEO,
        Direction::Write => libc::SO_SNDTIMEO,
    };
    sockopt::time_limit(fd, name)
}

/// How a park ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parked {
    /// It may be ready now.
    Woken,
    /// Time is over, but it may have become ready in this very moment.
    Late,
    /// No such thing as ready.
    CannotWait,
}

/// Runs `call` until it says something else than `EAGAIN`, parking between.
///
/// `hint` false: the call may answer although the descriptor is not ready (no
/// bytes asked for), so it is always tried.
#[inline(always)]
pub(crate) fn until_done(
    cx: CurrentTask,
    context: &mut WaitContext,
    hint: bool,
    mut call: impl FnMut(Mode) -> Answer,
) -> Answer {
    let (fd, dir) = (context.fd, context.dir);
    // A descriptor that is not ready is not tried, but only where we know that the user
    // wants to wait: otherwise the answer is to be EAGAIN.
    if !hint || cx.worth_trying(fd, dir) || !table::known(fd, table::BLOCKING) {
        match call(Mode::NoWait) {
            Err(libc::EAGAIN) => {}
            answer => return answer,
        }
        context.deadline()?;
        if cx.clear_readiness(fd, dir) && dir == Direction::Read && shut(fd) {
            return call(Mode::Plain);
        }
    }
    if context.shallow && cx.waits_without_limit() && context.deadline()?.is_none() {
        return Err(WOULD_PARK);
    }
    let mut backoff = Backoff::new();
    loop {
        let parked = if eventless(fd, dir) {
            pause(cx, context, &mut backoff)?
        } else {
            park(cx, context)?
        };
        let mode = match parked {
            Parked::Woken | Parked::Late => Mode::NoWait,
            Parked::CannotWait => Mode::Plain,
        };
        match call(mode) {
            // Another thread was faster; or what is known of the number is of
            // an earlier descriptor.
            Err(libc::EAGAIN) if parked == Parked::Woken => context.confirm()?,
            answer => return answer,
        }
        if cx.clear_readiness(fd, dir) && dir == Direction::Read && shut(fd) {
            return call(Mode::Plain);
        }
    }
}

/// Nothing more will be read: of a socket of messages only a call that waits says so,
/// at once, where one that may not says `EAGAIN` for ever.
#[cold]
fn shut(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLIN | libc::POLLRDHUP) & libc::POLLRDHUP != 0
}

/// Parks until the descriptor may be ready. Everything but this frame and the
/// call's own is gone from the stack while the coroutine is parked.
#[inline(never)]
fn park(cx: CurrentTask, context: &mut WaitContext) -> Result<Parked, Errno> {
    let known = table::cached(context.fd);
    let deadline = context.deadline_with(known)?;
    let again = std::mem::replace(&mut context.parked, true);
    match cx.wait_or_again(context.fd, context.dir, deadline, again) {
        Ok(()) => {
            // What epoll takes is no regular file.
            if known & (table::NOT_A_FILE | table::TERMINAL) == 0 {
                note_pollable(context.fd);
            }
            Ok(Parked::Woken)
        }
        Err(error) => not_woken(error),
    }
}

/// Waits a little where no event will tell.
#[cold]
fn pause(
    cx: CurrentTask,
    context: &mut WaitContext,
    backoff: &mut Backoff,
) -> Result<Parked, Errno> {
    match backoff.pause(cx, context.deadline()?) {
        Ok(()) => Ok(Parked::Woken),
        Err(libc::ETIMEDOUT) => Ok(Parked::Late),
        Err(code) => Err(code),
    }
}

#[cold]
pub(crate) fn note_pollable(fd: RawFd) {
    Probe::begin(fd).commit(table::NOT_A_FILE);
}

#[cold]
fn not_woken(error: io::Error) -> Result<Parked, Errno> {
    match code(error) {
        libc::ETIMEDOUT => Ok(Parked::Late),
        libc::EPERM => Ok(Parked::CannotWait),
        libc::EINTR => interrupt::go_on().map(|()| Parked::Woken),
        code => Err(code),
    }
}

/// The event that ends waiting in `dir`.
pub(crate) fn event(dir: Direction) -> libc::c_short {
    match dir {
        Direction::Read => libc::POLLIN,
        Direction::Write => libc::POLLOUT,
    }
}
