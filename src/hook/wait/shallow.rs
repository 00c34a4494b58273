//! Waiting with little on the stack.
//!
//! What lies on its stack is what a waiting coroutine costs (copied, on a
//! shared stack), and the [engine](crate::hook::wait::retry) has a large frame: it knows
//! time-outs, files and half-done transfers. Most waits know none of these: a
//! read without a limit that takes what is there. So their hooks have two
//! frames that are never there together:
//!
//! ```text
//!   recv ─► wait ─┬─► the call, through the engine ──► answer, or WAIT
//!                 │◄────────────────────────────────────────────┘
//!                 └─► park: only the frame of `wait` is there
//! ```
//!
//! For the user it is as if he had made the call when the descriptor became
//! ready. Whatever is unusual is the engine's: `wait` then makes the call in the
//! usual way, in which it parks where it stands.

use std::os::fd::RawFd;

use crate::driver::{Direction, Outcome, WaitKey, WatchError};
use crate::hook::fd::cache;
use crate::hook::wait::retry::{checked, finish, is_nonblocking, note_pollable};
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, answer_c, errno, set_errno};

/// The engine's answer instead of parking, where who called is to wait. No error
/// of the kernel, which has them up to 4095.
pub(crate) const WAIT: Errno = 4096;

/// [`WAIT`] as a C answer; no call returns it.
const NOT_YET: isize = -2;

/// [`inside`](crate::hook::wait::retry::inside) for a call that may answer [`WAIT`].
/// `saved` is errno as the user knows it: others may have run since.
#[inline(always)]
pub(crate) fn inside(saved: Errno, call: impl FnOnce(Cx) -> Answer) -> isize {
    let cx = cx();
    match checked(cx, || call(cx)) {
        Err(WAIT) => NOT_YET,
        answer => finish(answer, saved),
    }
}

/// Makes `call`, which ends in [`inside`], whenever the socket may be readable,
/// until it answers; it is told whether a wake-up says so. `usual` is the same
/// call that waits for itself.
///
/// What is needed now and then only is in functions of their own, and the
/// [`Cx`] is asked for again: whatever this keeps, a parked coroutine keeps.
#[inline(always)]
pub(crate) fn wait(
    fd: RawFd,
    call: impl Fn(Errno, bool) -> isize,
    usual: impl FnOnce(Cx) -> isize,
) -> isize {
    let saved = errno();
    let mut begun = begin_if_drained(fd);
    let mut parked = false;
    loop {
        let mut woken = false;
        match begun {
            Ok(key) => {
                Cx::suspend_until_woken();
                parked = true;
                match end(key) {
                    Outcome::Closed => return closed(saved),
                    outcome => woken = outcome == Outcome::Ready,
                }
            }
            Err(WAIT) => {}
            Err(libc::EBADF) => return closed(saved),
            Err(_) => return usual(with_errno(saved)),
        }
        match call(saved, woken) {
            NOT_YET => begun = begin_again(fd, woken, parked),
            answer => return answer,
        }
    }
}

/// The coroutine that this is called in.
#[inline(always)]
fn cx() -> Cx {
    Cx::running().expect("called inside a coroutine")
}

/// Begins to wait where the engine would, without a try and without a limit;
/// otherwise [`WAIT`].
#[inline(never)]
fn begin_if_drained(fd: RawFd) -> Result<WaitKey, Errno> {
    const ALL: u64 = cache::BLOCKING | cache::NO_READ_LIMIT | cache::NOT_A_FILE;
    let cx = cx();
    if cache::known(fd, ALL) && cx.waits_without_limit() {
        cx.begin_wait_if_drained(fd, Direction::Read).ok_or(WAIT)
    } else {
        Err(WAIT)
    }
}

/// After a try that found nothing, made because of a wake-up or not: begins to
/// wait, unless it is to be tried again.
#[cold]
#[inline(never)]
fn begin_again(fd: RawFd, woken: bool, parked: bool) -> Result<WaitKey, Errno> {
    // Somebody else was faster; or what is known of the number is of an earlier
    // descriptor, then the next try asks anew.
    if woken && is_nonblocking(fd) != Ok(false) {
        cache::changed(fd);
        return Err(WAIT);
    }
    // `recv` was tried and did not say that it is no socket; who calls `read`
    // knows it already.
    if !cache::known(fd, cache::NOT_A_FILE) {
        note_pollable(fd);
    }
    let begun = cx().begin_wait(fd, Direction::Read, parked);
    begun.map_err(WatchError::errno)
}

#[inline(never)]
fn end(key: WaitKey) -> Outcome {
    cx().end_wait(key)
}

/// The coroutine, with errno as the user knows it.
#[cold]
#[inline(never)]
fn with_errno(saved: Errno) -> Cx {
    set_errno(saved);
    cx()
}

#[cold]
#[inline(never)]
fn closed(saved: Errno) -> isize {
    answer_c(Err(libc::EBADF), saved)
}
