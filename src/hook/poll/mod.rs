//! Waiting for several descriptors: `poll` and `ppoll` here, and the calls that
//! are made like them. They ask the kernel without waiting, park on all, ask again.
//!
//! They are what other libraries' event loops wait in, which take an error for a
//! bug. `event_loop.rs` has what that means for a coroutine that is to end.

pub(crate) mod epoll;
mod event_loop;
pub(crate) mod select;
mod wait_set;

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{c_short, nfds_t, pollfd, timespec};

use crate::hook::libc::{hook, next};
use crate::hook::poll::event_loop::{EventLoop, in_coroutine, is_connection};
use crate::hook::poll::wait_set::WaitSet;
use crate::hook::wait::call::uncancellable;
use crate::hook::wait::clock::{self};
use crate::hook::wait::interrupt::with_mask;
use crate::sched::CurrentTask;
use crate::sys::signal_mask::SignalMask;
use crate::sys::stat::tells_once;
use crate::sys::syscall::{Answer, Errno, KERNEL_SIGSET_BYTES, sys, uninterrupted};

const READ: c_short = libc::POLLIN | libc::POLLRDNORM;
const WRITE: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

hook!(
    next_or(poll_without_libc(fds, n, timeout)),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
        let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
        // SAFETY: the caller's entries.
        uncancellable(|| unsafe {
            poll_in_coroutine(EventLoop::new(cx, "poll"), fds, n, limit, std::ptr::null())
        })
    }
);

hook!(
    /// glibc's other name for `poll`.
    unsafe extern "C-unwind" fn __poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { poll(fds, n, timeout) }
    }
);

hook!(
    next_or(ppoll_without_libc(fds, n, limit, mask)),
    Some(cx) = in_coroutine(),
    /// The signal mask holds while the kernel is asked, not while parked: signals
    /// are the thread's, and other coroutines run there meanwhile. One that lets
    /// signals in is asked with every few milliseconds. (A thread that is a coroutine has
    /// a mask of its own.)
    unsafe extern "C-unwind" fn ppoll(
        fds: *mut pollfd,
        n: nfds_t,
        limit: *const timespec,
        mask: *const libc::sigset_t,
    ) -> c_int {
        // SAFETY: the caller's time, entries and mask.
        uncancellable(|| unsafe {
            let limit = clock::limit(limit)?;
            with_mask(mask, |mask| {
                poll_in_coroutine(EventLoop::new(cx, "ppoll"), fds, n, limit, mask)
            })
        })
    }
);

/// `poll` without libc.
///
/// # Safety
///
/// - As for `poll`.
unsafe fn poll_without_libc(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
    let limit = timespec {
        tv_sec: i64::from(timeout / 1000),
        tv_nsec: i64::from(timeout % 1000) * 1_000_000,
    };
    let limit = if timeout < 0 {
        std::ptr::null()
    } else {
        &raw const limit
    };
    // SAFETY: the caller's entries, a live time.
    unsafe { ppoll_without_libc(fds, n, limit, std::ptr::null()) }
}

/// `ppoll` without libc.
///
/// # Safety
///
/// - As for `ppoll`.
unsafe fn ppoll_without_libc(
    fds: *mut pollfd,
    n: nfds_t,
    limit: *const timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    // SAFETY: the caller's arguments. The kernel writes the rest of the time
    // back, C's ppoll does not.
    unsafe {
        let mut copy = limit.as_ref().copied();
        let limit = copy
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        next::answer(sys!(SYS_ppoll, fds, n, limit, mask, KERNEL_SIGSET_BYTES)) as c_int
    }
}

/// # Safety
///
/// - `fds` points at `n` entries; `mask` is null or valid.
unsafe fn poll_in_coroutine(
    event_loop: EventLoop,
    fds: *mut pollfd,
    n: nfds_t,
    limit: Option<Duration>,
    mask: *const libc::sigset_t,
) -> Answer {
    // SAFETY: the caller's entries and mask, for every call.
    let ask = || unsafe {
        sys!(
            SYS_ppoll,
            fds,
            n,
            &raw const clock::ZERO,
            mask,
            KERNEL_SIGSET_BYTES
        )
    };
    // Where the kernel took the entries they can be read (there may be none).
    let entries = || match n {
        0 => &mut [],
        // SAFETY: `n` entries of the caller, which are his alone while he waits.
        n => unsafe { std::slice::from_raw_parts_mut(fds, n as usize) },
    };
    let ask = || match ask_now(mask, ask) {
        Ok(0) => Ok(exceptions(event_loop.cx(), entries())),
        answer => answer,
    };
    let deadline = match event_loop.first(limit, &mut { ask }) {
        Ok(deadline) => deadline,
        Err(answer) => return answer,
    };
    // SAFETY: the caller's mask.
    let waits = match unsafe { lets_signals_in(mask) } {
        true => WaitSet::Special,
        false => wait_set(entries()),
    };
    event_loop.wait(&waits, deadline, ask, || {
        let mut broken = 0;
        for entry in entries() {
            let wanted = entry.events & (READ | WRITE | libc::POLLRDHUP);
            if entry.fd >= 0 && wanted != 0 && is_connection(entry.fd) {
                entry.revents = wanted;
                broken += 1;
            }
        }
        broken
    })
}

/// Marks the entries of files whose exceptions the kernel told us instead: how many.
fn exceptions(cx: CurrentTask, entries: &mut [pollfd]) -> usize {
    let mut marked = 0;
    for entry in entries {
        if entry.events & libc::POLLPRI != 0 {
            entry.revents = exception(cx, entry.fd);
            marked += usize::from(entry.revents != 0);
        }
    }
    marked
}

/// What is known of exceptions at a file that the kernel has just said to have none.
///
/// Some files tell of each change once: the table of mounts, other files of `/proc`,
/// triggers of pressure. A reactor that watches one hears it in the caller's place.
fn exception(cx: CurrentTask, fd: RawFd) -> c_short {
    match cx.take_exception(fd) {
        Some(error) if tells_once(fd) => match error {
            true => libc::POLLPRI | libc::POLLERR,
            false => libc::POLLPRI,
        },
        _ => 0,
    }
}

/// Asks the kernel. A caller that lets signals in by a mask wants to hear of them.
/// No other does: a signal is the thread's, and would be news to whichever
/// coroutine asks.
pub(crate) fn ask_now(mask: *const libc::sigset_t, mut ask: impl FnMut() -> Answer) -> Answer {
    match mask.is_null() {
        true => uninterrupted(ask),
        false => ask(),
    }
}

/// Whether the mask opens the thread to signals that it blocks: the caller waits
/// for these as well, and they come only while the kernel is asked.
///
/// # Safety
///
/// - `mask` is null or valid.
pub(crate) unsafe fn lets_signals_in(mask: *const libc::sigset_t) -> bool {
    if mask.is_null() {
        return false;
    }
    let SignalMask(blocked) = SignalMask::current();
    // SAFETY: the caller's mask, which begins with the kernel's 64 bits.
    blocked & !unsafe { mask.cast::<u64>().read_unaligned() } != 0
}

/// Lets the signals in that `mask` does and that have come: `EINTR` then.
///
/// # Safety
///
/// - `mask` is null or valid.
pub(crate) unsafe fn let_signals_in(mask: *const libc::sigset_t) -> Result<(), Errno> {
    let none = std::ptr::null::<pollfd>();
    // SAFETY: no entries, a live time, the caller's mask.
    unsafe {
        sys!(
            SYS_ppoll,
            none,
            0,
            &raw const clock::ZERO,
            mask,
            KERNEL_SIGSET_BYTES
        )
    }
    .map(drop)
}

/// What a `poll` of these entries waits for.
fn wait_set(entries: &[pollfd]) -> WaitSet {
    let entries = entries.iter().filter(|entry| entry.fd >= 0);
    let wanting = |wants: fn(c_short) -> bool| {
        let entries = entries.clone();
        entries
            .filter(move |entry| wants(entry.events))
            .map(|entry| entry.fd)
    };
    WaitSet::of(
        wanting(|events| events & READ != 0),
        wanting(|events| events & WRITE != 0),
        wanting(wants_exceptions),
    )
}

/// Whether the other two conditions do not say all: who waits to read hears of
/// exceptions, too, who waits to write of errors.
fn wants_exceptions(events: c_short) -> bool {
    let of_write = WRITE | libc::POLLERR | libc::POLLHUP;
    events & READ == 0 && (events & WRITE == 0 || events & !of_write != 0)
}
