//! `_FORTIFY_SOURCE`: the names that C code compiled with it calls instead. The same
//! calls, with the size of the buffer, which is checked first.

use std::ffi::{c_char, c_int, c_void};

use libc::{nfds_t, off_t, pollfd, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::hook::libc::hook;

unsafe extern "C" {
    // glibc's: says "buffer overflow detected" and aborts.
    fn __chk_fail() -> !;
}

fn check(needed: usize, size: usize) {
    if needed > size {
        // SAFETY: no preconditions; does not return.
        unsafe { __chk_fail() }
    }
}

hook!(
    unsafe extern "C" fn __read_chk(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        size: size_t,
    ) -> ssize_t {
        check(n, size);
        // SAFETY: the caller's buffer.
        unsafe { libc::read(fd, buf, n) }
    }
);

hook!(
    unsafe extern "C" fn __recv_chk(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        size: size_t,
        flags: c_int,
    ) -> ssize_t {
        check(n, size);
        // SAFETY: the caller's buffer.
        unsafe { libc::recv(fd, buf, n, flags) }
    }
);

hook!(
    unsafe extern "C" fn __recvfrom_chk(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        size: size_t,
        flags: c_int,
        addr: *mut sockaddr,
        len: *mut socklen_t,
    ) -> ssize_t {
        check(n, size);
        // SAFETY: the caller's buffer and address.
        unsafe { libc::recvfrom(fd, buf, n, flags, addr, len) }
    }
);

/// Entries in `size` bytes.
fn entries(size: size_t) -> usize {
    size / size_of::<pollfd>()
}

hook!(
    unsafe extern "C" fn __poll_chk(
        fds: *mut pollfd,
        n: nfds_t,
        timeout: c_int,
        size: size_t,
    ) -> c_int {
        check(n as usize, entries(size));
        // SAFETY: the caller's entries.
        unsafe { libc::poll(fds, n, timeout) }
    }
);

hook!(
    unsafe extern "C" fn __ppoll_chk(
        fds: *mut pollfd,
        n: nfds_t,
        limit: *const timespec,
        mask: *const libc::sigset_t,
        size: size_t,
    ) -> c_int {
        check(n as usize, entries(size));
        // SAFETY: the caller's entries, time and mask.
        unsafe { libc::ppoll(fds, n, limit, mask) }
    }
);

hook!(
    unsafe extern "C" fn __pread_chk(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        at: off_t,
        size: size_t,
    ) -> ssize_t {
        check(n, size);
        // SAFETY: the caller's buffer.
        unsafe { libc::pread(fd, buf, n, at) }
    }
);

hook!(
    unsafe extern "C" fn __pread64_chk(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        at: off_t,
        size: size_t,
    ) -> ssize_t {
        // SAFETY: forwarded: the same where `off_t` has 64 bits.
        unsafe { __pread_chk(fd, buf, n, at, size) }
    }
);

/// A call without a mode must not create. (glibc's words differ from
/// [`check`]'s, the end is the same.)
fn check_flags(flags: c_int) {
    let makes_one = flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    check(makes_one.into(), 0);
}

hook!(
    unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
        check_flags(flags);
        // SAFETY: the caller's path.
        unsafe { libc::open(path, flags) }
    }
);

hook!(
    unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
        check_flags(flags);
        // SAFETY: the caller's path.
        unsafe { libc::open64(path, flags) }
    }
);

hook!(
    unsafe extern "C" fn __openat_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
        check_flags(flags);
        // SAFETY: the caller's path.
        unsafe { libc::openat(dir, path, flags) }
    }
);

hook!(
    unsafe extern "C" fn __openat64_2(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
        check_flags(flags);
        // SAFETY: the caller's path.
        unsafe { libc::openat64(dir, path, flags) }
    }
);
