//! Descriptor lifecycle: the calls that begin a number, end it, or give it another
//! meaning.
//!
//! Before a number ends, its waiters are woken with `EBADF` and its registration is
//! dropped; when one begins, nothing is known of it (`sys/fd/table.rs`). A forked
//! child wakes nobody: what is registered belongs to its parent.

use std::ffi::{c_int, c_uint};
use std::os::fd::RawFd;

use crate::hook::libc::{bound, hook, next};
use crate::sched;
use crate::sys::syscall::sys;

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
        if fd == bound::PROBE_FD {
            bound::CLOSE.arrived();
        }
        sched::renew_fd(fd);
        // SAFETY: no pointers.
        unsafe { close::next(fd) }
    }
);

hook!(
    next_or(SYS_close_range),
    unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        const UNSHARE: c_int = 1 << 1;
        // Other flags close nothing, or are refused.
        if flags & !UNSHARE == 0 {
            sched::renew_fds(first, last);
        }
        // SAFETY: no pointers.
        unsafe { close_range::next(first, last, flags) }
    }
);

hook!(
    next_or({
        let _ = sys!(SYS_close_range, first, c_uint::MAX, 0);
    }),
    unsafe extern "C" fn closefrom(first: c_int) {
        let first = first.max(0);
        sched::renew_fds(first as c_uint, c_uint::MAX);
        // SAFETY: no pointers.
        unsafe { closefrom::next(first) }
    }
);

/// Replaces `new` by a duplicate of `old`, if there is an `old`.
fn replaced(old: RawFd, new: RawFd, flags: c_int, replace: impl FnOnce() -> c_int) -> c_int {
    let valid = old != new && flags & !libc::O_CLOEXEC == 0;
    // SAFETY: F_GETFD takes no pointer.
    if !valid || unsafe { sys!(SYS_fcntl, old, libc::F_GETFD) }.is_err() {
        return replace();
    }
    sched::renew_fd(new);
    duplicated(old, replace())
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
