//! Positioned I/O: `pread`, `pwrite` and their relatives, `fsync`, and what `read`
//! and `write` do on a regular file. Calls with flags are in `with_flags.rs`.
//!
//! - Reading takes what is in memory without waiting (`RWF_NOWAIT`, at the
//!   price of the plain call). What is not is read by a helper thread, all of it by one
//!   call, into the caller's own memory where it may (`wait/lent.rs`): a few µs on top
//!   of what the disk takes.
//! - What goes to the disk each time (`O_DIRECT`, `O_SYNC`, …) is a helper's: the kernel
//!   waits for it whatever it is told.
//! - A read that takes several pieces is not mixed with others (`position_lock.rs`).
//! - Writing goes to the page cache and is done here: a helper would cost ten
//!   times the call, and loggers write under locks that they count on no other
//!   coroutine asking for. Only a `pwrite` of which the kernel says that it would
//!   wait is made by a helper.
//! - File systems that can't tell are taken to be fast. Where the kernel, or a filter,
//!   does not let us ask (`ENOSYS`, `EPERM`), helpers do it all.
//! - `fsync` and its like are made by helpers.
//!
//! None of them fails by cancellation: what is cancelled may still save its
//! data.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::time::Instant;

use libc::{iovec, off_t, size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::is_file::is_direct;
use crate::hook::files::position_lock;
use crate::hook::libc::hook;
use crate::hook::wait::call::{in_coroutine, may_park, on_helper, uncancellable};
use crate::hook::wait::clock::after;
use crate::hook::wait::lent::Lent;
use crate::hook::wait::transfer::{Buffers, ended_short, no_buffer};
use crate::sched::CurrentTask;
use crate::sys::fcntl::status_flags;
use crate::sys::fd::table::Meaning;
use crate::sys::simulated;
use crate::sys::syscall::{Answer, sys, syscall};

/// The file's own position, in calls that take an offset.
pub(super) const HERE: off_t = -1;

/// One call on a file, by file, place and flags of `preadv2`.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) fd: RawFd,
    pub(crate) dir: Direction,
    pub(crate) at: off_t,
    pub(crate) flags: c_int,
}

impl Access {
    /// At the file's own position.
    pub(crate) fn here(fd: RawFd, dir: Direction) -> Self {
        Self {
            fd,
            dir,
            at: HERE,
            flags: 0,
        }
    }

    /// Makes the call.
    ///
    /// # Safety
    ///
    /// - `buffers` are valid for the direction.
    pub(super) unsafe fn call(self, done: usize, buffers: Buffers, more: c_int) -> Answer {
        let flags = self.flags | more;
        // Old kernels and filters have no calls with flags: those are used for flags only.
        let number: c_long = match (self.dir, flags, self.at) {
            (Direction::Read, 0, HERE) => libc::SYS_readv,
            (Direction::Read, 0, _) => libc::SYS_preadv,
            (Direction::Read, ..) => libc::SYS_preadv2,
            (Direction::Write, 0, HERE) => libc::SYS_writev,
            (Direction::Write, 0, _) => libc::SYS_pwritev,
            (Direction::Write, ..) => libc::SYS_pwritev2,
        };
        // The kernel takes two halves of an offset; on 64 bits the second is
        // not looked at.
        let args = [
            self.fd as usize,
            buffers.first.expose_provenance(),
            buffers.count,
            self.place(done) as usize,
            0,
            flags as usize,
        ];
        // SAFETY: forwarded.
        match unsafe { syscall(number, args) } {
            // As libc says it.
            Err(libc::ENOSYS) if self.flags != 0 => Err(libc::EOPNOTSUPP),
            answer => answer,
        }
    }

    /// Where the byte after `done` is.
    fn place(self, done: usize) -> off_t {
        if self.at == HERE {
            HERE
        } else {
            self.at.saturating_add_unsigned(done as u64)
        }
    }

    /// Moves bytes until all are moved, the file ends, or something fails;
    /// `done` are moved already.
    ///
    /// # Safety
    ///
    /// - `buffers` are valid for the direction.
    pub(crate) unsafe fn run(self, cx: CurrentTask, buffers: Buffers, mut done: usize) -> Answer {
        // SAFETY: the caller's buffers, for this and all below.
        let total = unsafe { buffers.total() };
        if total > done && self.goes_to_disk(cx) {
            // SAFETY: as above.
            return short(done, unsafe { self.helped(cx, buffers, done) });
        }
        loop {
            let mut scratch = no_buffer();
            // SAFETY: as above.
            let moved = unsafe {
                let rest = buffers.after(done, &mut scratch);
                match self.call(done, rest, libc::RWF_NOWAIT) {
                    Err(libc::EAGAIN | libc::ENOSYS | libc::EPERM) => {
                        return short(done, self.helped(cx, buffers, done));
                    }
                    // It can't be asked not to wait.
                    Err(libc::EOPNOTSUPP | libc::EINVAL) => {
                        return short(done, self.call(done, rest, 0));
                    }
                    answer => answer,
                }
            };
            match moved {
                Ok(moved) if moved > 0 && done + moved < total && !ended_short(self.fd) => {
                    done += moved;
                }
                last => return short(done, last),
            }
        }
    }

    /// Whether the bytes come from the disk, or are on it when the call returns, also
    /// where they could be in memory. The kernel waits for it even if asked not to.
    pub(crate) fn goes_to_disk(self, cx: CurrentTask) -> bool {
        if self.dir == Direction::Read {
            return is_direct(cx, self.fd);
        }
        let of_file = libc::O_DIRECT | libc::O_DSYNC | libc::O_SYNC;
        self.flags & (libc::RWF_DSYNC | libc::RWF_SYNC) != 0
            || status_flags(self.fd).is_ok_and(|flags| flags & of_file != 0)
    }

    /// A helper moves the rest, by one call, and waits in our place. What it does not
    /// move is not there.
    ///
    /// # Safety
    ///
    /// - As for [`run`](Self::run).
    #[cold]
    pub(crate) unsafe fn helped(self, cx: CurrentTask, buffers: Buffers, done: usize) -> Answer {
        // SAFETY: as above.
        if unsafe { buffers.refused() } {
            // None of it is lent: the kernel says so at once.
            // SAFETY: forwarded.
            return unsafe { self.call(done, buffers, 0) };
        }
        let meaning = Meaning::of(self.fd);
        let _held = (self.at == HERE).then(|| position_lock::lock(cx, self.fd));
        // SAFETY: the caller's buffers; this waits for the helper, which ends first.
        let lent = unsafe { Lent::new(cx, self.dir, buffers, done) };
        let (moved, lent) = on_helper(cx, [meaning], move || {
            // SAFETY: lent to this call.
            let moved = unsafe { self.call(done, lent.buffers(), 0) }?;
            Ok((moved, lent))
        })?;
        if self.dir == Direction::Read {
            // SAFETY: so many were read there.
            unsafe { lent.give_back(moved) };
        }
        Ok(moved)
    }
}

/// The answer to a call of which `done` bytes were moved before `last` was said.
fn short(done: usize, last: Answer) -> Answer {
    match last {
        Err(_) if done > 0 => Ok(done),
        last => last.map(|moved| done + moved),
    }
}

/// A coroutine's `pread` or `pwrite` in any form.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
pub(super) unsafe fn positioned(cx: CurrentTask, access: Access, buffers: Buffers) -> ssize_t {
    // SAFETY: forwarded.
    uncancellable(|| unsafe { access.run(cx, buffers, 0) })
}

fn one(base: *mut c_void, len: size_t) -> iovec {
    iovec {
        iov_base: base,
        iov_len: len,
    }
}

/// Refused by the kernel before it looks at anything else but the number.
fn refused(at: off_t) -> bool {
    at < 0
}

macro_rules! positioned {
    ($(fn $name:ident, fn $vectors:ident: $dir:ident, $ptr:ty, $number:ident, $vectors_number:ident;)*) => {
        $(
            hook!(
                next_or($number),
                Some(cx) = in_coroutine().filter(|_| !refused(at)),
                unsafe extern "C-unwind" fn $name(fd: c_int, buf: $ptr, n: size_t, at: off_t) -> ssize_t {
                    let access = Access { fd, dir: Direction::$dir, at, flags: 0 };
                    // SAFETY: the caller's buffer of `n` bytes.
                    unsafe { positioned(cx, access, Buffers::new(&one(buf.cast_mut(), n), 1)) }
                }
            );

            hook!(
                next_or($vectors_number),
                Some(cx) = in_coroutine().filter(|_| !refused(at)),
                unsafe extern "C-unwind" fn $vectors(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t {
                    let access = Access { fd, dir: Direction::$dir, at, flags: 0 };
                    // SAFETY: the caller's buffers.
                    unsafe { positioned(cx, access, Buffers::new(iov, count as usize)) }
                }
            );
        )*
    };
}

positioned! {
    fn pread, fn preadv: Read, *const c_void, SYS_pread64, SYS_preadv;
    fn pread64, fn preadv64: Read, *const c_void, SYS_pread64, SYS_preadv;
    fn pwrite, fn pwritev: Write, *const c_void, SYS_pwrite64, SYS_pwritev;
    fn pwrite64, fn pwritev64: Write, *const c_void, SYS_pwrite64, SYS_pwritev;
}

/// A simulation's disk may take its time.
#[inline(always)]
fn wait_for_disk(cx: CurrentTask, fd: RawFd) {
    let time = simulated::world().and_then(|world| world.sync_takes(fd));
    if let Some(until) = time.map(after).filter(|_| may_park().is_some()) {
        while Instant::now() < until {
            cx.park_regardless_until(Some(until));
        }
    }
}

macro_rules! synced {
    ($(fn $name:ident: $number:ident;)*) => {
        $(hook!(
            next_or($number),
            Some(cx) = in_coroutine(),
            unsafe extern "C-unwind" fn $name(fd: c_int) -> c_int {
                uncancellable(|| {
                    let meaning = Meaning::of(fd);
                    wait_for_disk(cx, fd);
                    // SAFETY: no pointers.
                    on_helper(cx, [meaning], move || unsafe { sys!($number, fd) })
                })
            }
        );)*
    };
}

synced! {
    fn fsync: SYS_fsync;
    fn fdatasync: SYS_fdatasync;
    fn syncfs: SYS_syncfs;
}
