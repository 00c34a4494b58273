//! The life of a descriptor number: calls that begin it, end it, or give it
//! another meaning, and calls that change the flags of what it names.
//!
//! Before a number ends, its waiters are woken with `EBADF` and its
//! registration is dropped; when one begins, nothing is known of it. A forked
//! child does neither: what is registered belongs to its parent.

use std::ffi::{c_int, c_uint, c_ulong};
use std::os::fd::RawFd;

use crate::hook::fd::cache;
use crate::hook::fd::shared_listener;
use crate::hook::files::locks;
use crate::hook::libc::{bound, next};
use crate::hook::wait::call::in_coroutine;
use crate::sched::{self, Cx};
use crate::sys::syscall::{errno, set_errno, sys};

/// Passes a fresh descriptor (or an error) through.
pub(crate) fn began(fd: RawFd) -> RawFd {
    // What is still known of the number is of one that was closed unseen.
    if fd >= 0 && cache::forget(fd) {
        gone(fd);
    }
    fd
}

/// The number is about to end.
fn ends(fd: RawFd) {
    if fd >= 0 {
        cache::forget(fd);
        gone(fd);
    }
}

/// Telling the reactors may fail, which is nobody's business: many read errno
/// after a `close` that went well.
fn gone(fd: RawFd) {
    let saved = errno();
    sched::fd_gone(fd);
    set_errno(saved);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if fd == bound::PROBE_FD {
        bound::CLOSE.arrived();
    }
    ends(fd);
    // SAFETY: no pointers.
    unsafe { next::close(fd) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    const UNSHARE: c_int = 1 << 1;
    // Other flags close nothing, or are refused.
    if flags & !UNSHARE == 0 && first <= last {
        range_ends(first, last);
    }
    // SAFETY: no pointers.
    unsafe { next::close_range(first, last, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn closefrom(first: c_int) {
    let first = first.max(0);
    range_ends(first as c_uint, c_uint::MAX);
    // SAFETY: no pointers.
    unsafe { next::closefrom(first) }
}

fn range_ends(first: c_uint, last: c_uint) {
    let saved = errno();
    cache::for_each_used(first, last, |fd| {
        cache::forget(fd);
    });
    sched::fds_gone(first, last);
    set_errno(saved);
}

/// Replaces `new` by a duplicate of `old`, if there is an `old`.
fn replaced(old: RawFd, new: RawFd, flags: c_int, replace: impl FnOnce() -> c_int) -> c_int {
    let valid = old != new && flags & !libc::O_CLOEXEC == 0;
    // SAFETY: F_GETFD takes no pointer.
    let valid = valid && unsafe { sys!(SYS_fcntl, old, libc::F_GETFD) }.is_ok();
    if valid {
        ends(new);
    }
    let result = replace();
    if valid && result >= 0 {
        cache::duplicated(old, new);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    // SAFETY: no pointers.
    replaced(old, new, 0, || unsafe { next::dup2(old, new) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: no pointers.
    replaced(old, new, flags, || unsafe { next::dup3(old, new, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup(old: c_int) -> c_int {
    // SAFETY: no pointers.
    let new = began(unsafe { next::dup(old) });
    if new >= 0 {
        cache::duplicated(old, new);
    }
    new
}

/// The child of a `vfork` borrows the parent's memory: its `close` would end
/// the parent's registrations. A `fork` is recognised.
#[unsafe(no_mangle)]
unsafe extern "C" fn vfork() -> libc::pid_t {
    // SAFETY: as the caller's vfork, with fewer limits.
    unsafe { libc::fork() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: no pointers.
    began(unsafe { next::socket(family, kind, protocol) })
}

/// Both descriptors that a call put at `pair` begin.
///
/// # Safety
///
/// - If `result` is 0, `pair` points at two descriptors.
unsafe fn began_both(result: c_int, pair: *const c_int) -> c_int {
    if result == 0 {
        // SAFETY: the caller's promise.
        let [a, b] = unsafe { [pair.read(), pair.add(1).read()] };
        began(a);
        began(b);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn socketpair(
    family: c_int,
    kind: c_int,
    protocol: c_int,
    pair: *mut c_int,
) -> c_int {
    // SAFETY: the caller's place for two descriptors.
    unsafe { began_both(next::socketpair(family, kind, protocol, pair), pair) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pipe(ends: *mut c_int) -> c_int {
    // SAFETY: the caller's place for two descriptors.
    unsafe { began_both(next::pipe(ends), ends) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pipe2(ends: *mut c_int, flags: c_int) -> c_int {
    // SAFETY: the caller's place for two descriptors.
    unsafe { began_both(next::pipe2(ends, flags), ends) }
}

/// C declares it variadic; where the third argument is one register wide, as
/// on our targets, a fixed one receives it.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, what: c_int, arg: usize) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        match locks(what) {
            None => noted(fd, what, next::fcntl(fd, what, arg)),
            Some(cx) => locks::lock_record(cx, fd, what, std::ptr::with_exposed_provenance(arg)),
        }
    }
}

/// The name that C programs with 64-bit file offsets use.
#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, what: c_int, arg: usize) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        match locks(what) {
            None => noted(fd, what, next::fcntl64(fd, what, arg)),
            Some(cx) => locks::lock_record(cx, fd, what, std::ptr::with_exposed_provenance(arg)),
        }
    }
}

/// The coroutine, if this is a command that waits for a lock.
fn locks(what: c_int) -> Option<Cx> {
    locks::without_waiting(what).and_then(|_| in_coroutine())
}

fn noted(fd: RawFd, what: c_int, result: c_int) -> c_int {
    match what {
        libc::F_GETFL => return shared_listener::mask(fd, result),
        libc::F_SETFL => {
            shared_listener::forget(fd);
            cache::changed(fd);
        }
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC if result >= 0 => {
            began(result);
            cache::duplicated(fd, result);
        }
        _ => {}
    }
    result
}

/// Variadic in C, as [`fcntl`].
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, what: c_ulong, arg: usize) -> c_int {
    // SAFETY: the caller's arguments.
    let result = unsafe { next::ioctl(fd, what, arg) };
    if what == libc::FIONBIO {
        shared_listener::forget(fd);
        cache::changed(fd);
    }
    result
}
