//! Copies from one descriptor to another: `sendfile`, `splice`, `copy_file_range`.
//!
//! The kernel has no non-blocking form of the first two that sockets obey.
//! So in a coroutine:
//!
//! - between files a helper thread makes the call;
//! - into a pipe, `splice` is made with `SPLICE_F_NONBLOCK` once the source
//!   has something and the pipe has room;
//! - everything else goes through a buffer of at most 64 KiB: a read that
//!   parks, and writes that park until all of it is taken. Costs a copy.
//!
//! A destination that the user made non-blocking gets the plain call.

use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::RawFd;

use libc::{size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::libc::hook;
use crate::hook::wait::call::{
    cancellable, in_coroutine, on_helper, park_until_ready, uncancellable,
};
use crate::hook::wait::retry::{WaitContext, until_done};
use crate::sched::Cx;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::ready::poll_now;
use crate::sys::stat::kind;
use crate::sys::syscall::{Answer, Errno, errno, sys};

/// Bytes that are on their way at one time: what a pipe holds.
const CHUNK: usize = 64 << 10;

fn is_socket(fd: RawFd) -> bool {
    kind(fd) == libc::S_IFSOCK
}

fn is_pipe(fd: RawFd) -> bool {
    kind(fd) == libc::S_IFIFO
}

/// A file or a disk: nothing that another process has to do is waited for.
fn is_file(fd: RawFd) -> bool {
    matches!(kind(fd), libc::S_IFREG | libc::S_IFBLK)
}

hook!(
    next_or(SYS_sendfile),
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn sendfile(out: c_int, from: c_int, offset: *mut i64, n: size_t) -> ssize_t {
        if is_file(from) && is_file(out) {
            // SAFETY: the caller's place.
            let mut at = unsafe { offset.as_ref() }.copied();
            return uncancellable(|| {
                let (moved, to) = on_helper(cx, move || {
                    let place = at.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
                    // SAFETY: our own place, or none.
                    let moved = unsafe { sys!(SYS_sendfile, out, from, place, n) }?;
                    Ok((moved, at))
                })?;
                // SAFETY: as above.
                unsafe { put(offset, to) };
                Ok(moved)
            });
        }
        let waits = n > 0 && is_file(from) && (is_socket(out) || is_pipe(out));
        if !waits || is_nonblocking(out) != Ok(false) {
            // Waits for the disk at most, or is refused.
            // SAFETY: the caller's arguments.
            return cancellable(cx, || unsafe { sys!(SYS_sendfile, out, from, offset, n) });
        }
        // SAFETY: the caller's place.
        cancellable(cx, || unsafe { through_buffer(from, offset, out, n) })
    }
);

hook!(
    unsafe extern "C" fn sendfile64(
        out: c_int,
        from: c_int,
        offset: *mut i64,
        n: size_t,
    ) -> ssize_t {
        // SAFETY: the same function where `off_t` has 64 bits.
        unsafe { sendfile(out, from, offset, n) }
    }
);

/// Writes the new offset where there was one.
///
/// # Safety
///
/// - `place` is valid if there is a value.
unsafe fn put(place: *mut i64, value: Option<i64>) {
    if let Some(value) = value {
        // SAFETY: the caller's promise.
        unsafe { place.write(value) };
    }
}

/// Moves up to `n` bytes by reading and writing. What was read is written
/// whole, or lost with the connection that it was for; of a file, only what
/// was written counts as read.
///
/// # Safety
///
/// - `offset` is null or valid.
unsafe fn through_buffer(from: RawFd, offset: *mut i64, out: RawFd, n: usize) -> Answer {
    let mut chunk = vec![0u8; n.min(CHUNK)];
    let mut done = 0;
    while done < n {
        let want = (n - done).min(chunk.len());
        let place: *mut c_void = chunk.as_mut_ptr().cast();
        // SAFETY: our own buffer; the calls are the hooked ones, which park.
        let got = said(unsafe {
            match offset.as_ref() {
                Some(&at) => libc::pread(from, place, want, at),
                None => libc::read(from, place, want),
            }
        });
        let sent = match got {
            Ok(0) => return Ok(done),
            // SAFETY: as above.
            Ok(got) => said(unsafe { libc::write(out, place, got) }).map(|sent| (sent, got - sent)),
            Err(code) => Err(code),
        };
        match sent {
            Ok((sent, left)) => {
                done += sent;
                // SAFETY: the caller's place. Seeking back what was not sent
                // fails on pipes, as it may.
                unsafe {
                    match offset.as_mut() {
                        Some(at) => *at += sent as i64,
                        None if left > 0 => unread(from, left),
                        None => {}
                    }
                }
                // A pipe gives what it has; a file all that was asked for.
                if left > 0 || is_pipe(from) {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(code) => {
                if offset.is_null() {
                    got.into_iter().for_each(|got| unread(from, got));
                }
                return Err(code);
            }
        }
    }
    Ok(done)
}

/// A file goes back by what could not be passed on.
fn unread(from: RawFd, bytes: usize) {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(SYS_lseek, from, -(bytes as i64), libc::SEEK_CUR) };
}

/// What a call of libc that was just made said.
fn said(result: ssize_t) -> Answer {
    usize::try_from(result).map_err(|_| errno())
}

hook!(
    next_or(SYS_splice),
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn splice(
        from: c_int,
        from_at: *mut i64,
        to: c_int,
        to_at: *mut i64,
        n: size_t,
        flags: c_uint,
    ) -> ssize_t {
        let try_now = |more: c_uint| {
            // SAFETY: the caller's arguments.
            unsafe { sys!(SYS_splice, from, from_at, to, to_at, n, flags | more) }
        };
        let waits = flags & libc::SPLICE_F_NONBLOCK == 0 && n > 0;
        cancellable(cx, || {
            if is_pipe(to) && (is_pipe(from) || is_socket(from) || is_file(from)) && waits {
                into_pipe(cx, from, to, || try_now(libc::SPLICE_F_NONBLOCK))
            } else if is_pipe(from)
                && is_socket(to)
                && to_at.is_null()
                && from_at.is_null()
                && n > 0
            {
                match is_nonblocking(to) {
                    // SAFETY: no offset.
                    Ok(false) => unsafe {
                        through_buffer(from, std::ptr::null_mut(), to, n.min(CHUNK))
                    },
                    _ => try_now(0),
                }
            } else if is_pipe(from) && waits {
                // To a file, which takes it at once: wait for the source only.
                let mut context = WaitContext::new(from, Direction::Read);
                until_done(cx, &mut context, true, |_| try_now(libc::SPLICE_F_NONBLOCK))
            } else {
                try_now(0)
            }
        })
    }
);

/// Waits for the source, then for room, then for whichever it was.
fn into_pipe(cx: Cx, from: RawFd, to: RawFd, mut call: impl FnMut() -> Answer) -> Answer {
    loop {
        let source_ready = is_file(from) || poll_now(from, libc::POLLIN) != 0;
        if !source_ready {
            wait(cx, from, Direction::Read)?;
        } else if poll_now(to, libc::POLLOUT) == 0 {
            wait(cx, to, Direction::Write)?;
        } else {
            match call() {
                // Another thread was faster.
                Err(libc::EAGAIN) => cx.spend(),
                answer => return answer,
            }
        }
    }
}

/// Parks until ready; the user's own non-blocking descriptor says `EAGAIN`.
fn wait(cx: Cx, fd: RawFd, dir: Direction) -> Result<(), Errno> {
    let deadline = WaitContext::new(fd, dir).deadline()?;
    match park_until_ready(cx, fd, dir, deadline) {
        Err(libc::ETIMEDOUT) => Err(libc::EAGAIN),
        waited => waited,
    }
}

hook!(
    next_or(SYS_copy_file_range),
    Some(cx) = in_coroutine(),
    unsafe extern "C" fn copy_file_range(
        from: c_int,
        from_at: *mut i64,
        to: c_int,
        to_at: *mut i64,
        n: size_t,
        flags: c_uint,
    ) -> ssize_t {
        // SAFETY: the caller's places.
        let mut places = unsafe { [from_at.as_ref().copied(), to_at.as_ref().copied()] };
        uncancellable(|| {
            let (moved, [read, written]) = on_helper(cx, move || {
                let [a, b] = places
                    .each_mut()
                    .map(|at| at.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut));
                // SAFETY: our own places, or none.
                let moved = unsafe { sys!(SYS_copy_file_range, from, a, to, b, n, flags) }?;
                Ok((moved, places))
            })?;
            // SAFETY: as above.
            unsafe {
                put(from_at, read);
                put(to_at, written);
            }
            Ok(moved)
        })
    }
);
