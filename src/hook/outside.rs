//! Waiting with little on the stack.
//!
//! What lies on its stack is what a waiting coroutine costs (copied, on a
//! shared stack), and the [engine](super::engine) has a large frame: it knows
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

use super::engine::{checked, finish, is_nonblocking, note_pollable};
use super::fdflags;
use super::raw::{Answer, Errno, answer_c, errno, set_errno};
use crate::driver::{Direction, Outcome, WaitKey};
use crate::sched::Cx;

/// The engine's answer instead of parking, where who called is to wait. No error
/// of the kernel, which has them up to 4095.
pub(super) const WAIT: Errno = 4096;

/// [`WAIT`] as a C answer; no call returns it.
const NOT_YET: isize = -2;

/// [`inside`](super::engine::inside) for a call that may answer [`WAIT`].
/// `saved` is errno as the user knows it: others may have run since.
#[inline(always)]
pub(super) fn inside(saved: Errno, call: impl FnOnce(Cx) -> Answer) -> isize {
    let cx = cx();
    match checked(cx, || call(cx)) {
        Err(WAIT) => NOT_YET,
        answer => finish(answer, saved),
    }
}

/// Makes `call`, which ends in [`inside`], whenever the socket may be readable,
/// until it answers. `usual` is the same call that waits for itself.
///
/// What is needed now and then only is in functions of their own, and the
/// [`Cx`] is asked for again: whatever this keeps, a parked coroutine keeps.
#[inline(always)]
pub(super) fn wait(
    fd: RawFd,
    call: impl Fn(Errno) -> isize,
    usual: impl FnOnce(Cx) -> isize,
) -> isize {
    let saved = errno();
    let mut park = is_sure_to_wait(fd);
    let mut parked = false;
    loop {
        let mut woken = false;
        if park {
            let key = match begin(fd, parked) {
                Ok(key) => key,
                Err(libc::EBADF) => return closed(saved),
                Err(_) => return usual(with_errno(saved)),
            };
            Cx::suspend_until_woken();
            parked = true;
            match end(key) {
                Outcome::Closed => return closed(saved),
                outcome => woken = outcome == Outcome::Ready,
            }
        }
        match call(saved) {
            NOT_YET => park = may_wait(fd, woken),
            answer => return answer,
        }
    }
}

/// The coroutine that this is called in.
#[inline(always)]
fn cx() -> Cx {
    Cx::running().expect("called inside a coroutine")
}

/// The engine would park without a try and without a limit.
#[inline(never)]
fn is_sure_to_wait(fd: RawFd) -> bool {
    const ALL: u64 = fdflags::BLOCKING | fdflags::NO_READ_LIMIT | fdflags::NOT_A_FILE;
    let cx = cx();
    !cx.worth_trying(fd, Direction::Read) && fdflags::known(fd, ALL) && cx.waits_without_limit()
}

#[inline(never)]
fn begin(fd: RawFd, again: bool) -> Result<WaitKey, Errno> {
    let begun = cx().begin_wait(fd, Direction::Read, again);
    begun.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
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

/// After a try that found nothing. If it was made because of a wake-up,
/// somebody else was faster; or what is known of the number is of an earlier
/// descriptor, then the next try asks anew.
#[cold]
fn may_wait(fd: RawFd, woken: bool) -> bool {
    if woken && is_nonblocking(fd) != Ok(false) {
        fdflags::changed(fd);
        return false;
    }
    // `recv` was tried and did not say that it is no socket; who calls `read`
    // knows it already.
    if !fdflags::known(fd, fdflags::NOT_A_FILE) {
        note_pollable(fd);
    }
    true
}
