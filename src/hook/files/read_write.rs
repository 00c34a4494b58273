//! Reads and writes of any descriptor: `read`, `readv`, `write`, `writev`.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::RawFd;

use libc::{iovec, size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::is_file::is_file;
use crate::hook::files::poll_first::{if_ready, plain};
use crate::hook::files::position_lock;
use crate::hook::files::positioned::Access;
use crate::hook::files::refused::notifies;
use crate::hook::files::terminal_input;
use crate::hook::libc::hook;
use crate::hook::wait::call::{On, cancellable_on, in_coroutine, uncancellable};
use crate::hook::wait::retry::{Mode, WOULD_PARK, event};
use crate::hook::wait::shallow;
use crate::hook::wait::transfer::{Buffers, Transfer, no_buffer};
use crate::sched::CurrentTask;
use crate::sys::fd::table;
use crate::sys::ready::poll_now;
use crate::sys::sockopt::listens;
use crate::sys::stat::kind;
use crate::sys::syscall::{Answer, Errno, errno, set_errno, sys, syscall};
use crate::sys::terminal::is_terminal;

/// The answer to a try at a terminal, which is read otherwise. No error of the kernel,
/// which has them up to 4095.
const IS_TERMINAL: Errno = WOULD_PARK + 1;

/// `read`/`write` on any descriptor: `preadv2`/`pwritev2` at the file's own
/// position without waiting; where that does not exist, `poll` first.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
unsafe fn vector(fd: RawFd, dir: Direction, buffers: Buffers, mode: Mode) -> Answer {
    let nowait: c_long = match dir {
        Direction::Read => libc::SYS_preadv2,
        Direction::Write => libc::SYS_pwritev2,
    };
    let poll_first = match dir {
        Direction::Read => table::POLL_FIRST_TO_READ,
        Direction::Write => table::POLL_FIRST_TO_WRITE,
    };
    if mode == Mode::NoWait {
        let mut polls = table::known(fd, poll_first);
        if !polls {
            let (here, first) = (-1isize as usize, buffers.first as usize);
            let flags = libc::RWF_NOWAIT as usize;
            let args = [fd as usize, first, buffers.count, here, here, flags];
            // SAFETY: the caller's buffers.
            match unsafe { syscall(nowait, args) } {
                // An old kernel, or a filter. A file's bytes may have to come from the
                // disk, for which `poll` does not wait.
                Err(libc::ENOSYS | libc::EPERM)
                    if dir == Direction::Read && kind(fd) == libc::S_IFREG =>
                {
                    return Err(libc::EAGAIN);
                }
                Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => {
                    polls = true;
                    if polled_terminal(fd, poll_first) && dir == Direction::Read {
                        return Err(IS_TERMINAL);
                    }
                }
                // SAFETY: the caller's buffers.
                Err(libc::EINVAL) if unsafe { buffers.refused() } => return Err(libc::EINVAL),
                // Some files refuse the arguments, with or without the flag
                // (pidfds have no read, eventfds want eight bytes): those
                // would never be ready.
                Err(libc::EINVAL) if dir == Direction::Read && refuses(fd) => {
                    return Err(libc::EINVAL);
                }
                Err(libc::EINVAL) => {}
                answer => return answer,
            }
        }
        if polls {
            // SAFETY: the caller's buffers.
            return unsafe { if_ready(fd, dir, buffers) };
        }
        if poll_now(fd, event(dir)) == 0 {
            return Err(libc::EAGAIN);
        }
    }
    // SAFETY: the caller's buffers.
    unsafe { plain(fd, dir, buffers) }
}

/// Notes that there is no `RWF_NOWAIT`. Whether it is a terminal.
#[cold]
fn polled_terminal(fd: RawFd, poll_first: u32) -> bool {
    let probe = table::Probe::begin(fd);
    let terminal = !table::known(fd, table::NOT_A_FILE) && is_terminal(fd);
    probe.commit(poll_first | if terminal { table::TERMINAL } else { 0 });
    terminal
}

/// Whether reading nothing is refused: the descriptor has no read, or wants
/// more bytes at a time. Or it listens.
#[cold]
fn refuses(fd: RawFd) -> bool {
    // SAFETY: no byte is written.
    listens(fd) || unsafe { sys!(SYS_read, fd, std::ptr::null::<u8>(), 0) == Err(libc::EINVAL) }
}

/// `read` of no bytes: what says that it wants some says so (eventfds), which
/// `readv` never does. Only inotify makes it wait, for something to refuse.
///
/// # Safety
///
/// - As for `read` of no bytes.
#[cold]
unsafe fn read_nothing(fd: RawFd, buf: *mut c_void) -> Answer {
    let ready = poll_now(fd, event(Direction::Read)) != 0;
    if ready || kind(fd) != 0 || !notifies(fd) {
        // SAFETY: no byte is written.
        return unsafe { sys!(SYS_read, fd, buf, 0) };
    }
    Ok(0)
}

/// # Safety
///
/// - As for `readv`.
unsafe fn read_vector(cx: CurrentTask, fd: RawFd, buffers: Buffers) -> ssize_t {
    // SAFETY: the caller's buffers, for this and all closures below.
    let total = unsafe { buffers.total() };
    maybe_of_a_file(cx, (fd, Direction::Read), || {
        if table::known(fd, table::TERMINAL) {
            // SAFETY: as above.
            return unsafe { terminal_input::read(cx, fd, buffers) };
        }
        let access = Access::here(fd, Direction::Read);
        if !table::known(fd, table::NOT_A_FILE) {
            position_lock::wait_while_held(cx, fd)?;
            if access.goes_to_disk(cx) {
                // SAFETY: as above.
                return unsafe { access.helped(cx, buffers, 0) };
            }
        }
        let answer = Transfer::incoming(fd, total, 0, false).run(cx, |_, mode| {
            // SAFETY: as above.
            let got = unsafe { vector(fd, Direction::Read, buffers, mode) };
            let some = match got {
                Ok(some) if some > 0 && some < total && mode == Mode::NoWait => some,
                Err(libc::EAGAIN) => 0,
                _ => return got,
            };
            // Where it can't be asked not to wait, it was not: that was all.
            if table::known(fd, table::POLL_FIRST_TO_READ) || !is_file(cx, fd) {
                return got;
            }
            // A file gives without waiting only what is in memory already,
            // but a reader of files expects all that there is.
            // SAFETY: as above.
            unsafe { access.run(cx, buffers, some) }
        });
        match answer {
            // SAFETY: as above.
            Err(IS_TERMINAL) => unsafe { terminal_input::read(cx, fd, buffers) },
            answer => answer,
        }
    })
}

/// A call that is [`uncancellable`] if it is on a file. What is none counts against the
/// budget from its first call on, also if it is always ready.
#[inline(always)]
fn maybe_of_a_file(
    cx: CurrentTask,
    (fd, dir): (RawFd, Direction),
    call: impl FnOnce() -> Answer,
) -> ssize_t {
    let known = table::cached(fd);
    let other = known & (table::NOT_A_FILE | table::TERMINAL) != 0;
    if !other && (known & table::A_FILE != 0 || is_file(cx, fd)) {
        uncancellable(call)
    } else {
        cancellable_on(cx, On::Fd(fd, dir), call)
    }
}

/// # Safety
///
/// - As for `writev`.
unsafe fn write_vector(cx: CurrentTask, fd: RawFd, buffers: Buffers) -> ssize_t {
    // SAFETY: the caller's buffers, for the closure too.
    let total = unsafe { buffers.total() };
    maybe_of_a_file(cx, (fd, Direction::Write), || {
        // One call of the kernel, which mixes it with no other's; without
        // waiting it might take a part only.
        let file = total > 0 && is_file(cx, fd);
        let access = Access::here(fd, Direction::Write);
        if file && access.goes_to_disk(cx) {
            // SAFETY: as above.
            return unsafe { access.helped(cx, buffers, 0) };
        }
        Transfer::outgoing(fd, total, 0).run(cx, |done, mode| {
            let mode = if file { Mode::Plain } else { mode };
            let mut scratch = no_buffer();
            // SAFETY: as above.
            unsafe {
                let rest = buffers.after(done, &mut scratch);
                vector(fd, Direction::Write, rest, mode)
            }
        })
    })
}

/// The coroutine, unless `fd` is stdout or stderr: `println!` holds a lock by
/// thread while it writes, so no other coroutine may run meanwhile; unless the
/// coroutine is a thread to it.
#[inline(always)]
fn may_write(fd: RawFd) -> Option<CurrentTask> {
    let std = fd == libc::STDOUT_FILENO || fd == libc::STDERR_FILENO;
    in_coroutine().filter(|cx| !std || cx.has_own_tls())
}

hook!(
    next_or(SYS_read),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t {
        // SAFETY: the caller's buffer of `n` bytes.
        unsafe {
            if n == 0 {
                cancellable_on(cx, On::Fd(fd, Direction::Read), || read_nothing(fd, buf))
            } else if table::known(fd, table::NOT_A_FILE) {
                read_waiting(fd, buf, n)
            } else {
                read_usual(cx, fd, buf, n)
            }
        }
    }
);

/// # Safety
///
/// - As for `read`.
#[inline(never)]
unsafe fn read_usual(cx: CurrentTask, fd: RawFd, buf: *mut c_void, n: size_t) -> ssize_t {
    // SAFETY: the caller's buffer.
    unsafe { read_vector(cx, fd, Buffers::new(&one(buf, n), 1)) }
}

fn one(buf: *mut c_void, n: size_t) -> iovec {
    iovec {
        iov_base: buf,
        iov_len: n,
    }
}

/// `read` of some bytes from what is not a file. Its frame is all of ours that
/// the coroutine keeps while it waits.
///
/// # Safety
///
/// - As for `read`, in a coroutine.
#[inline(never)]
unsafe fn read_waiting(fd: RawFd, buf: *mut c_void, n: size_t) -> ssize_t {
    shallow::wait(
        fd,
        // SAFETY: the caller's arguments.
        move |saved, woken| unsafe { read_or_wait(fd, buf, n, saved, woken) },
        // SAFETY: the same.
        move |cx| unsafe { read_usual(cx, fd, buf, n) },
    )
}

/// # Safety
///
/// - As for `read`, in a coroutine.
#[inline(never)]
unsafe fn read_or_wait(
    fd: RawFd,
    buf: *mut c_void,
    n: size_t,
    saved: Errno,
    woken: bool,
) -> ssize_t {
    shallow::attempt(saved, On::Fd(fd, Direction::Read), move |cx| {
        Transfer::shallow(fd, n, 0, woken).run(cx, move |_, mode| {
            // SAFETY: the caller's buffer.
            unsafe { vector(fd, Direction::Read, Buffers::new(&one(buf, n), 1), mode) }
        })
    })
}

hook!(
    next_or(SYS_readv),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
        // SAFETY: the caller's buffers.
        unsafe { read_vector(cx, fd, Buffers::new(iov, count as usize)) }
    }
);

hook!(
    next_or(SYS_write),
    Some(cx) = may_write(fd),
    unsafe extern "C-unwind" fn write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
        if n == 0 {
            return write_nothing(fd, buf);
        }
        // SAFETY: the caller's buffer of `n` bytes.
        unsafe { write_vector(cx, fd, Buffers::new(&one(buf.cast_mut(), n), 1)) }
    }
);

/// To a socket of messages that is a message; the vectored calls send none.
#[cold]
fn write_nothing(fd: RawFd, buf: *const c_void) -> ssize_t {
    let saved = errno();
    // SAFETY: no bytes.
    match unsafe { libc::send(fd, buf, 0, 0) } {
        -1 if errno() == libc::ENOTSOCK => {
            set_errno(saved);
            // SAFETY: no bytes.
            unsafe { write::next(fd, buf, 0) }
        }
        sent => sent,
    }
}

hook!(
    next_or(SYS_writev),
    Some(cx) = may_write(fd),
    unsafe extern "C-unwind" fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
        // SAFETY: the caller's buffers.
        unsafe { write_vector(cx, fd, Buffers::new(iov, count as usize)) }
    }
);
