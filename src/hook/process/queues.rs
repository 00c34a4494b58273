//! Message queues and semaphores between processes: POSIX's `mq_…`, which are
//! descriptors, and System V's `msgrcv`, `msgsnd`, `semop`, which nothing can be
//! asked to watch.
//!
//! Each call is made from the coroutine's own stack and without waiting, until it
//! says something else than that it would have waited.

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::time::Instant;

use libc::{mqd_t, sembuf, size_t, ssize_t, timespec};

use crate::driver::Direction;
use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, in_coroutine, park_until_ready};
use crate::hook::wait::clock::{self, ZERO, after, duration, now};
use crate::sched::CurrentTask;
use crate::sys::syscall::{Answer, Errno, sys, uninterrupted};

/// Calls on a queue of POSIX, until `time` of the realtime clock. `ask` is the call
/// with another time: 1970 means not to wait.
///
/// # Safety
///
/// - `time` is null or valid.
unsafe fn on_queue(
    cx: CurrentTask,
    (queue, dir): (mqd_t, Direction),
    time: *const timespec,
    ask: impl Fn(*const timespec) -> Answer,
) -> Answer {
    // SAFETY: the caller's promise.
    let time = unsafe { time.as_ref() }.map(|time| duration(time).ok_or(libc::EINVAL));
    let time = time.transpose()?;
    let deadline = time.map(|time| after(time.saturating_sub(now(libc::CLOCK_REALTIME))));
    loop {
        match uninterrupted(|| ask(&raw const ZERO)) {
            Err(libc::ETIMEDOUT) => {}
            // One that the user made non-blocking says so.
            answer => return answer,
        }
        match park_until_ready(cx, queue, dir, deadline) {
            Err(libc::ETIMEDOUT) => return uninterrupted(|| ask(&raw const ZERO)),
            parked => parked?,
        }
    }
}

macro_rules! received {
    ($(fn $name:ident($($time:ident: $ty:ty)?): $at:expr;)*) => {
        $(hook!(
            next_or(sys!(SYS_mq_timedreceive, queue, text, len, priority, $at)),
            Some(cx) = in_coroutine(),
            unsafe extern "C-unwind" fn $name(
                queue: mqd_t,
                text: *mut c_char,
                len: size_t,
                priority: *mut c_uint,
                $($time: $ty,)?
            ) -> ssize_t {
                // SAFETY: the caller's places.
                let ask = |time| unsafe { sys!(SYS_mq_timedreceive, queue, text, len, priority, time) };
                // SAFETY: the caller's time.
                cancellable(cx, || unsafe { on_queue(cx, (queue, Direction::Read), $at, ask) })
            }
        );)*
    };
}

received! {
    fn mq_receive(): std::ptr::null::<timespec>();
    fn mq_timedreceive(time: *const timespec): time;
}

macro_rules! sent {
    ($(fn $name:ident($($time:ident: $ty:ty)?): $at:expr;)*) => {
        $(hook!(
            next_or(sys!(SYS_mq_timedsend, queue, text, len, priority, $at)),
            Some(cx) = in_coroutine(),
            unsafe extern "C-unwind" fn $name(
                queue: mqd_t,
                text: *const c_char,
                len: size_t,
                priority: c_uint,
                $($time: $ty,)?
            ) -> c_int {
                // SAFETY: the caller's text.
                let ask = |time| unsafe { sys!(SYS_mq_timedsend, queue, text, len, priority, time) };
                // SAFETY: the caller's time.
                cancellable(cx, || unsafe { on_queue(cx, (queue, Direction::Write), $at, ask) })
            }
        );)*
    };
}

sent! {
    fn mq_send(): std::ptr::null::<timespec>();
    fn mq_timedsend(time: *const timespec): time;
}

/// Asks until the call says something else than `busy`, which is also what it says
/// when time is over. What is removed meanwhile says `EIDRM` to those that wait for
/// it, and `EINVAL` to those that come later, as we do.
fn until_free(
    cx: CurrentTask,
    deadline: Option<Instant>,
    busy: Errno,
    ask: impl Fn() -> Answer,
) -> Answer {
    let mut waited = false;
    let asked = || match ask() {
        Err(code) if code == busy => {
            waited = true;
            Ok(None)
        }
        Err(libc::EINVAL) if waited => Err(libc::EIDRM),
        answer => answer.map(Some),
    };
    match Backoff::new().until_deadline(cx, deadline, asked) {
        Err(libc::ETIMEDOUT) => Err(busy),
        answer => answer,
    }
}

hook!(
    next_or(SYS_msgrcv),
    Some(cx) = in_coroutine().filter(|_| flags & libc::IPC_NOWAIT == 0),
    unsafe extern "C-unwind" fn msgrcv(
        queue: c_int,
        message: *mut c_void,
        len: size_t,
        kind: c_long,
        flags: c_int,
    ) -> ssize_t {
        let flags = flags | libc::IPC_NOWAIT;
        // SAFETY: the caller's place.
        let ask = || unsafe { sys!(SYS_msgrcv, queue, message, len, kind, flags) };
        cancellable(cx, || until_free(cx, None, libc::ENOMSG, ask))
    }
);

hook!(
    next_or(SYS_msgsnd),
    Some(cx) = in_coroutine().filter(|_| flags & libc::IPC_NOWAIT == 0),
    unsafe extern "C-unwind" fn msgsnd(
        queue: c_int,
        message: *const c_void,
        len: size_t,
        flags: c_int,
    ) -> c_int {
        let flags = flags | libc::IPC_NOWAIT;
        // SAFETY: the caller's message.
        let ask = || unsafe { sys!(SYS_msgsnd, queue, message, len, flags) };
        cancellable(cx, || until_free(cx, None, libc::EAGAIN, ask))
    }
);

/// The same operations, made without waiting. `None` if the caller says so of some:
/// then which of them can't be made decides whether the call waits, and it is libc's.
///
/// # Safety
///
/// - Null, or `count` operations.
unsafe fn without_waiting(operations: *const sembuf, count: size_t) -> Option<Vec<sembuf>> {
    /// More than the kernel takes.
    const TOO_MANY: size_t = 1 << 16;
    if operations.is_null() || count == 0 || count > TOO_MANY {
        return None;
    }
    // SAFETY: the caller's promise.
    let mut all = unsafe { std::slice::from_raw_parts(operations, count) }.to_vec();
    let no_wait = libc::IPC_NOWAIT as i16;
    if all.iter().any(|one| one.sem_flg & no_wait != 0) {
        return None;
    }
    all.iter_mut().for_each(|one| one.sem_flg |= no_wait);
    Some(all)
}

hook!(
    next_or(sys!(SYS_semtimedop, set, operations, count, 0)),
    Some(_) = in_coroutine(),
    unsafe extern "C-unwind" fn semop(set: c_int, operations: *mut sembuf, count: size_t) -> c_int {
        // SAFETY: the caller's operations.
        unsafe { semtimedop(set, operations, count, std::ptr::null()) }
    }
);

hook!(
    next_or(SYS_semtimedop),
    Some((cx, tried)) = in_coroutine().and_then(|cx| {
        // SAFETY: the caller's operations.
        Some((cx, unsafe { without_waiting(operations, count) }?))
    }),
    unsafe extern "C-unwind" fn semtimedop(
        set: c_int,
        operations: *mut sembuf,
        count: size_t,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: operations of our own.
        let ask = || unsafe { sys!(SYS_semtimedop, set, tried.as_ptr(), count, 0) };
        cancellable(cx, || {
            // SAFETY: the caller's time.
            let deadline = unsafe { clock::limit(time) }?.map(after);
            until_free(cx, deadline, libc::EAGAIN, ask)
        })
    }
);
