//! The futex wait, of a coroutine in the table and of a thread in the kernel.
//!
//! std takes no error from a wait but the end of its time: a cancelled
//! coroutine would be sent back here at once, for ever. So a wait in the table
//! goes on until a wake-up comes or its own time is over, whatever becomes of
//! the coroutine; a report says so if that takes long.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::may_park::{self, BlockReason};
use super::table::{Left, Table};
use super::{AGAIN, Call, WAIT_BITSET, long, report, table, time_at};
use crate::hook::wait::clock::{after, duration, kernels_now, now};
use crate::hook::wait::interrupt::{self, Verdict};
use crate::hook::wait::slow_wait::{Lasting, SlowWait};
use crate::sched::{CurrentTask, WARN_AFTER, contended};
use crate::sys::syscall::{Answer, Errno, answer_c, errno};

/// How long a coroutine waits at a word that other processes may know. They
/// can't reach the table, so it returns as if woken, and its caller looks.
const RECHECK: Duration = Duration::from_millis(10);

/// How long the thread waits in place of a coroutine that polls a future.
const BLOCK_IN_POLL: Duration = Duration::from_millis(1);

/// A wait of the caller's: parks the coroutine or blocks the thread.
///
/// # Safety
///
/// - As for the system call.
pub(super) unsafe fn wait(call: Call) -> c_long {
    // SAFETY: the caller's arguments.
    unsafe {
        // What the kernel refuses, it is to refuse.
        let well_formed = call.word != 0 && call.word % 4 == 0 && call.bits() != 0;
        match may_park::decide(call.word, call.value).filter(|_| well_formed) {
            None => block(call),
            // It waits for no time, on whatever clock.
            Some(Err(BlockReason::Learning)) => long(Err(libc::ETIMEDOUT)),
            Some(Err(reason)) => block_worker(call, reason),
            Some(Ok(cx)) => match (limit(call), table()) {
                (Ok(limit), Some(table)) => {
                    let saved = errno();
                    let deadline = limit.map(after);
                    let answer = match block_in_poll(cx, call, limit) {
                        Err(libc::ETIMEDOUT) => park(cx, table, call, deadline),
                        answer => answer,
                    };
                    answer_c(answer, saved) as c_long
                }
                _ => block(call),
            },
        }
    }
}

/// In the middle of a poll the thread waits first, and `ETIMEDOUT` if that does
/// not help: threads hold locks for a moment only. See [`CurrentTask::poll`].
///
/// # Safety
///
/// - As for the system call.
unsafe fn block_in_poll(cx: CurrentTask, call: Call, limit: Option<Duration>) -> Answer {
    if !cx.is_polling() || limit.is_some_and(|limit| limit < BLOCK_IN_POLL) {
        return Err(libc::ETIMEDOUT);
    }
    let until = kernels_now(libc::CLOCK_MONOTONIC) + BLOCK_IN_POLL;
    // SAFETY: the caller's promise.
    unsafe { until_monotonic(call, Some(until)) }
}

/// How long the caller wants to wait from now on; `None` for ever.
///
/// # Errors
///
/// The time is none: the kernel says so, too.
///
/// # Safety
///
/// - The call's time is null or valid.
unsafe fn limit(call: Call) -> Result<Option<Duration>, Errno> {
    // SAFETY: the caller's promise.
    let Some(time) = (unsafe { time_at(call.fourth) }) else {
        return Ok(None);
    };
    let time = duration(&time).ok_or(libc::EINVAL)?;
    let clock = if call.op & libc::FUTEX_CLOCK_REALTIME != 0 {
        libc::CLOCK_REALTIME
    } else {
        libc::CLOCK_MONOTONIC
    };
    let absolute = call.command() == WAIT_BITSET;
    Ok(Some(if absolute {
        time.saturating_sub(now(clock))
    } else {
        time
    }))
}

/// Parks until woken, or until `deadline`.
///
/// # Safety
///
/// - The word can be read.
#[inline(never)]
unsafe fn park(cx: CurrentTask, table: &Table, call: Call, deadline: Option<Instant>) -> Answer {
    let word = std::ptr::with_exposed_provenance_mut(call.word);
    // SAFETY: a readable, aligned word, which others change atomically.
    let still = || unsafe { AtomicU32::from_ptr(word) }.load(Ordering::Relaxed) == call.value;
    let Some(place) = table.queue(call.word, call.bits(), cx.addr(), still) else {
        // A caller that comes back at once lets others run now and then.
        cx.spend();
        return Err(AGAIN);
    };
    let _measured = contended();
    let recheck = call.is_shared().then(|| after(RECHECK));
    let first = earlier(deadline, recheck);
    let mut slow_wait = SlowWait::new(Lasting::Lock(call.word));
    // No cancellation point: the next one is to find it.
    let mut cancelled = false;
    let answer = loop {
        match interrupt::taken(cx) {
            Some(verdict)
                if verdict == Verdict::Fail || call.cancellable && verdict == Verdict::Cancel =>
            {
                cancelled |= verdict == Verdict::Cancel;
                break match table.leave(place, true) {
                    Some(Left::Woken) => Ok(0),
                    _ => Err(libc::EINTR),
                };
            }
            verdict => cancelled |= verdict == Some(Verdict::Cancel),
        }
        cx.park_regardless_until(earlier(first, slow_wait.next(cx)));
        if table.leave(place, false).is_some() {
            break Ok(0);
        }
        // A time is over, or the coroutine is to end.
        let now = Instant::now();
        let over = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if over(deadline) || over(recheck) {
            break match table.leave(place, true) {
                Some(Left::Queued) if over(deadline) => Err(libc::ETIMEDOUT),
                _ => Ok(0),
            };
        }
        slow_wait.check(cx);
    };
    if cancelled {
        cx.interrupt();
    }
    answer
}

#[inline(always)]
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

/// The thread waits in the kernel, and wake-ups know of it.
///
/// # Safety
///
/// - As for the system call.
unsafe fn block(call: Call) -> c_long {
    let _blocked = table().map(|table| table.block(call.word));
    // SAFETY: the caller's promise.
    long(unsafe { call.in_kernel() })
}

/// As [`block`], where a coroutine or a worker blocks its thread: reports it, for
/// some reasons only if it takes long.
///
/// # Safety
///
/// - As for the system call.
#[cold]
unsafe fn block_worker(call: Call, reason: BlockReason) -> c_long {
    // SAFETY: the caller's promise.
    unsafe {
        if reason.is_certain() {
            report::blocked(reason, call.word);
        } else if !reason.is_intended() {
            let limit = match limit(call) {
                Ok(limit) => limit,
                Err(_) => return block(call),
            };
            if limit.is_none_or(|limit| limit > WARN_AFTER) {
                let answer = until_warning(call);
                if answer != Err(libc::ETIMEDOUT) {
                    return long(answer);
                }
                report::blocked(reason, call.word);
                return for_the_rest(call, limit.map(|limit| limit - WARN_AFTER));
            }
        }
        block(call)
    }
}

/// Waits for [`WARN_AFTER`] and no longer.
///
/// # Safety
///
/// - As for the system call.
unsafe fn until_warning(call: Call) -> Answer {
    let until = kernels_now(libc::CLOCK_MONOTONIC) + WARN_AFTER;
    // SAFETY: the caller's promise.
    unsafe { until_monotonic(call, Some(until)) }
}

/// Waits for what is left of the caller's time.
///
/// # Safety
///
/// - As for the system call.
unsafe fn for_the_rest(call: Call, left: Option<Duration>) -> c_long {
    let until = left.map(|left| kernels_now(libc::CLOCK_MONOTONIC).saturating_add(left));
    // SAFETY: the caller's promise.
    long(unsafe { until_monotonic(call, until) })
}

/// # Safety
///
/// - As for the system call.
unsafe fn until_monotonic(call: Call, until: Option<Duration>) -> Answer {
    let time = until.map(|until| libc::timespec {
        tv_sec: until.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: until.subsec_nanos().into(),
    });
    let private: c_int = call.op & libc::FUTEX_PRIVATE_FLAG;
    let call = Call {
        op: WAIT_BITSET | private,
        third_value: call.bits(),
        fourth: time
            .as_ref()
            .map_or(0, |time| std::ptr::from_ref(time).expose_provenance()),
        ..call
    };
    let _blocked = table().map(|table| table.block(call.word));
    // SAFETY: the caller's promise, and a time of our own.
    unsafe { call.in_kernel() }
}
