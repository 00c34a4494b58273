//! Aliases: glibc's other names of hooked functions, which old programs and some
//! libraries call.
//!
//! Left out of statically linked programs, where libc itself calls them.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{fd_set, pid_t, size_t, sockaddr, socklen_t, ssize_t, timespec, timeval};

use crate::hook::libc::hook;

macro_rules! aliases {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $plain:ident;)*) => {
        $(hook!(
            unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: the caller's arguments.
                unsafe { libc::$plain($($arg),*) }
            }
        );)*
    };
}
#[cfg(feature = "futex")]
pub(crate) use aliases;

aliases! {
    fn __read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t = read;
    fn __write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t = write;
    fn __pread64(fd: c_int, buf: *mut c_void, n: size_t, at: i64) -> ssize_t = pread64;
    fn __pwrite64(fd: c_int, buf: *const c_void, n: size_t, at: i64) -> ssize_t = pwrite64;
    fn __send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t = send;
    fn __connect(fd: c_int, to: *const sockaddr, len: socklen_t) -> c_int = connect;
    fn __open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int = open;
    fn __open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int = open64;
    fn __close(fd: c_int) -> c_int = close;
    fn __dup2(old: c_int, new: c_int) -> c_int = dup2;
    fn __pipe(ends: *mut c_int) -> c_int = pipe;
    fn __fcntl(fd: c_int, what: c_int, arg: usize) -> c_int = fcntl;
    fn __select(n: c_int, r: *mut fd_set, w: *mut fd_set, e: *mut fd_set, limit: *mut timeval)
        -> c_int = select;
    fn __nanosleep(time: *const timespec, left: *mut timespec) -> c_int = nanosleep;
    fn __sched_yield() -> c_int = sched_yield;
    fn __sigsuspend(mask: *const libc::sigset_t) -> c_int = sigsuspend;
    fn __waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t = waitpid;
    fn __wait(status: *mut c_int) -> pid_t = wait;
}
