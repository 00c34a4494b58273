//! Thread joins: `pthread_join` and its like. Left out of statically linked
//! programs, where libc's own could not be reached any more.

use std::ffi::{c_int, c_void};
use std::time::Instant;

use libc::{clockid_t, pthread_t, timespec};

use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::may_park;
use crate::hook::wait::clock::moment;
#[cfg(all(feature = "futex", target_env = "gnu"))]
use crate::hook::wait::interrupt;
use crate::hook::wait::slow_wait::{Lasting, SlowWait};
use crate::sys::syscall::{errno, set_errno};

/// A thread's end gives no sign that can be watched: asked for up to every
/// 10 ms. A cancelled coroutine goes on waiting: callers take an error here for
/// a bug of theirs (std panics).
///
/// # Safety
///
/// - As for `pthread_join`; so is `real`.
unsafe fn join(
    thread: pthread_t,
    value: *mut *mut c_void,
    deadline: Option<Instant>,
    real: impl Fn() -> c_int,
) -> c_int {
    #[cfg(all(feature = "futex", target_env = "gnu"))]
    if let Some(mut ours) = crate::hook::threads::Thread::find(thread) {
        loop {
            // SAFETY: the caller's place.
            match unsafe { ours.join(value, deadline) } {
                // Cancelled in its wait, if it still may be.
                libc::EINTR => {
                    drop(ours);
                    interrupt::end_if_cancelled();
                }
                code => return code,
            }
            match crate::hook::threads::Thread::find(thread) {
                Some(again) => ours = again,
                None => return libc::ESRCH,
            }
        }
    }
    // SAFETY: no preconditions.
    let this = unsafe { libc::pthread_self() };
    let Some(cx) = may_park().filter(|_| thread != this) else {
        // Of the thread itself: an error. Or nobody who could park.
        return real();
    };
    let saved = errno();
    let (mut backoff, mut slow_wait) = (Backoff::new(), SlowWait::new(Lasting::Thread));
    // `pthread_tryjoin_np` would not refuse a detached thread while it runs, and
    // then we would look at what has gone with it.
    let long_ago = timespec {
        tv_sec: -1,
        tv_nsec: 0,
    };
    let result = loop {
        // SAFETY: the caller's arguments; nothing is joined while it is late.
        match unsafe { pthread_timedjoin_np::next(thread, value, &long_ago) } {
            libc::ETIMEDOUT if deadline.is_some_and(|at| Instant::now() >= at) => {
                break libc::ETIMEDOUT;
            }
            libc::ETIMEDOUT => {}
            result => break result,
        }
        backoff.pause_regardless(cx, deadline);
        slow_wait.check(cx);
    };
    set_errno(saved);
    result
}

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { join(thread, value, None, || pthread_join::next(thread, value)) }
    }
);

/// [`join`] until the caller's time, if there is one; libc says what is wrong
/// with it.
///
/// # Safety
///
/// - As for `pthread_clockjoin_np`; so is `real`.
unsafe fn join_until(
    thread: pthread_t,
    value: *mut *mut c_void,
    (clock, time): (clockid_t, *const timespec),
    real: impl Fn() -> c_int,
) -> c_int {
    // SAFETY: forwarded.
    unsafe {
        match moment(clock, time) {
            None if !time.is_null() => real(),
            deadline => join(thread, value, deadline, real),
        }
    }
}

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            let real = || pthread_timedjoin_np::next(thread, value, time);
            join_until(thread, value, (libc::CLOCK_REALTIME, time), real)
        }
    }
);

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_clockjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        clock: clockid_t,
        time: *const timespec,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            let real = || pthread_clockjoin_np::next(thread, value, clock, time);
            join_until(thread, value, (clock, time), real)
        }
    }
);
