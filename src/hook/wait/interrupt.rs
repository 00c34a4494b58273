//! Interruptions: a signal to a thread that is a coroutine, and its `pthread_cancel`, end
//! what it waits in, as they do with a thread of the kernel's.
//!
//! The scheduler makes the wait fail, once, with `EINTR` (`sched/asked.rs`). What that is
//! to mean the thread knows (`hook/threads/interrupt.rs`, which is higher, so it leaves
//! its functions here): its handlers run, in the coroutine that was waiting, and the call
//! fails, or waits on. A thread that is cancelled ends in the frame of the hook that it
//! called, by libc's unwinding. So hooks that are cancellation points are `C-unwind`, and
//! nothing of ours lies between that owns anything.
//!
//! What coroutines wait in that are no threads no signal interrupts.

use std::sync::OnceLock;

use libc::sigset_t;

use crate::sched::CurrentTask;
use crate::sys::syscall::Errno;

/// What an interruption comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No handler has run: wait on.
    Nothing,
    /// Handlers have run that let calls go on (`SA_RESTART`), where these do.
    Restart,
    /// The call fails with `EINTR`.
    Fail,
    /// The thread is cancelled, and may be.
    Cancel,
}

/// What threads that are coroutines do.
pub(crate) struct Actions {
    /// Whether the running coroutine is one.
    pub(crate) is_thread: fn() -> bool,
    /// What stands for the running one's number at the kernel.
    pub(crate) number: fn() -> Option<u32>,
    /// Runs the handlers of what was sent to the running one.
    pub(crate) settle: fn() -> Verdict,
    /// Ends the running one if it is cancelled and may be.
    pub(crate) end_if_cancelled: fn(),
    /// Interrupts those that signals to the process are for.
    pub(crate) pass_signals: fn(),
    /// Has the running one block these signals and no others: those that it blocked. None:
    /// it is no such thread.
    pub(crate) replace_mask: fn(u64) -> Option<u64>,
}

static ACTIONS: OnceLock<Actions> = OnceLock::new();

/// There may be such threads from here on.
#[allow(dead_code, reason = "threads are coroutines on some targets only")]
pub(crate) fn install(actions: Actions) {
    let _ = ACTIONS.set(actions);
}

/// The running coroutine's wait has failed with `EINTR`: what that means.
#[cold]
pub(crate) fn settle() -> Verdict {
    ACTIONS
        .get()
        .map_or(Verdict::Fail, |actions| (actions.settle)())
}

/// What interrupts a coroutine that is about to wait, or was woken.
#[inline(always)]
pub(crate) fn taken(cx: CurrentTask) -> Option<Verdict> {
    if cx.may_be_ending() && cx.take_interruption() {
        Some(settle())
    } else {
        None
    }
}

/// A cancellation point begins, or has failed with `EINTR`. Does not return if the
/// thread is cancelled.
#[cold]
#[inline(never)]
pub(crate) fn end_if_cancelled() {
    if let Some(actions) = ACTIONS.get() {
        (actions.end_if_cancelled)();
    }
}

/// The running coroutine's wait has failed with `EINTR`: whether it is to go on.
///
/// # Errors
///
/// `EINTR`: not.
#[cold]
pub(crate) fn go_on() -> Result<(), Errno> {
    match settle() {
        Verdict::Nothing | Verdict::Restart => Ok(()),
        Verdict::Fail | Verdict::Cancel => Err(libc::EINTR),
    }
}

/// Handlers of signals to the process have run: whoever they were for is interrupted.
#[cfg_attr(
    not(feature = "futex"),
    allow(dead_code, reason = "for the hooks of locks")
)]
pub(crate) fn pass_signals() {
    if let Some(actions) = ACTIONS.get() {
        (actions.pass_signals)();
    }
}

/// Whether the running coroutine is a thread.
#[cfg_attr(
    target_feature = "crt-static",
    allow(dead_code, reason = "for `pause`")
)]
pub(crate) fn is_thread() -> bool {
    ACTIONS.get().is_some_and(|actions| (actions.is_thread)())
}

/// What `gettid` is to say, if the running coroutine is a thread.
#[cfg_attr(
    not(feature = "futex"),
    allow(dead_code, reason = "for the hooks of locks")
)]
pub(crate) fn number() -> Option<u32> {
    ACTIONS.get().and_then(|actions| (actions.number)())
}

/// Makes a call that is to have this mask meanwhile, if it is not null. A thread that is a
/// coroutine has it, and `call` gets none; of others `call` gets it.
///
/// # Safety
///
/// - `mask` is null or valid.
#[inline]
pub(crate) unsafe fn with_mask<R>(
    mask: *const sigset_t,
    call: impl FnOnce(*const sigset_t) -> R,
) -> R {
    // SAFETY: the caller's mask, which begins with the kernel's 64 bits.
    let bits = (!mask.is_null()).then(|| unsafe { mask.cast::<u64>().read_unaligned() });
    let replace = ACTIONS.get().map(|actions| actions.replace_mask);
    let Some((replace, former)) =
        bits.and_then(|bits| replace.and_then(|replace| Some((replace, replace(bits)?))))
    else {
        return call(mask);
    };
    let answer = call(std::ptr::null());
    replace(former);
    answer
}

/// As a call begins: what came before does not make it fail.
#[cold]
#[inline(never)]
pub(crate) fn before(cx: CurrentTask) {
    if taken(cx).is_some() {
        end_if_cancelled();
    }
}

/// A call of a coroutine's has failed with `EINTR`.
#[cold]
#[inline(never)]
pub(crate) fn after() {
    settle();
    end_if_cancelled();
}
