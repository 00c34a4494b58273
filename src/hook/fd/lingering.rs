//! Lingering closes: a socket with `SO_LINGER` is closed when its bytes have arrived, or
//! the time is over. The kernel's `close` waits for that, and there is nothing to ask
//! instead: only it knows whether the number is the file's last.
//!
//! So a number of our own holds the socket while the user's is closed, which is free at
//! once, as it is to the kernel; a thread closes ours, and the coroutine waits for it.
//!
//! Not seen: a time that was set without libc, or by another process. `close_range` and
//! `closefrom` wait where they are called.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::helpers::{self, Pool};
use crate::hook::libc::bound;
use crate::sched::{self, CurrentTask};
use crate::sys::sockopt;
use crate::sys::syscall::{errno, set_errno, sys};
use crate::util::no_park::NoPark;

/// A socket of this process lingers: before, none is asked.
static ANY: AtomicBool = AtomicBool::new(false);

/// The linger time of a socket was set.
pub(crate) fn was_set(fd: RawFd) {
    if sockopt::lingers(fd) && !ANY.load(Ordering::Acquire) {
        // First, so that it holds for whoever finds the word set; twice does no harm.
        bound::watch_closes();
        ANY.store(true, Ordering::Release);
    }
}

/// Holds a socket whose close would wait.
pub(super) struct Lingering {
    cx: CurrentTask,
    socket: OwnedFd,
}

impl Lingering {
    /// `None` where a close waits for nobody, or may wait here.
    #[inline(always)]
    pub(super) fn of(fd: RawFd) -> Option<Self> {
        ANY.load(Ordering::Relaxed).then(|| Self::hold(fd))?
    }

    #[cold]
    fn hold(fd: RawFd) -> Option<Self> {
        let cx = CurrentTask::current()?;
        if NoPark::is_active() || !cx.on_own_stack() || !sockopt::lingers(fd) {
            return None;
        }
        // SAFETY: no pointers.
        let ours = unsafe { sys!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 0) }.ok()? as RawFd;
        sched::renew_fd(ours);
        // SAFETY: made just now.
        let socket = unsafe { OwnedFd::from_raw_fd(ours) };
        Some(Self { cx, socket })
    }

    /// Closes it on a thread, for which a coroutine waits that may: not while it
    /// unwinds, and not once it is cancelled.
    #[cold]
    pub(super) fn close(self) {
        let saved = errno();
        let Self { cx, socket } = self;
        let close = move || drop(socket);
        if CurrentTask::parkable().is_some() {
            let _ = helpers::run_that_waits(cx, close, false);
        } else {
            drop(helpers::start(close, Pool::Waits));
        }
        set_errno(saved);
    }
}
