//! liburing's wait for completions, as a coroutine waits: `__io_uring_get_cqe`, in which
//! its `io_uring_wait_cqe` ends. It is an inline system call that would stop the worker
//! (MariaDB has a thread that is always in it). A ring is a descriptor that is readable
//! when there are completions: so ours asks without waiting, polls, and asks again.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::transmute;
use std::sync::OnceLock;

type GetCqe =
    unsafe extern "C" fn(*mut c_void, *mut *mut c_void, c_uint, c_uint, *mut c_void) -> c_int;

/// Where `struct io_uring` has its descriptor: behind the two rings and the flags, from
/// liburing 2.0 on, whose layout is a promise.
const RING_FD: usize = 196;

/// liburing's own; nothing if there is none behind us.
fn next() -> Option<GetCqe> {
    static NEXT: OnceLock<Option<GetCqe>> = OnceLock::new();
    *NEXT.get_or_init(|| {
        // SAFETY: a valid name; liburing has the function, of this type.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"__io_uring_get_cqe".as_ptr());
            (!found.is_null()).then(|| transmute::<*mut c_void, GetCqe>(found))
        }
    })
}

/// # Safety
///
/// - As for liburing's.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __io_uring_get_cqe(
    ring: *mut c_void,
    cqe: *mut *mut c_void,
    submit: c_uint,
    wait_nr: c_uint,
    mask: *mut c_void,
) -> c_int {
    let Some(next) = next() else {
        return -libc::ENOSYS;
    };
    // SAFETY: the caller's ring.
    let fd = unsafe { ring.cast::<u8>().add(RING_FD).cast::<c_int>().read() };
    if wait_nr != 1 || !mask.is_null() || !is_ring(fd) {
        // SAFETY: the caller's arguments.
        return unsafe { next(ring, cqe, submit, wait_nr, mask) };
    }
    let mut submit = submit;
    loop {
        // SAFETY: the caller's arguments, but that it does not wait.
        match unsafe { next(ring, cqe, submit, 0, mask) } {
            error if error == -libc::EAGAIN => {}
            // SAFETY: the caller's place; without waiting, nothing may be there.
            0 if unsafe { *cqe }.is_null() => {}
            answer => return answer,
        }
        submit = 0;
        let mut ready = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry of ours.
        if unsafe { libc::poll(&mut ready, 1, -1) } < 0 {
            // SAFETY: the thread's own.
            return -unsafe { *libc::__errno_location() };
        }
    }
}

/// Whether the descriptor is what it is taken for.
fn is_ring(fd: c_int) -> bool {
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    name.is_ok_and(|name| name.as_os_str() == "anon_inode:[io_uring]")
}
