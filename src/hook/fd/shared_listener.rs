//! Listeners that several threads accept from.
//!
//! `accept` has no non-blocking form, so a coroutine asks `poll` first; but
//! another thread may take the connection in between, and then the worker would
//! wait in the kernel. So a listener that two threads were seen to accept from
//! (or that has a known duplicate) is made non-blocking, once, and this module
//! remembers that it was us: `fcntl(F_GETFL)` does not show the flag, and a
//! plain thread's `accept` waits with `poll`.
//!
//! A socket is known by its cookie, which no other socket ever has. The table
//! is a fixed array of atomics: it may be read anywhere, and in the child of a
//! fork. When all places are taken, further listeners stay as they are.
//!
//! What is visible: to another program that inherits such a listener it is
//! non-blocking.

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::hook::fd::cache;
use crate::sys::sockopt::{cookie, listens};
use crate::sys::syscall::{errno, set_errno, sys, tid};

const PLACES: usize = 256;

/// Cookies of listeners that we made non-blocking; 0 is none.
static OURS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
/// How many places, from the first on, were ever used: mostly none.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A thread that accepts, and whether it does so in coroutines. Never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acceptor(pub(crate) u32);

impl Acceptor {
    fn new(thread: u32, in_coroutine: bool) -> Self {
        Self(thread << 1 | u32::from(in_coroutine))
    }

    pub(crate) fn in_coroutine(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn is_thread_of(self, other: Self) -> bool {
        self.0 >> 1 == other.0 >> 1
    }
}

/// The kernel's number of this thread, asked for once.
fn thread() -> u32 {
    thread_local! {
        static OWN: Cell<u32> = const { Cell::new(0) };
    }
    OWN.with(|own| {
        if own.get() == 0 {
            own.set(tid());
        }
        own.get()
    })
}

/// This thread is about to accept from `fd`, in a coroutine or not. If others
/// do, too, and any of them in a coroutine, the listener is made non-blocking.
#[inline]
pub(crate) fn about_to_accept(fd: RawFd, in_coroutine: bool) {
    let us = Acceptor::new(thread(), in_coroutine);
    if cache::endangered(fd, us) && !is_ours(fd) {
        make_ours(fd);
    }
}

#[cold]
fn make_ours(fd: RawFd) {
    // SAFETY: F_GETFL takes no pointer.
    let Ok(flags) = (unsafe { sys!(SYS_fcntl, fd, libc::F_GETFL) }) else {
        return;
    };
    if flags & libc::O_NONBLOCK as usize != 0 || !listens(fd) {
        return;
    }
    let Some(cookie) = cookie(fd) else { return };
    // Known before it shows.
    let taken = OURS.iter().position(|place| {
        let free = place.compare_exchange(0, cookie, Ordering::AcqRel, Ordering::Relaxed);
        free.is_ok() || free == Err(cookie)
    });
    if let Some(place) = taken {
        USED.fetch_max(place + 1, Ordering::AcqRel);
        let nonblocking = flags | libc::O_NONBLOCK as usize;
        // SAFETY: F_SETFL takes no pointer.
        let _ = unsafe { sys!(SYS_fcntl, fd, libc::F_SETFL, nonblocking) };
    }
}

/// Whether `fd` is a listener that is non-blocking because of us.
#[inline]
pub(crate) fn is_ours(fd: RawFd) -> bool {
    USED.load(Ordering::Acquire) != 0 && find(fd).is_some()
}

/// What `F_GETFL` said, as the user knows it.
#[inline]
pub(crate) fn mask(fd: RawFd, flags: c_int) -> c_int {
    if flags >= 0 && flags & libc::O_NONBLOCK != 0 && is_ours(fd) {
        flags & !libc::O_NONBLOCK
    } else {
        flags
    }
}

/// The user has set the flags himself: what they are now is what he wants.
#[inline]
pub(crate) fn forget(fd: RawFd) {
    if USED.load(Ordering::Acquire) != 0 {
        find(fd)
            .into_iter()
            .for_each(|place| place.store(0, Ordering::Release));
    }
}

#[cold]
fn find(fd: RawFd) -> Option<&'static AtomicU64> {
    let saved = errno();
    let cookie = cookie(fd);
    set_errno(saved);
    let cookie = cookie?;
    OURS[..USED.load(Ordering::Acquire)]
        .iter()
        .find(|place| place.load(Ordering::Relaxed) == cookie)
}
