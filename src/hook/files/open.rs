//! Opening files: `open`, `openat`, `creat`. Only a FIFO makes them wait, for its
//! other end.
//!
//! Where a FIFO is opened for writing, the kernel says `ENXIO` to a call that
//! does not wait, until there is a reader. Opened for reading, it is given out
//! at once; whether a writer has come is then told by a read without a place for
//! the bytes, and by `poll` (a writer that has gone again).

use std::ffi::{c_char, c_int, c_uint};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::hook::fd::lifecycle;
use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{cancellable, in_coroutine};
use crate::sched::CurrentTask;
use crate::sys::fcntl::{set_status_flags, status_flags};
use crate::sys::ready::poll_now;
use crate::sys::syscall::{Answer, Errno, sys};

hook!(
    next_variadic_or(sys!(SYS_openat, libc::AT_FDCWD, path, flags, mode)),
    unsafe extern "C-unwind" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        // SAFETY: the caller's path.
        unsafe {
            match waits(libc::AT_FDCWD, path, flags) {
                None => lifecycle::opened(open::next(path, flags, mode)),
                Some(cx) => open_fifo(cx, libc::AT_FDCWD, path, flags, mode),
            }
        }
    }
);

hook!(
    next_variadic_or(SYS_openat),
    unsafe extern "C-unwind" fn openat(
        dir: c_int,
        path: *const c_char,
        flags: c_int,
        mode: c_uint,
    ) -> c_int {
        // SAFETY: the caller's path.
        unsafe {
            match waits(dir, path, flags) {
                None => lifecycle::opened(openat::next(dir, path, flags, mode)),
                Some(cx) => open_fifo(cx, dir, path, flags, mode),
            }
        }
    }
);

hook!(
    /// The name where `off_t` has 64 bits.
    unsafe extern "C-unwind" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
        // SAFETY: forwarded; all that it adds is a flag of no meaning here.
        unsafe { open(path, flags | libc::O_LARGEFILE, mode) }
    }
);

hook!(
    unsafe extern "C-unwind" fn openat64(
        dir: c_int,
        path: *const c_char,
        flags: c_int,
        mode: c_uint,
    ) -> c_int {
        // SAFETY: as in `open64`.
        unsafe { openat(dir, path, flags | libc::O_LARGEFILE, mode) }
    }
);

hook!(
    unsafe extern "C-unwind" fn creat(path: *const c_char, mode: c_uint) -> c_int {
        const CREATE: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
        // SAFETY: forwarded.
        unsafe { open(path, CREATE, mode) }
    }
);

hook!(
    unsafe extern "C-unwind" fn creat64(path: *const c_char, mode: c_uint) -> c_int {
        // SAFETY: forwarded.
        unsafe { creat(path, mode) }
    }
);

/// The coroutine, if this is a FIFO and the call would wait for its other end.
///
/// # Safety
///
/// - `path` is null or a path.
#[inline]
unsafe fn waits(dir: RawFd, path: *const c_char, flags: c_int) -> Option<CurrentTask> {
    let cx = in_coroutine()?;
    const NEVER: c_int = libc::O_NONBLOCK | libc::O_PATH | libc::O_DIRECTORY | libc::O_EXCL;
    let read_write = flags & libc::O_ACCMODE == libc::O_RDWR;
    // SAFETY: forwarded.
    (flags & NEVER == 0 && !read_write && unsafe { is_fifo(dir, path, flags) }).then_some(cx)
}

/// # Safety
///
/// - As for [`waits`].
unsafe fn is_fifo(dir: RawFd, path: *const c_char, flags: c_int) -> bool {
    let follow = if flags & libc::O_NOFOLLOW != 0 {
        libc::AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the caller's path, a place for the answer; zeros are valid.
    unsafe {
        sys!(SYS_newfstatat, dir, path, stat.as_mut_ptr(), follow).is_ok()
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFIFO
    }
}

/// # Safety
///
/// - As for `openat`.
unsafe fn open_fifo(
    cx: CurrentTask,
    dir: RawFd,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) -> c_int {
    cancellable(cx, || {
        let mut backoff = Backoff::new();
        let fifo = backoff.until(cx, || {
            // SAFETY: the caller's path.
            match unsafe { sys!(SYS_openat, dir, path, flags | libc::O_NONBLOCK, mode) } {
                // SAFETY: the caller's path. What is no FIFO any more says it
                // for another reason.
                Err(libc::ENXIO) if unsafe { is_fifo(dir, path, flags) } => Ok(None),
                Err(code) => Err(code),
                // SAFETY: made just now.
                Ok(fd) => Ok(Some(unsafe {
                    OwnedFd::from_raw_fd(lifecycle::opened(fd as RawFd))
                })),
            }
        })?;
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            backoff.until(cx, || Ok(has_writer(fifo.as_raw_fd())?.then_some(())))?;
        }
        blocking_again(fifo)
    })
}

/// Whether a writer is there, or was.
fn has_writer(fifo: RawFd) -> Result<bool, Errno> {
    // Takes nothing out: there is no place for a byte. With none there: 0 without a
    // writer, else EAGAIN.
    // SAFETY: the kernel writes nothing to a place that is none.
    match unsafe { sys!(SYS_read, fifo, std::ptr::null_mut::<u8>(), 1) } {
        // One that has gone again.
        Ok(0) => Ok(poll_now(fifo, libc::POLLIN) != 0),
        Err(libc::EAGAIN | libc::EFAULT) => Ok(true),
        answer => answer.map(|_| true),
    }
}

/// The descriptor is not given out yet: the flag can go.
fn blocking_again(fd: OwnedFd) -> Answer {
    let flags = status_flags(fd.as_raw_fd())?;
    set_status_flags(fd.as_raw_fd(), flags & !libc::O_NONBLOCK)?;
    Ok(fd.into_raw_fd() as usize)
}
