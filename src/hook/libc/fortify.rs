//! `_FORTIFY_SOURCE`: the names that C code compiled with it calls instead. The same
//! calls, with the size of the buffer, which is checked first.

use std::ffi::{c_char, c_int, c_void};

use libc::{nfds_t, off_t, pollfd, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::hook::libc::hook;

unsafe extern "C" {
    // glibc's: says "buffer overflow detected" and aborts.
    fn __chk_fail() -> !;
}

pub(crate) fn check(holds: bool) {
    if !holds {
        // SAFETY: no preconditions; does not return.
        unsafe { __chk_fail() }
    }
}

/// Entries in `size` bytes.
fn entries(size: size_t) -> nfds_t {
    (size / size_of::<pollfd>()) as nfds_t
}

/// A call without a mode must not create. (glibc's words differ from
/// [`check`]'s, the end is the same.)
fn creates(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

macro_rules! checked {
    ($(
        fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty
            = $plain:ident($($passed:ident),*) if $holds:expr;
    )*) => {
        $(hook!(
            unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
                check($holds);
                // SAFETY: the caller's arguments.
                unsafe { libc::$plain($($passed),*) }
            }
        );)*
    };
}

checked! {
    fn __read_chk(fd: c_int, buf: *mut c_void, n: size_t, size: size_t) -> ssize_t
        = read(fd, buf, n) if n <= size;
    fn __pread_chk(fd: c_int, buf: *mut c_void, n: size_t, at: off_t, size: size_t) -> ssize_t
        = pread(fd, buf, n, at) if n <= size;
    fn __pread64_chk(fd: c_int, buf: *mut c_void, n: size_t, at: off_t, size: size_t) -> ssize_t
        = pread64(fd, buf, n, at) if n <= size;
    fn __recv_chk(fd: c_int, buf: *mut c_void, n: size_t, size: size_t, flags: c_int) -> ssize_t
        = recv(fd, buf, n, flags) if n <= size;
    fn __recvfrom_chk(fd: c_int, buf: *mut c_void, n: size_t, size: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> ssize_t
        = recvfrom(fd, buf, n, flags, addr, len) if n <= size;
    fn __poll_chk(fds: *mut pollfd, n: nfds_t, timeout: c_int, size: size_t) -> c_int
        = poll(fds, n, timeout) if n <= entries(size);
    fn __ppoll_chk(fds: *mut pollfd, n: nfds_t, limit: *const timespec, mask: *const libc::sigset_t, size: size_t) -> c_int
        = ppoll(fds, n, limit, mask) if n <= entries(size);
    fn __open_2(path: *const c_char, flags: c_int) -> c_int
        = open(path, flags) if !creates(flags);
    fn __open64_2(path: *const c_char, flags: c_int) -> c_int
        = open64(path, flags) if !creates(flags);
    fn __openat_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int
        = openat(dir, path, flags) if !creates(flags);
    fn __openat64_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int
        = openat64(dir, path, flags) if !creates(flags);
}
