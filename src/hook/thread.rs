//! `pthread_join`. Left out of statically linked programs, where libc's own
//! could not be reached any more.

use std::ffi::{c_int, c_void};

use libc::{pthread_t, timespec};

use super::engine::gate;
use super::pauses::Pauses;
use super::raw::{errno, set_errno};
use super::real;

unsafe extern "C" {
    fn pthread_timedjoin_np(
        thread: pthread_t,
        value: *mut *mut c_void,
        until: *const timespec,
    ) -> c_int;
}

/// A thread's end gives no sign that can be watched: asked for up to every
/// 10 ms. A cancelled coroutine joins for real: callers take an error here for
/// a bug of theirs (std panics).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> c_int {
    // SAFETY: no preconditions.
    let this = unsafe { libc::pthread_self() };
    let Some(cx) = gate().filter(|_| thread != this) else {
        // SAFETY: the caller's arguments. Of the thread itself: an error.
        return unsafe { real::pthread_join(thread, value) };
    };
    let saved = errno();
    let mut pauses = Pauses::new();
    // `pthread_tryjoin_np` would not refuse a detached thread while it runs, and
    // then we would look at what has gone with it.
    let long_ago = timespec {
        tv_sec: -1,
        tv_nsec: 0,
    };
    let result = loop {
        // SAFETY: the caller's arguments; nothing is joined while it is late.
        match unsafe { pthread_timedjoin_np(thread, value, &long_ago) } {
            libc::ETIMEDOUT => {}
            result => break result,
        }
        if pauses.pause(cx, None).is_err() {
            // SAFETY: as above.
            break unsafe { real::pthread_join(thread, value) };
        }
    };
    set_errno(saved);
    result
}
