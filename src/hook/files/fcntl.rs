//! `fcntl` and `ioctl`, as far as they change what is known of a descriptor: its
//! status flags, its duplicates; and the locks of `fcntl` that wait.
//!
//! C declares them variadic; where the third argument is one register wide, as on
//! our targets, a fixed one receives it.

use std::ffi::{c_int, c_ulong};
use std::os::fd::RawFd;

use crate::hook::fd::lifecycle::duplicated;
use crate::hook::files::locks::{lock_record, without_waiting};
#[cfg(not(target_feature = "crt-static"))]
use crate::hook::files::terminal;
use crate::hook::libc::hook;
use crate::hook::wait::call::in_coroutine;
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::status_flags_changed;
use crate::sys::fd::shared_listener;

hook!(
    next_variadic_or(SYS_fcntl),
    unsafe extern "C-unwind" fn fcntl(fd: c_int, what: c_int, arg: usize) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            match waits(what) {
                None => noted(fd, what, fcntl::next(fd, what, arg)),
                Some(cx) => lock_record(cx, fd, what, std::ptr::with_exposed_provenance(arg)),
            }
        }
    }
);

hook!(
    next_variadic_or(SYS_fcntl),
    /// The name that C programs with 64-bit file offsets use.
    unsafe extern "C-unwind" fn fcntl64(fd: c_int, what: c_int, arg: usize) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            match waits(what) {
                None => noted(fd, what, fcntl64::next(fd, what, arg)),
                Some(cx) => lock_record(cx, fd, what, std::ptr::with_exposed_provenance(arg)),
            }
        }
    }
);

/// The coroutine, if this is a command that waits for a lock.
fn waits(what: c_int) -> Option<CurrentTask> {
    #[cold]
    #[inline(never)]
    fn which() -> Option<CurrentTask> {
        in_coroutine()
    }
    without_waiting(what).and_then(|_| which())
}

fn noted(fd: RawFd, what: c_int, result: c_int) -> c_int {
    match what {
        libc::F_GETFL => shared_listener::mask(fd, result),
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, result),
        libc::F_SETFL => {
            status_flags_changed(fd);
            result
        }
        _ => result,
    }
}

hook!(
    next_variadic_or(SYS_ioctl),
    unsafe extern "C-unwind" fn ioctl(fd: c_int, what: c_ulong, arg: usize) -> c_int {
        // SAFETY: the caller's arguments.
        let call = move || unsafe { ioctl::next(fd, what, arg) };
        #[cfg(not(target_feature = "crt-static"))]
        if let Some(cx) = in_coroutine().filter(|_| terminal::waits(what)) {
            return terminal::on_device(cx, fd, call);
        }
        let result = call();
        if what == libc::FIONBIO {
            status_flags_changed(fd);
        }
        result
    }
);
