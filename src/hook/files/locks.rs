//! `flock`, `lockf`, `fcntl(F_SETLKW)`: locks on files. Tried without waiting,
//! again up to every 10 ms.
//!
//! No helper thread waits in our place: those who wait for locks would take
//! all of them, and those who hold the locks may need one to get on. The price:
//! the kernel does not see who waits for whom, so nobody gets `EDEADLK`.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::off_t;

use crate::hook::fd::lifecycle;
use crate::hook::libc::next;
use crate::hook::wait::backoff::{Pauses, until_other};
use crate::hook::wait::retry::{gate, inside_int};
use crate::sched::Cx;
use crate::sys::syscall::{Errno, sys};

#[unsafe(no_mangle)]
unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    let Some(cx) = gate() else {
        // SAFETY: no pointers.
        return unsafe { next::flock(fd, operation) };
    };
    // SAFETY: no pointers.
    let lock = |fd: RawFd| unsafe { sys!(SYS_flock, fd, operation | libc::LOCK_NB) };
    inside_int(cx, || match lock(fd) {
        Err(libc::EWOULDBLOCK) if operation & libc::LOCK_NB == 0 => {
            // These locks belong to the open file: a number of our own keeps
            // it, whatever becomes of the caller's.
            // SAFETY: no pointers.
            let ours = unsafe { sys!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 0) }?;
            // SAFETY: made just now.
            let ours = unsafe { OwnedFd::from_raw_fd(lifecycle::began(ours as RawFd)) };
            until_other(cx, Err(libc::EWOULDBLOCK), || lock(ours.as_raw_fd()))
        }
        answer => answer,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lockf(fd: c_int, command: c_int, len: off_t) -> c_int {
    let Some(cx) = gate().filter(|_| command == libc::F_LOCK) else {
        // SAFETY: no pointers.
        return unsafe { next::lockf(fd, command, len) };
    };
    // SAFETY: zeros are a valid one.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as i16;
    range.l_whence = libc::SEEK_CUR as i16;
    range.l_len = len;
    // SAFETY: a valid range.
    unsafe { record(cx, fd, libc::F_SETLKW, &range) }
}

/// The same function where `off_t` has 64 bits.
#[unsafe(no_mangle)]
unsafe extern "C" fn lockf64(fd: c_int, command: c_int, len: off_t) -> c_int {
    // SAFETY: forwarded.
    unsafe { lockf(fd, command, len) }
}

/// The command of `fcntl` that does not wait where `command` does.
pub(crate) fn without_waiting(command: c_int) -> Option<c_int> {
    match command {
        libc::F_SETLKW => Some(libc::F_SETLK),
        libc::F_OFD_SETLKW => Some(libc::F_OFD_SETLK),
        _ => None,
    }
}

/// `fcntl` with a command that waits.
///
/// # Safety
///
/// - As for that `fcntl`.
pub(crate) unsafe fn record(cx: Cx, fd: RawFd, command: c_int, range: *const libc::flock) -> c_int {
    let command = without_waiting(command).unwrap_or(command);
    // SAFETY: the caller's range; the kernel only reads it.
    let lock = || unsafe { sys!(SYS_fcntl, fd, command, range) };
    inside_int(cx, || match lock() {
        Err(libc::EAGAIN | libc::EACCES) => {
            // Closing any number of the file would end the process's locks on
            // it, so none of our own keeps it: we look that it is the same.
            let file = identity(fd)?;
            let mut pauses = Pauses::new();
            loop {
                pauses.pause(cx, None)?;
                if identity(fd)? != file {
                    return Err(libc::EBADF);
                }
                match lock() {
                    Err(libc::EAGAIN | libc::EACCES) => {}
                    answer => return answer,
                }
            }
        }
        answer => answer,
    })
}

/// Which file it is.
fn identity(fd: RawFd) -> Result<(u64, u64), Errno> {
    stat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

/// `fstat`.
pub(crate) fn stat(fd: RawFd) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a place for the answer; zeros are a valid `stat`.
    unsafe {
        sys!(SYS_fstat, fd, stat.as_mut_ptr())?;
        Ok(stat.assume_init())
    }
}

/// The kind of file: `S_IFREG` and so on; 0 for what is not open.
pub(crate) fn kind(fd: RawFd) -> libc::mode_t {
    stat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT)
}
