//! Positioned I/O: `pread`, `pwrite` and their relatives, `fsync`, and what `read`
//! and `write` do on a regular file.
//!
//! - Reading takes what is in memory without waiting (`RWF_NOWAIT`, at the
//!   price of the plain call). What is not is read by a helper thread into a
//!   buffer of its own and copied: a few µs on top of what the disk takes.
//! - A read that takes several pieces is not mixed with others (`position_lock.rs`).
//! - Writing goes to the page cache and is done here: a helper would cost ten
//!   times the call, and loggers write under locks that they count on no other
//!   coroutine asking for. Only a `pwrite` of which the kernel says that it would
//!   wait is made by a helper.
//! - File systems that can't tell are taken to be fast.
//! - `fsync` and its like are made by helpers.
//!
//! None of them fails by cancellation: what is cancelled may still save its
//! data.

use std::ffi::{c_int, c_long, c_void};
use std::os::fd::RawFd;

use libc::{iovec, off_t, size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::position_lock;
use crate::hook::libc::hook;
use crate::hook::wait::call::{in_coroutine, on_helper, uncancellable};
use crate::hook::wait::transfer::{Buffers, no_buffer};
use crate::sched::Cx;
use crate::sys::syscall::{Answer, Errno, sys, syscall};

/// The file's own position, in calls that take an offset.
pub(crate) const HERE: off_t = -1;

/// The most that a helper moves at a time.
const MOST: usize = 256 << 10;

/// What a piece says of the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Nothing: more may have to be waited for.
    InMemory,
    /// Nothing: it was as large as it could be.
    Full,
    /// The kernel would have waited for more: there is none.
    LastWord,
}

/// One call on a file, by file, place and flags of `preadv2`.
#[derive(Clone, Copy)]
pub(crate) struct Access {
    pub(crate) fd: RawFd,
    pub(crate) dir: Direction,
    pub(crate) at: off_t,
    pub(crate) flags: c_int,
}

impl Access {
    /// Makes the call.
    ///
    /// # Safety
    ///
    /// - `buffers` are valid for the direction.
    unsafe fn call(self, done: usize, buffers: Buffers, more: c_int) -> Answer {
        let number: c_long = match self.dir {
            Direction::Read => libc::SYS_preadv2,
            Direction::Write => libc::SYS_pwritev2,
        };
        // The kernel takes two halves of an offset; on 64 bits the second is
        // not looked at.
        let args = [
            self.fd as usize,
            buffers.first.expose_provenance(),
            buffers.count,
            self.place(done) as usize,
            0,
            (self.flags | more) as usize,
        ];
        // SAFETY: forwarded.
        unsafe { syscall(number, args) }
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
    pub(crate) unsafe fn run(self, cx: Cx, buffers: Buffers, mut done: usize) -> Answer {
        // SAFETY: the caller's buffers, for this and all below.
        let total = unsafe { buffers.total() };
        let mut held = None;
        loop {
            let mut scratch = no_buffer();
            // SAFETY: as above.
            let moved = unsafe {
                let rest = buffers.after(done, &mut scratch);
                match self.call(done, rest, libc::RWF_NOWAIT) {
                    Err(libc::EAGAIN) => {
                        if held.is_none() && self.at == HERE {
                            held = position_lock::lock(cx, self.fd);
                        }
                        self.helped(cx, buffers, done, total)
                    }
                    Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => self
                        .call(done, rest, 0)
                        .map(|moved| (moved, Piece::LastWord)),
                    answer => answer.map(|moved| (moved, Piece::InMemory)),
                }
            };
            let (moved, piece) = match moved {
                Err(_) if done > 0 => return Ok(done),
                Err(code) => return Err(code),
                Ok(moved) => moved,
            };
            done += moved;
            if moved == 0 || done >= total || piece == Piece::LastWord {
                return Ok(done);
            }
        }
    }

    /// A helper moves some, by way of a buffer of its own.
    ///
    /// # Safety
    ///
    /// - As for [`run`](Self::run).
    #[cold]
    unsafe fn helped(
        self,
        cx: Cx,
        buffers: Buffers,
        done: usize,
        total: usize,
    ) -> Result<(usize, Piece), Errno> {
        let len = (total - done).min(MOST);
        let bytes = match self.dir {
            Direction::Read => vec![0; len],
            // SAFETY: the caller's buffers.
            Direction::Write => unsafe { buffers.gather(done, len) },
        };
        let (moved, bytes) = on_helper(cx, move || self.bounce(bytes, done))?;
        if self.dir == Direction::Read {
            // SAFETY: the caller's buffers, which have room for `len`.
            unsafe { buffers.scatter(done, &bytes[..moved]) };
        }
        let piece = match moved == len {
            true => Piece::Full,
            false => Piece::LastWord,
        };
        Ok((moved, piece))
    }

    fn bounce(self, mut bytes: Vec<u8>, done: usize) -> Result<(usize, Vec<u8>), Errno> {
        let all = iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: our own buffer.
        let moved = unsafe { self.call(done, Buffers::new(&all, 1), 0) }?;
        Ok((moved, bytes))
    }
}

/// A coroutine's `pread` or `pwrite` in any form. A negative offset is refused
/// by the calls with one, and is the file's own position in those with flags.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
unsafe fn positioned(cx: Cx, access: Access, buffers: Buffers) -> ssize_t {
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
                unsafe extern "C" fn $name(fd: c_int, buf: $ptr, n: size_t, at: off_t) -> ssize_t {
                    let access = Access { fd, dir: Direction::$dir, at, flags: 0 };
                    // SAFETY: the caller's buffer of `n` bytes.
                    unsafe { positioned(cx, access, Buffers::new(&one(buf.cast_mut(), n), 1)) }
                }
            );

            hook!(
                next_or($vectors_number),
                Some(cx) = in_coroutine().filter(|_| !refused(at)),
                unsafe extern "C" fn $vectors(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t {
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

macro_rules! with_flags {
    ($(fn $name:ident: $dir:ident, $plain:ident, $number:ident;)*) => {
        $(hook!(
            next_or(sys!($number, fd, iov, count, at, 0, flags)),
            Some(cx) = in_coroutine().filter(|_| flags & libc::RWF_NOWAIT == 0),
            /// At the file's own position it is the call without an offset,
            /// as long as there are no flags.
            unsafe extern "C" fn $name(fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t {
                // SAFETY: the caller's buffers.
                unsafe {
                    if at == HERE && flags == 0 {
                        return libc::$plain(fd, iov, count);
                    }
                    let access = Access { fd, dir: Direction::$dir, at, flags };
                    positioned(cx, access, Buffers::new(iov, count as usize))
                }
            }
        );)*
    };
}

with_flags! {
    fn preadv2: Read, readv, SYS_preadv2;
    fn preadv64v2: Read, readv, SYS_preadv2;
    fn pwritev2: Write, writev, SYS_pwritev2;
    fn pwritev64v2: Write, writev, SYS_pwritev2;
}

macro_rules! synced {
    ($(fn $name:ident: $number:ident;)*) => {
        $(hook!(
            next_or($number),
            Some(cx) = in_coroutine(),
            unsafe extern "C" fn $name(fd: c_int) -> c_int {
                // SAFETY: no pointers.
                uncancellable(|| on_helper(cx, move || unsafe { sys!($number, fd) }))
            }
        );)*
    };
}

synced! {
    fn fsync: SYS_fsync;
    fn fdatasync: SYS_fdatasync;
    fn syncfs: SYS_syncfs;
}
