//! Waiting: `co_poll`, the event loop.

use std::ffi::{c_int, c_short, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use crore::__driven;

use crate::co::refuse;
use crate::co::thread::{self, Opaque};
use crate::error::{Code, Error};

/// What libco's loop calls at each turn.
type EachTurn = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// How often it is called at least.
const TICK: Duration = Duration::from_millis(1);

/// What stands for a thread's loop: libco's users only hand it on.
static CONTEXT: u8 = 0;

#[unsafe(no_mangle)]
pub extern "C" fn co_get_epoll_ct() -> Opaque {
    Opaque(ptr::from_ref(&CONTEXT).cast_mut())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_poll(
    _ctx: Opaque,
    fds: *mut libc::pollfd,
    nfds: libc::nfds_t,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: null, or the caller's entries.
    let mut one = unsafe { fds.as_mut() }.filter(|_| nfds == 1);
    let mut rest = timeout_ms;
    if one
        .as_mut()
        .is_some_and(|one| has_become_readable(one, &mut rest))
    {
        return 1;
    }
    // Also where the coroutine has not enabled hooks.
    let was = thread::current() != 0 && __driven::set_unhooked(false);
    // SAFETY: the caller's entries.
    let answer = unsafe { libc::poll(fds, nfds, rest) };
    if was {
        __driven::set_unhooked(true);
    }
    answer
}

/// A stream that has been read empty is waited for without the two looks of `poll`: each
/// request of a server begins with such a wait. `false`: `poll` is to say, in the rest of
/// the time.
fn has_become_readable(entry: &mut libc::pollfd, timeout_ms: &mut c_int) -> bool {
    const READ: c_short = libc::POLLIN | libc::POLLRDNORM;
    let told_anyway = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    let wanted = entry.events & READ;
    if wanted == 0 || entry.events & !(READ | told_anyway) != 0 || *timeout_ms == 0 {
        return false;
    }
    let limit = u64::try_from(*timeout_ms).ok().map(Duration::from_millis);
    let until = limit.map(|limit| Instant::now() + limit);
    if __driven::has_become_readable(entry.fd, until) {
        entry.revents = wanted;
        return true;
    }
    if let Some(until) = until {
        let left = until.saturating_duration_since(Instant::now());
        *timeout_ms = left.as_nanos().div_ceil(1_000_000) as c_int;
    }
    false
}

/// An exception of `pfn` passes, as in libco.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn co_eventloop(
    _ctx: Opaque,
    pfn: Option<EachTurn>,
    arg: *mut c_void,
) {
    if thread::current() != 0 {
        let text = "a coroutine can't run its thread's loop";
        refuse("co_eventloop", Error::new(Code::State, text));
        return;
    }
    let driven = match thread::driven() {
        Ok(driven) => driven,
        Err(error) => {
            refuse("co_eventloop", error.into());
            return;
        }
    };
    loop {
        driven.turn(pfn.map(|_| Instant::now() + TICK));
        // SAFETY: the caller's function, and its argument.
        if pfn.is_some_and(|pfn| unsafe { pfn(arg) } == -1) {
            return;
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn co_accept(
    fd: c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { libc::accept(fd, address, length) }
}

/// As libco's, it does nothing. (Further arguments stay where their caller puts them.)
#[unsafe(no_mangle)]
pub extern "C" fn co_log_err(_format: *const libc::c_char) {}
