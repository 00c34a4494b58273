//! Terminals' output: `tcdrain`, `tcsendbreak`, `tcsetattr` and the `ioctl`s behind
//! them wait until what was written has left the device, which nothing tells.
//!
//! Left out of statically linked programs, where libc's own could not be reached
//! any more.

use std::ffi::{c_int, c_ulong};
use std::os::fd::RawFd;

use crate::hook::libc::{hook, next};
use crate::hook::wait::call::{cancellable, in_coroutine, on_waiting_thread};
use crate::sched::CurrentTask;
use crate::sys::fd::table::Meaning;

/// Makes a call on a terminal; `EBADF` if the number has been closed before its thread
/// has begun. (No duplicate holds the file: to close any ends the process's locks on it.)
pub(crate) fn on_device(
    cx: CurrentTask,
    fd: RawFd,
    call: impl FnOnce() -> c_int + Send + 'static,
) -> c_int {
    let meant = Meaning::of(fd);
    cancellable(cx, || {
        on_waiting_thread(cx, false, move || match meant.holds() {
            true => call(),
            false => next::answer(Err(libc::EBADF)) as c_int,
        })
    })
}

/// Whether this `ioctl` waits for the device, and its argument is a number.
pub(crate) fn waits(what: c_ulong) -> bool {
    matches!(what, libc::TCSBRK | libc::TCSBRKP | libc::TIOCMIWAIT)
}

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn tcdrain(fd: c_int) -> c_int {
        // SAFETY: no pointers.
        on_device(cx, fd, move || unsafe { tcdrain::next(fd) })
    }
);

hook!(
    next,
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn tcsendbreak(fd: c_int, time: c_int) -> c_int {
        // SAFETY: no pointers.
        on_device(cx, fd, move || unsafe { tcsendbreak::next(fd, time) })
    }
);

hook!(
    next,
    Some(cx) = in_coroutine().filter(|_| action != libc::TCSANOW && !to.is_null()),
    unsafe extern "C" fn tcsetattr(fd: c_int, action: c_int, to: *const libc::termios) -> c_int {
        // SAFETY: the caller's.
        let to = unsafe { *to };
        // SAFETY: a valid one of our own.
        on_device(cx, fd, move || unsafe {
            tcsetattr::next(fd, action, &raw const to)
        })
    }
);
