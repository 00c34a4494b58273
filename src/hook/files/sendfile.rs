//! Copies between files, and from a file to anything: `sendfile`, `copy_file_range`.
//!
//! - Between files a helper thread makes the call.
//! - To a pipe, a socket or a terminal, which the kernel can't be asked not to wait
//!   for, it goes through a buffer, unless the user made that non-blocking.
//! - To a pipe from what is no file it is a `splice`, as in the kernel.

use std::ffi::{c_int, c_uint};
use std::os::fd::RawFd;

use libc::{size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::splice::{has_room, wait};
use crate::hook::files::through_buffer::{Source, through_buffer};
use crate::hook::libc::hook;
use crate::hook::wait::call::{On, cancellable_on, in_coroutine, on_helper, uncancellable};
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::fd::table::Meaning;
use crate::sys::stat::{is_pipe, kind};
use crate::sys::syscall::sys;
use crate::sys::terminal::is_terminal;

/// A file or a disk: nothing that another process has to do is waited for.
fn is_file(fd: RawFd) -> bool {
    matches!(kind(fd), libc::S_IFREG | libc::S_IFBLK)
}

hook!(
    next_or(SYS_sendfile),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sendfile(
        out: c_int,
        from: c_int,
        offset: *mut i64,
        n: size_t,
    ) -> ssize_t {
        if is_file(from) && is_file(out) {
            // SAFETY: the caller's place.
            let mut at = unsafe { offset.as_ref() }.copied();
            return uncancellable(|| {
                let meant = [from, out].map(Meaning::of);
                let (moved, to) = on_helper(cx, meant, move || {
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
        let pipes = (is_pipe(from), is_pipe(out));
        if pipes == (false, true) && !seeks(from) && offset.is_null() {
            let none = std::ptr::null_mut;
            // SAFETY: no pointers.
            return unsafe { libc::splice(from, none(), out, none(), n, 0) };
        }
        let may_be_full = pipes.1 || kind(out) == libc::S_IFSOCK || is_terminal(out);
        let waits = n > 0 && may_be_full && seeks(from);
        cancellable_on(cx, On::Fd(out, Direction::Write), || {
            let blocks = is_nonblocking(out) == Ok(false);
            if n > 0 && blocks && pipes == (true, true) {
                // As the kernel says once there is room.
                return Err(libc::EINVAL);
            }
            while n == 0 && blocks && pipes.1 && !has_room(out) {
                // It waits for room also where nothing is to be moved.
                wait(cx, out, Direction::Write)?;
            }
            if !waits || !blocks {
                // Waits for the disk at most, or is refused.
                // SAFETY: the caller's arguments.
                return unsafe { sys!(SYS_sendfile, out, from, offset, n) };
            }
            // SAFETY: the caller's place.
            let at = unsafe { offset.as_mut() };
            through_buffer(Source::from(from, at), out, n, 0)
        })
    }
);

/// Whether it has a position: a file, a disk, a device of memory. The kernel sends no
/// others.
fn seeks(fd: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { sys!(SYS_lseek, fd, 0, libc::SEEK_CUR) }.is_ok()
}

hook!(
    unsafe extern "C-unwind" fn sendfile64(
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

hook!(
    next_or(SYS_copy_file_range),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn copy_file_range(
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
            let meant = [from, to].map(Meaning::of);
            let (moved, [read, written]) = on_helper(cx, meant, move || {
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
