//! The shallow wait: a coroutine parks with little of ours on its stack.
//!
//! What lies on its stack is what a waiting coroutine costs (copied, on a
//! shared stack), and the [retry loop](crate::hook::wait::retry) has a large frame:
//! it knows time-outs, files and half-done transfers. Most waits know none of
//! these: a read without a limit that takes what is there. So their hooks have
//! two frames that are never there together:
//!
//! ```text
//!   recv ─► wait ─┬─► attempt: the call, in the retry loop ──► answer, or WOULD_PARK
//!                 │◄─────────────────────────────────────────────────────┘
//!                 └─► park: only the frame of `wait` is there
//! ```
//!
//! For the user it is as if the call had been made when the descriptor became
//! ready. Whatever is unusual is the retry loop's: `wait` then makes the call in
//! the usual way, in which it parks where it stands.

use std::os::fd::RawFd;

use crate::driver::{Direction, Outcome, WaitKey, WatchError};
use crate::hook::wait::call::{On, checked, finish};
use crate::hook::wait::interrupt::{self, Verdict};
use crate::hook::wait::retry::{WOULD_PARK, note_pollable};
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::fd::table;
use crate::sys::syscall::{Answer, Errno, answer_c, errno, set_errno};

/// [`WOULD_PARK`] as a C answer; no call returns it.
const WOULD_PARK_C: isize = -2;

/// [`cancellable`](crate::hook::wait::call::cancellable) for a call that may answer
/// [`WOULD_PARK`]. `saved` is errno as the user knows it: others may have run since.
#[inline(always)]
pub(crate) fn attempt(saved: Errno, on: On, call: impl FnOnce(CurrentTask) -> Answer) -> isize {
    let cx = cx();
    match checked(cx, on, || call(cx)) {
        Err(WOULD_PARK) => WOULD_PARK_C,
        answer => finish(answer, saved),
    }
}

/// Makes `call`, which ends in [`attempt`], whenever the descriptor may be
/// readable, until it answers; it is told whether a wake-up says so. `usual` is the
/// same call that parks where it stands.
///
/// What is needed now and then only is in functions of their own, and the
/// [`CurrentTask`] is asked for again: whatever this keeps, a parked coroutine keeps.
#[inline(always)]
pub(crate) fn wait(
    fd: RawFd,
    call: impl Fn(Errno, bool) -> isize,
    usual: impl FnOnce(CurrentTask) -> isize,
) -> isize {
    let saved = errno();
    let mut begun = begin_if_not_ready(fd);
    let mut parked = false;
    loop {
        let mut woken = false;
        match begun {
            Ok(key) => {
                CurrentTask::suspend_until_woken();
                parked = true;
                match end(key) {
                    Outcome::Closed => return closed(saved),
                    Outcome::Pending if interrupted() => return interrupted_call(saved),
                    outcome => woken = outcome == Outcome::Ready,
                }
            }
            Err(WOULD_PARK) => {}
            Err(libc::EBADF) => return closed(saved),
            Err(_) => return usual(with_errno(saved)),
        }
        match call(saved, woken) {
            WOULD_PARK_C => begun = begin_again(fd, woken, parked),
            answer => return answer,
        }
    }
}

/// The coroutine that this is called in.
#[inline(always)]
fn cx() -> CurrentTask {
    CurrentTask::running().expect("called inside a coroutine")
}

/// Begins to wait where the retry loop would, without a try and without a limit;
/// otherwise [`WOULD_PARK`].
#[inline(never)]
fn begin_if_not_ready(fd: RawFd) -> Result<WaitKey, Errno> {
    const ALL: u32 = table::BLOCKING | table::NO_READ_LIMIT | table::NOT_A_FILE;
    let cx = cx();
    if table::known(fd, ALL) && cx.waits_without_limit() {
        cx.begin_wait_if_not_ready(fd, Direction::Read)
            .ok_or(WOULD_PARK)
    } else {
        Err(WOULD_PARK)
    }
}

/// After a try that found nothing, made because of a wake-up or not: begins to
/// wait, unless it is to be tried again.
#[cold]
#[inline(never)]
fn begin_again(fd: RawFd, woken: bool, parked: bool) -> Result<WaitKey, Errno> {
    // Another reader was faster; or what is known of the number is of an earlier
    // descriptor, then the next try asks anew.
    if woken && is_nonblocking(fd) != Ok(false) {
        table::invalidate(fd);
        return Err(WOULD_PARK);
    }
    // `recv` was tried and did not say that it is no socket; `read` is not made
    // here without knowing it.
    if !table::known(fd, table::NOT_A_FILE) {
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
fn with_errno(saved: Errno) -> CurrentTask {
    set_errno(saved);
    cx()
}

#[cold]
#[inline(never)]
fn closed(saved: Errno) -> isize {
    answer_c(Err(libc::EBADF), saved)
}

/// Whether the wait that a wake-up has ended without its event is to fail.
#[inline(always)]
fn interrupted() -> bool {
    cx().may_be_ending() && interrupted_closely()
}

#[cold]
#[inline(never)]
fn interrupted_closely() -> bool {
    matches!(
        interrupt::taken(cx()),
        Some(Verdict::Fail | Verdict::Cancel)
    )
}

#[cold]
#[inline(never)]
fn interrupted_call(saved: Errno) -> isize {
    finish(Err(libc::EINTR), saved)
}
