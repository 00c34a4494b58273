//! Look-ups that libc's own threads make: `getaddrinfo_a`, `gai_suspend`. Whether one
//! is done is asked for, up to every 10 ms.
//!
//! Left out of statically linked programs, where libc's own could not be reached
//! any more.

use std::ffi::{c_int, c_void};

use libc::{sigevent, timespec};

use crate::hook::libc::hook;
use crate::hook::libc::next::next_definition;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{in_coroutine, may_park};
use crate::hook::wait::clock::{after, duration};
use crate::sys::syscall::{errno, set_errno};

/// `netdb.h`'s.
const EAI_INPROGRESS: c_int = -100;
const GAI_WAIT: c_int = 0;
const GAI_NOWAIT: c_int = 1;

/// A look-up (`struct gaicb`), which only libc looks into.
type Request = *mut c_void;

/// libc's `gai_error`. Looked up: before glibc 2.34 it is in a library of its own
/// (libanl), without which a program has no such look-ups, and is not linked.
///
/// # Safety
///
/// - `request` is a look-up.
unsafe fn gai_error(request: Request) -> c_int {
    let found = next_definition(c"gai_error");
    if found.is_null() {
        return 0;
    }
    // SAFETY: the function of this name has this type; the caller's look-up.
    unsafe {
        let gai_error: unsafe extern "C" fn(Request) -> c_int = std::mem::transmute(found);
        gai_error(request)
    }
}

/// How many of a list are under way.
///
/// # Safety
///
/// - `list` points at `count` look-ups or nulls, if there are any.
unsafe fn under_way(list: *const Request, count: c_int) -> usize {
    let count = if list.is_null() { 0 } else { count.max(0) };
    (0..count as usize)
        // SAFETY: the caller's promise.
        .map(|at| unsafe { *list.wrapping_add(at) })
        // SAFETY: as above.
        .filter(|&one| !one.is_null() && unsafe { gai_error(one) } == EAI_INPROGRESS)
        .count()
}

/// # Safety
///
/// - As for [`under_way`].
unsafe fn some_under_way(list: *const Request, count: c_int) -> Option<usize> {
    // SAFETY: forwarded.
    Some(unsafe { under_way(list, count) }).filter(|&count| count > 0)
}

hook!(
    next,
    Some(cx) = may_park().filter(|_| mode == GAI_WAIT),
    /// A cancelled coroutine waits on: the memory is libc's until the end.
    unsafe extern "C" fn getaddrinfo_a(
        mode: c_int,
        list: *const Request,
        count: c_int,
        event: *mut sigevent,
    ) -> c_int {
        let _ = event;
        // SAFETY: the caller's list; no event, as where it is waited for.
        let begun = unsafe { getaddrinfo_a::next(GAI_NOWAIT, list, count, std::ptr::null_mut()) };
        let saved = errno();
        let mut backoff = Backoff::new();
        // SAFETY: the caller's list.
        while unsafe { under_way(list, count) } > 0 {
            backoff.pause_regardless(cx, None);
        }
        set_errno(saved);
        begun
    }
);

hook!(
    next,
    Some((cx, begun)) = in_coroutine().and_then(|cx| {
        // SAFETY: the caller's list.
        Some((cx, unsafe { some_under_way(list, count) }?))
    }),
    /// Where none is under way libc says so at once.
    unsafe extern "C" fn gai_suspend(
        list: *const Request,
        count: c_int,
        time: *const timespec,
    ) -> c_int {
        let saved = errno();
        // SAFETY: the caller's time.
        let deadline =
            unsafe { time.as_ref() }.map(|time| after(duration(time).unwrap_or_default()));
        // SAFETY: the caller's list.
        let ask = || Ok((unsafe { under_way(list, count) } < begun).then_some(()));
        let waited = Backoff::new().until_deadline(cx, deadline, ask);
        set_errno(saved);
        waited.map_or(libc::EAI_AGAIN, |()| 0)
    }
);
