//! File locks: `flock`, `lockf`, `fcntl(F_SETLKW)`. Tried without waiting, again up
//! to every 10 ms.
//!
//! No helper thread waits in the coroutine's place: the waiters would take all
//! helpers, and the holders of the locks may need one to get on. The price: the
//! kernel does not see who waits for whom, so no call fails with `EDEADLK`.

use std::ffi::c_int;
use std::os::fd::RawFd;

use libc::off_t;

use crate::hook::libc::{hook, next};
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, in_coroutine, uncancellable};
use crate::sched::CurrentTask;
use crate::sys::fd::table::Meaning;
use crate::sys::stat::identity;
use crate::sys::syscall::{Answer, sys};

hook!(
    next_or(SYS_flock),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn flock(fd: c_int, operation: c_int) -> c_int {
        // SAFETY: no pointers.
        let lock = |fd: RawFd| unsafe { sys!(SYS_flock, fd, operation | libc::LOCK_NB) };
        if operation & (libc::LOCK_NB | libc::LOCK_UN) != 0 {
            cx.spend();
            return uncancellable(|| lock(fd));
        }
        cancellable(cx, || match lock(fd) {
            Err(libc::EWOULDBLOCK) => until_locked(cx, fd, || lock(fd)),
            answer => answer,
        })
    }
);

/// `lockf` without libc: `fcntl` on the range from the file's position on.
fn lockf_without_libc(fd: c_int, command: c_int, len: off_t) -> c_int {
    let (command, kind) = match command {
        libc::F_ULOCK => (libc::F_SETLK, libc::F_UNLCK),
        libc::F_LOCK => (libc::F_SETLKW, libc::F_WRLCK),
        libc::F_TLOCK => (libc::F_SETLK, libc::F_WRLCK),
        libc::F_TEST => (libc::F_GETLK, libc::F_WRLCK),
        _ => return next::answer(Err(libc::EINVAL)) as c_int,
    };
    let mut range = from_here(kind, len);
    // SAFETY: a valid range.
    let answer = unsafe { sys!(SYS_fcntl, fd, command, &raw mut range) };
    // SAFETY: no preconditions.
    let us = unsafe { libc::getpid() };
    let free = range.l_type == libc::F_UNLCK as i16 || range.l_pid == us;
    next::answer(match answer {
        Ok(_) if command == libc::F_GETLK && !free => Err(libc::EACCES),
        answer => answer,
    }) as c_int
}

/// A range from the file's position on.
fn from_here(kind: c_int, len: off_t) -> libc::flock {
    // SAFETY: zeros are a valid one.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as i16;
    range.l_whence = libc::SEEK_CUR as i16;
    range.l_len = len;
    range
}

hook!(
    next_or(lockf_without_libc(fd, command, len)),
    Some(cx) = in_coroutine().filter(|_| command == libc::F_LOCK),
    unsafe extern "C-unwind" fn lockf(fd: c_int, command: c_int, len: off_t) -> c_int {
        let range = from_here(libc::F_WRLCK, len);
        // SAFETY: a valid range.
        unsafe { lock_record(cx, fd, libc::F_SETLKW, &range) }
    }
);

hook!(
    /// The same function where `off_t` has 64 bits.
    unsafe extern "C-unwind" fn lockf64(fd: c_int, command: c_int, len: off_t) -> c_int {
        // SAFETY: forwarded.
        unsafe { lockf(fd, command, len) }
    }
);

/// The command of `fcntl` that does not wait where `command` does.
pub(crate) fn without_waiting(command: c_int) -> Option<c_int> {
    match command {
        libc::F_SETLKW => Some(libc::F_SETLK),
        libc::F_OFD_SETLKW => Some(libc::F_OFD_SETLK),
        _ => None,
    }
}

/// `fcntl` with a command that waits.
///
/// # Safety
///
/// - As for that `fcntl`.
pub(crate) unsafe fn lock_record(
    cx: CurrentTask,
    fd: RawFd,
    command: c_int,
    range: *const libc::flock,
) -> c_int {
    let command = without_waiting(command).unwrap_or(command);
    // SAFETY: the caller's range; the kernel only reads it.
    let lock = || unsafe { sys!(SYS_fcntl, fd, command, range) };
    cancellable(cx, || match lock() {
        Err(libc::EAGAIN | libc::EACCES) => until_locked(cx, fd, lock),
        answer => answer,
    })
}

/// Tries to lock until nobody else has the file locked.
///
/// No duplicate keeps the file: to close any number of it would end the process's
/// record locks on it. So it is `EBADF` once the number is closed, and the file behind it
/// is looked at where no hook saw that.
fn until_locked(cx: CurrentTask, fd: RawFd, lock: impl Fn() -> Answer) -> Answer {
    let (meaning, file) = (Meaning::of(fd), identity(fd)?);
    Backoff::new().until(cx, || {
        if !meaning.holds() || identity(fd)? != file {
            return Err(libc::EBADF);
        }
        match lock() {
            Err(libc::EAGAIN | libc::EACCES) => Ok(None),
            answer => answer.map(Some),
        }
    })
}
