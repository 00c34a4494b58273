//! The names that C code compiled with `_FORTIFY_SOURCE` uses: the same calls
//! with the size of the buffer, checked first.

use std::ffi::{c_int, c_void};

use libc::{nfds_t, pollfd, size_t, sockaddr, socklen_t, ssize_t, timespec};

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

#[unsafe(no_mangle)]
unsafe extern "C" fn __read_chk(fd: c_int, buf: *mut c_void, n: size_t, size: size_t) -> ssize_t {
    check(n, size);
    // SAFETY: the caller's buffer.
    unsafe { libc::read(fd, buf, n) }
}

#[unsafe(no_mangle)]
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

#[unsafe(no_mangle)]
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

/// Entries in `size` bytes.
fn entries(size: size_t) -> usize {
    size / size_of::<pollfd>()
}

#[unsafe(no_mangle)]
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

#[unsafe(no_mangle)]
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
