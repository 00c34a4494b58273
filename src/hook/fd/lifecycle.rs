//! Descriptor lifecycle: the calls that begin a number, end it, or give it another
//! meaning.
//!
//! Before a number ends, its waiters are woken with `EBADF` and its registration is
//! dropped; when one begins, nothing is known of it (`sys/fd/table.rs`). A forked
//! child wakes nobody: what is registered belongs to its parent. The runtime's own
//! numbers are unused to programs, and stay open (`sys/fd/own.rs`).

use std::ffi::{c_int, c_uint};
use std::os::fd::RawFd;

use crate::hook::fd::lingering::Lingering;
use crate::hook::libc::{bound, hook, next};
use crate::sched;
use crate::sys::fd::own;
#[cfg(not(target_feature = "crt-static"))]
use crate::sys::fork;
use crate::sys::syscall::{set_errno, sys};

/// Passes a fresh descriptor (or an error) through.
pub(crate) fn opened(fd: RawFd) -> RawFd {
    sched::renew_fd(fd);
    fd
}

/// Passes a fresh duplicate of `old` (or an error) through.
pub(crate) fn duplicated(old: RawFd, new: RawFd) -> RawFd {
    if new >= 0 {
        sched::renew_duplicate(old, new);
    }
    new
}

hook!(
    next_or(SYS_close),
    unsafe extern "C" fn close(fd: c_int) -> c_int {
        if bound::closes_are_watched() {
            return watched_close(fd);
        }
        if own::is_own(fd) {
            return unused();
        }
        sched::renew_fd(fd);
        // SAFETY: no pointers.
        unsafe { close::next(fd) }
    }
);

/// What is said of the runtime's own numbers: to the program they are unused.
#[cold]
fn unused() -> c_int {
    set_errno(libc::EBADF);
    -1
}

/// A function of its own: what it does afterwards would be paid for by each `close`.
#[cold]
#[inline(never)]
fn watched_close(fd: RawFd) -> c_int {
    if fd == bound::PROBE_FD {
        bound::CLOSE.arrived();
    }
    if own::is_own(fd) {
        return unused();
    }
    let lingering = Lingering::of(fd);
    sched::renew_fd(fd);
    // SAFETY: no pointers.
    let result = unsafe { close::next(fd) };
    lingering.into_iter().for_each(Lingering::close);
    result
}

hook!(
    next_or(SYS_close_range),
    unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        const UNSHARE: c_int = 1 << 1;
        // Other flags close nothing, or are refused.
        if flags & !UNSHARE != 0 || first > last {
            // SAFETY: no pointers.
            return unsafe { close_range::next(first, last, flags) };
        }
        let closed = own::between(first, last, |first, last| {
            sched::renew_fds(first, last);
            // SAFETY: no pointers.
            match unsafe { close_range::next(first, last, flags) } {
                0 => Ok(()),
                _ => Err(()),
            }
        });
        if closed.is_ok() { 0 } else { -1 }
    }
);

hook!(
    next_or({
        let _ = sys!(SYS_close_range, first, c_uint::MAX, 0);
    }),
    unsafe extern "C" fn closefrom(first: c_int) {
        let first = first.max(0) as c_uint;
        let closed = own::between(first, c_uint::MAX, |first, last| {
            sched::renew_fds(first, last);
            // SAFETY: no pointers.
            unsafe { sys!(SYS_close_range, first, last, 0) }.map(drop)
        });
        // An old kernel: libc does it otherwise, and closes all.
        if closed.is_err() {
            // SAFETY: no pointers.
            unsafe { closefrom::next(first as c_int) }
        }
    }
);

/// Replaces `new` by a duplicate of `old`, if there is an `old`.
fn replaced(old: RawFd, new: RawFd, flags: c_int, replace: impl FnOnce() -> c_int) -> c_int {
    let valid = old != new && flags & !libc::O_CLOEXEC == 0;
    // SAFETY: F_GETFD takes no pointer.
    if !valid || unsafe { sys!(SYS_fcntl, old, libc::F_GETFD) }.is_err() {
        return replace();
    }
    if own::is_own(new) {
        set_errno(libc::EBUSY);
        return -1;
    }
    let lingering = Lingering::of(new);
    sched::renew_fd(new);
    let result = duplicated(old, replace());
    lingering.into_iter().for_each(Lingering::close);
    result
}

/// `dup2` without libc.
fn dup2_without_libc(old: c_int, new: c_int) -> c_int {
    // SAFETY: no pointers, in both.
    let answer = unsafe {
        match old == new {
            true => sys!(SYS_fcntl, old, libc::F_GETFD).map(|_| old as usize),
            false => sys!(SYS_dup3, old, new, 0),
        }
    };
    next::answer(answer) as c_int
}

hook!(
    next_or(dup2_without_libc(old, new)),
    unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
        // SAFETY: no pointers.
        replaced(old, new, 0, || unsafe { dup2::next(old, new) })
    }
);

hook!(
    next_or(SYS_dup3),
    unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
        // SAFETY: no pointers.
        replaced(old, new, flags, || unsafe { dup3::next(old, new, flags) })
    }
);

hook!(
    next_or(SYS_dup),
    unsafe extern "C" fn dup(old: c_int) -> c_int {
        // SAFETY: no pointers.
        duplicated(old, unsafe { dup::next(old) })
    }
);

hook!(
    /// The child of a `vfork` borrows the parent's memory: its `close` would end
    /// the parent's registrations. A `fork` is recognised.
    unsafe extern "C" fn vfork() -> libc::pid_t {
        // SAFETY: as the caller's vfork, with fewer limits.
        unsafe { libc::fork() }
    }
);

hook!(
    /// glibc's other name for `vfork`.
    unsafe extern "C" fn __vfork() -> libc::pid_t {
        // SAFETY: as above.
        unsafe { libc::fork() }
    }
);

#[cfg(not(target_feature = "crt-static"))]
hook!(
    // SAFETY: as the caller's.
    next_or(unsafe { libc::fork() }),
    /// What signal handlers fork by: libc tells nobody of it.
    unsafe extern "C" fn _Fork() -> libc::pid_t {
        // SAFETY: no arguments.
        fork::around(|| unsafe { _Fork::next() })
    }
);

hook!(
    next_or(SYS_socket),
    unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
        // SAFETY: no pointers.
        opened(unsafe { socket::next(family, kind, protocol) })
    }
);

/// Both descriptors that a call put at `pair` begin.
///
/// # Safety
///
/// - If `result` is 0, `pair` points at two descriptors.
unsafe fn both_opened(result: c_int, pair: *const c_int) -> c_int {
    if result == 0 {
        // SAFETY: the caller's promise.
        for fd in unsafe { [pair.read(), pair.add(1).read()] } {
            opened(fd);
        }
    }
    result
}

hook!(
    next_or(SYS_socketpair),
    unsafe extern "C" fn socketpair(
        family: c_int,
        kind: c_int,
        protocol: c_int,
        pair: *mut c_int,
    ) -> c_int {
        // SAFETY: the caller's place for two descriptors.
        unsafe { both_opened(socketpair::next(family, kind, protocol, pair), pair) }
    }
);

hook!(
    next_or(sys!(SYS_pipe2, ends, 0)),
    unsafe extern "C" fn pipe(ends: *mut c_int) -> c_int {
        // SAFETY: the caller's place for two descriptors.
        unsafe { both_opened(pipe::next(ends), ends) }
    }
);

hook!(
    next_or(SYS_pipe2),
    unsafe extern "C" fn pipe2(ends: *mut c_int, flags: c_int) -> c_int {
        // SAFETY: the caller's place for two descriptors.
        unsafe { both_opened(pipe2::next(ends, flags), ends) }
    }
);
