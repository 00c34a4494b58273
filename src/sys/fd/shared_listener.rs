//! Shared listeners: those that several threads accept from.
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
//! fork. When all entries are taken, further listeners stay as they are.
//!
//! What is visible: to another program that inherits such a listener it is
//! non-blocking.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use super::table;
use crate::sys::fcntl::{set_status_flags, status_flags};
use crate::sys::per_fd::PerFd;
use crate::sys::sockopt::{cookie, listens};
use crate::sys::syscall::tid;

const MOST: usize = 256;

/// Cookies of listeners that we made non-blocking; 0 is none.
static SHARED: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// How many entries, from the first on, were ever used: mostly none.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The one thread that accepts from a number, below the generation of the number in
/// which it does.
static ACCEPTORS: PerFd<AtomicU64> = PerFd::new();

/// A thread that accepts, and whether it does so in coroutines. Never 0.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Acceptor(u32);

impl Acceptor {
    fn new(thread: u32, in_coroutine: bool) -> Self {
        Self(thread << 1 | u32::from(in_coroutine))
    }

    fn in_coroutine(self) -> bool {
        self.0 & 1 != 0
    }

    fn is_thread_of(self, other: Self) -> bool {
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
    if others_accept(fd, us) && !is_shared(fd) {
        share(fd);
    }
}

/// True if another thread accepts, too, or may by another number, and a coroutine
/// of either would wait in vain.
fn others_accept(fd: RawFd, us: Acceptor) -> bool {
    let Some((has_duplicate, generation)) = table::sharing(fd) else {
        return false;
    };
    if has_duplicate {
        return us.in_coroutine();
    }
    let Some(entry) = ACCEPTORS.get_or_grow(fd) else {
        return false;
    };
    let now = |acceptor: Acceptor| u64::from(generation) << 32 | u64::from(acceptor.0);
    let known = entry.load(Ordering::Relaxed);
    let other = Acceptor(known as u32);
    if (known >> 32) as u32 == generation && other != Acceptor(0) {
        if !other.is_thread_of(us) {
            return other.in_coroutine() || us.in_coroutine();
        }
        // The same thread, now perhaps in a coroutine.
        entry.store(now(Acceptor(other.0 | us.0)), Ordering::Relaxed);
        return false;
    }
    let taken = entry.compare_exchange(known, now(us), Ordering::Relaxed, Ordering::Relaxed);
    // Another thread was faster: look again.
    taken.is_err() && others_accept(fd, us)
}

#[cold]
fn share(fd: RawFd) {
    let Ok(flags) = status_flags(fd) else { return };
    if flags & libc::O_NONBLOCK != 0 || !listens(fd) {
        return;
    }
    let Some(cookie) = cookie(fd) else { return };
    // Known before it shows.
    let taken = SHARED.iter().position(|entry| {
        let free = entry.compare_exchange(0, cookie, Ordering::AcqRel, Ordering::Relaxed);
        free.is_ok() || free == Err(cookie)
    });
    if let Some(entry) = taken {
        USED.fetch_max(entry + 1, Ordering::AcqRel);
        // The flag is a plain word of the kernel's. Partner: the fence in `is_shared`.
        fence(Ordering::Release);
        let _ = set_status_flags(fd, flags | libc::O_NONBLOCK);
    }
}

/// Whether `fd` is a listener that is non-blocking because of us.
#[inline]
pub(crate) fn is_shared(fd: RawFd) -> bool {
    // The caller has seen the flag, or has not. Partner: the fence in `share`.
    fence(Ordering::Acquire);
    USED.load(Ordering::Acquire) != 0 && find(fd).is_some()
}

/// What `F_GETFL` said, as the user knows it.
#[inline]
pub(crate) fn mask(fd: RawFd, flags: i32) -> i32 {
    if flags >= 0 && flags & libc::O_NONBLOCK != 0 && is_shared(fd) {
        flags & !libc::O_NONBLOCK
    } else {
        flags
    }
}

/// The user has set the flags: what they are now is what is wanted.
#[inline]
pub(super) fn forget(fd: RawFd) {
    if USED.load(Ordering::Acquire) != 0 {
        let entry = find(fd).into_iter();
        entry.for_each(|entry| entry.store(0, Ordering::Release));
    }
}

#[cold]
fn find(fd: RawFd) -> Option<&'static AtomicU64> {
    let cookie = cookie(fd)?;
    SHARED[..USED.load(Ordering::Acquire)]
        .iter()
        .find(|entry| entry.load(Ordering::Relaxed) == cookie)
}
