//! Waiting for several descriptors: `poll` and `ppoll` here, and the calls that
//! are made like them. They ask the kernel without waiting, park on all, ask again.

pub(crate) mod epoll;
pub(crate) mod select;

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{c_short, nfds_t, pollfd, timespec};

use crate::driver::Direction;
use crate::hook::libc::{hook, next};
use crate::hook::wait::backoff::{sleep_for, sleep_until};
use crate::hook::wait::call::{cancellable, code, in_coroutine, park_until_ready};
use crate::hook::wait::clock::{self, after};
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, KERNEL_SIGSET_BYTES, sys, uninterrupted};

const READ: c_short = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDHUP | libc::POLLRDBAND;
const WRITE: c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

hook!(
    next_or(poll_without_libc(fds, n, timeout)),
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
        let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
        // SAFETY: the caller's entries.
        cancellable(cx, || unsafe {
            poll_in_coroutine(cx, fds, n, limit, std::ptr::null())
        })
    }
);

hook!(
    /// glibc's other name for `poll`.
    unsafe extern "C" fn __poll(fds: *mut pollfd, n: nfds_t, timeout: c_int) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { poll(fds, n, timeout) }
    }
);

hook!(
    next_or(ppoll_without_libc(fds, n, limit, mask)),
    Some(cx) = in_coroutine(),
    /// The signal mask holds while the kernel is asked, not while parked: signals
    /// are the thread's, and other coroutines run there meanwhile. One that lets
    /// signals in is asked with every few milliseconds.
    unsafe extern "C" fn ppoll(
        fds: *mut pollfd,
        n: nfds_t,
        limit: *const timespec,
        mask: *const libc::sigset_t,
    ) -> c_int {
        // SAFETY: the caller's time, entries and mask.
        cancellable(cx, || unsafe {
            poll_in_coroutine(cx, fds, n, clock::limit(limit)?, mask)
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
    cx: Cx,
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
    let ask = || ask_now(mask, ask);
    let first = ask();
    if first != Ok(0) || limit == Some(Duration::ZERO) {
        return first;
    }
    let deadline = limit.map(after);
    // The kernel took the entries, so they can be read (there may be none).
    let entries = match n {
        0 => &[],
        // SAFETY: `n` entries of the caller, which stay as they are while we look.
        n => unsafe { std::slice::from_raw_parts(fds, n as usize) },
    };
    // SAFETY: the caller's mask.
    let waits = match unsafe { lets_signals_in(mask) } {
        true => WaitSet::Special,
        false => WaitSet::of_entries(entries),
    };
    waits.wait(cx, deadline, ask)
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
    let mut blocked = 0_u64;
    let none = std::ptr::null::<u64>();
    // SAFETY: no new mask, a place for the present one.
    let asked = unsafe {
        sys!(
            SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            none,
            &raw mut blocked,
            KERNEL_SIGSET_BYTES
        )
    };
    // SAFETY: the caller's mask, which begins with the kernel's 64 bits.
    asked.is_ok() && blocked & !unsafe { mask.cast::<u64>().read_unaligned() } != 0
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

/// What a `poll` waits for: one pair without allocation, several on the heap,
/// never in the frame.
pub(crate) enum WaitSet {
    One(RawFd, Direction),
    Many(Vec<(RawFd, Direction)>),
    /// No entries: just the time.
    Nothing,
    /// Some entry waits for what readiness does not tell apart (urgent data,
    /// errors only), or a mask lets signals in: asked again every few
    /// milliseconds.
    Special,
}

impl WaitSet {
    fn of_entries(entries: &[pollfd]) -> Self {
        let entries = entries.iter().filter(|entry| entry.fd >= 0);
        let special = |entry: &pollfd| {
            entry.events & (READ | WRITE) == 0 || entry.events & libc::POLLPRI != 0
        };
        if entries.clone().any(special) {
            return Self::Special;
        }
        let wanting = |events: c_short| {
            let entries = entries.clone();
            entries
                .filter(move |entry| entry.events & events != 0)
                .map(|entry| entry.fd)
        };
        Self::of(wanting(READ), wanting(WRITE))
    }

    /// Waits for some to be readable, or some to be writable.
    pub(crate) fn of(
        readable: impl Iterator<Item = RawFd>,
        writable: impl Iterator<Item = RawFd>,
    ) -> Self {
        let readable = readable.map(|fd| (fd, Direction::Read));
        let mut all = readable.chain(writable.map(|fd| (fd, Direction::Write)));
        match (all.next(), all.next()) {
            (None, _) => Self::Nothing,
            (Some((fd, dir)), None) => Self::One(fd, dir),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(all).collect())
            }
        }
    }

    /// Parks and asks until there is an answer.
    pub(crate) fn wait(
        &self,
        cx: Cx,
        deadline: Option<Instant>,
        mut ask: impl FnMut() -> Answer,
    ) -> Answer {
        loop {
            let parked = self.park(cx, deadline);
            match (ask(), parked) {
                // Closed meanwhile: `ask` has said so, if it still is.
                (Ok(0), Ok(()) | Err(libc::EBADF)) => cx.spend(),
                (Ok(0), Err(libc::ETIMEDOUT)) => return Ok(0),
                (_, Err(libc::ECANCELED)) => return Err(libc::ECANCELED),
                (Ok(0), Err(code)) => return Err(code),
                (answer, _) => return answer,
            }
        }
    }

    /// Parks until something may have changed.
    fn park(&self, cx: Cx, deadline: Option<Instant>) -> Result<(), Errno> {
        let parked = match self {
            // The kernel has just said that none is ready.
            Self::One(fd, dir) => park_until_ready(cx, *fd, *dir, deadline),
            Self::Many(many) => {
                for (fd, dir) in many {
                    cx.clear_readiness(*fd, *dir);
                }
                cx.wait_any(many, deadline).map_err(code)
            }
            Self::Nothing => {
                sleep_until(cx, deadline.unwrap_or_else(|| after(Duration::MAX)))?;
                return if deadline.is_some() {
                    Err(libc::ETIMEDOUT)
                } else {
                    Ok(())
                };
            }
            Self::Special => return few_millis(cx, deadline),
        };
        match parked {
            // Something that epoll does not take, but that poll waits for.
            Err(libc::EPERM) => few_millis(cx, deadline),
            parked => parked,
        }
    }
}

/// Sleeps until the next look at what no event tells.
pub(crate) fn few_millis(cx: Cx, deadline: Option<Instant>) -> Result<(), Errno> {
    sleep_for(cx, Duration::from_millis(5), deadline)
}
