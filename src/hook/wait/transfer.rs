//! Byte transfers: what `read`, `recv`, `write`, `send` and their relatives have in
//! common. The calls themselves are in `files/read_write.rs` and `net/message.rs`.
//!
//! All are one [`Transfer`]: they differ in the system call that moves the
//! piece from byte `done` on, and in nothing else. Rules that hold for all:
//!
//! - per call non-blocking (`MSG_DONTWAIT`, `RWF_NOWAIT`), nothing is set on
//!   the descriptor;
//! - outgoing bytes are taken whole, as a blocking send does; an error after
//!   the first piece is left for the next call;
//! - a short transfer on a stream clears its readiness, so the next one parks without
//!   a try; end of file and `MSG_PEEK` say nothing;
//! - `MSG_WAITALL` collects on streams, except with `MSG_PEEK` and with
//!   control data, where what is there is returned.

use std::ffi::c_int;
use std::os::fd::RawFd;

use libc::iovec;

use crate::driver::Direction;
use crate::hook::wait::retry::{Mode, WaitContext, until_done};
use crate::sched::CurrentTask;
use crate::sys::ready::{error_waits, poll_now};
use crate::sys::simulated;
use crate::sys::sockopt;
use crate::sys::syscall::Answer;

/// The most buffers that the kernel takes in one call (`UIO_MAXIOV`).
const MOST_BUFFERS: usize = 1024;

/// The most bytes that it moves by one call (`MAX_RW_COUNT`): the last whole page that an
/// `int` can count. What is asked for beyond is another call's.
const MOST_BYTES: usize = 0x7fff_f000;

/// A call that moves bytes, as the retry loop has to know it.
#[derive(Clone, Copy)]
pub(crate) struct Transfer {
    fd: RawFd,
    dir: Direction,
    /// Bytes asked for.
    total: usize,
    /// Of `recv` and `send`; 0 for `read` and `write`.
    flags: c_int,
    /// Not done before `total` bytes are moved.
    whole: bool,
    /// It is the call of a shallow wait.
    shallow: bool,
    /// It may be known that there is nothing to move.
    hint: bool,
}

impl Transfer {
    #[inline(always)]
    pub(crate) fn incoming(fd: RawFd, total: usize, flags: c_int, control: bool) -> Self {
        let collect = flags & libc::MSG_WAITALL != 0
            && flags & libc::MSG_PEEK == 0
            && !control
            && sockopt::number(fd, libc::SO_TYPE) == Ok(libc::SOCK_STREAM);
        Self {
            fd,
            dir: Direction::Read,
            total: total.min(MOST_BYTES),
            flags,
            whole: collect,
            shallow: false,
            hint: total > 0,
        }
    }

    /// An incoming one that takes what is there, for a shallow wait. `woken`:
    /// something is said to be there.
    #[inline(always)]
    pub(crate) fn shallow(fd: RawFd, total: usize, flags: c_int, woken: bool) -> Self {
        Self {
            fd,
            dir: Direction::Read,
            total,
            flags,
            whole: false,
            shallow: true,
            hint: !woken,
        }
    }

    #[inline(always)]
    pub(crate) fn outgoing(fd: RawFd, total: usize, flags: c_int) -> Self {
        Self {
            fd,
            dir: Direction::Write,
            total: total.min(MOST_BYTES),
            flags,
            whole: true,
            shallow: false,
            hint: total > 0,
        }
    }

    /// Moves the bytes; `piece(done, mode)` moves what comes after `done`.
    #[inline(always)]
    pub(crate) fn run(
        self,
        cx: CurrentTask,
        mut piece: impl FnMut(usize, Mode) -> Answer,
    ) -> Answer {
        // These answer at once, whatever is or isn't there.
        let at_once = match self.dir {
            Direction::Read => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB,
            Direction::Write => libc::MSG_DONTWAIT,
        };
        if self.flags & at_once != 0 {
            return piece(0, Mode::Plain);
        }
        let mut context = WaitContext::new(self.fd, self.dir).shallow(self.shallow);
        let moved = until_done(cx, &mut context, self.hint, |mode| piece(0, mode))?;
        if self.settle(cx, moved, moved) || ended_short(self.fd) {
            return Ok(moved);
        }
        Ok(self.go_on(cx, &mut context, moved, piece))
    }

    /// Notes what a piece shows; whether the call is complete. `done` counts
    /// all pieces, `moved` the last.
    #[inline(always)]
    fn settle(self, cx: CurrentTask, done: usize, moved: usize) -> bool {
        let short = done < self.total;
        if short && moved > 0 && self.flags & libc::MSG_PEEK == 0 {
            cx.moved_short(self.fd, self.dir);
        }
        !short || moved == 0 || !self.whole
    }

    /// Moves the other pieces of a transfer that is to be whole. An error ends
    /// it short: the next call will meet it.
    #[cold]
    fn go_on(
        self,
        cx: CurrentTask,
        context: &mut WaitContext,
        mut done: usize,
        mut piece: impl FnMut(usize, Mode) -> Answer,
    ) -> usize {
        loop {
            let moved = until_done(cx, context, true, |mode| {
                if self.dir == Direction::Write && broken(self.fd) {
                    Ok(0)
                } else {
                    piece(done, mode)
                }
            });
            let Ok(moved) = moved else { return done };
            done += moved;
            if self.settle(cx, done, moved) || ended_short(self.fd) {
                return done;
            }
        }
    }
}

/// Whether a simulation has the call that was just made move a part, and no more.
#[inline(always)]
pub(crate) fn ended_short(fd: RawFd) -> bool {
    simulated::world().is_some_and(|world| world.ended_short(fd))
}

/// An error waits at `fd`, or nobody reads any more. After a partial send it must
/// stay there for the next call: trying would consume it, and raise SIGPIPE now.
#[cold]
pub(crate) fn broken(fd: RawFd) -> bool {
    poll_now(fd, 0) & (libc::POLLHUP | libc::POLLNVAL) != 0 || error_waits(fd)
}

/// The buffers of a vectored call.
#[derive(Clone, Copy)]
pub(crate) struct Buffers {
    pub(crate) first: *const iovec,
    pub(crate) count: usize,
}

impl Buffers {
    /// Nothing is read through the pointer if the kernel would refuse `count`.
    pub(crate) fn new(first: *const iovec, count: usize) -> Self {
        Self { first, count }
    }

    /// Whether the kernel takes none of such arguments, whatever the file.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    #[cold]
    pub(crate) unsafe fn refused(&self) -> bool {
        let too_long = |one: &iovec| isize::try_from(one.iov_len).is_err();
        // SAFETY: forwarded.
        self.count > MOST_BUFFERS || unsafe { self.all() }.iter().any(too_long)
    }

    /// # Safety
    ///
    /// - `first` points at `count` buffers (or `count` is more than allowed).
    unsafe fn all(&self) -> &[iovec] {
        if self.first.is_null() || self.count == 0 || self.count > MOST_BUFFERS {
            return &[];
        }
        // SAFETY: promised by the caller; an iovec has no invalid bytes.
        unsafe { std::slice::from_raw_parts(self.first, self.count) }
    }

    /// The bytes that one call moves at most.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    pub(crate) unsafe fn total(&self) -> usize {
        // SAFETY: forwarded.
        unsafe { self.all() }
            .iter()
            .fold(0, |sum: usize, one| sum.saturating_add(one.iov_len))
            .min(MOST_BYTES)
    }

    /// The first `most` bytes.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    pub(crate) unsafe fn first_bytes(&self, mut most: usize) -> Vec<iovec> {
        // SAFETY: forwarded.
        let mut all = unsafe { self.rest(0) };
        for one in &mut all {
            one.iov_len = one.iov_len.min(most);
            most -= one.iov_len;
        }
        all
    }

    /// What comes after `done` bytes, without the empty ones.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    pub(crate) unsafe fn rest(&self, mut done: usize) -> Vec<iovec> {
        // SAFETY: forwarded.
        let all = unsafe { self.all() }.iter();
        all.filter_map(|one| {
            let skipped = done.min(one.iov_len);
            done -= skipped;
            let rest = iovec {
                iov_base: one.iov_base.wrapping_byte_add(skipped),
                iov_len: one.iov_len - skipped,
            };
            (rest.iov_len > 0).then_some(rest)
        })
        .collect()
    }

    /// What comes after `done` bytes: the rest of a buffer (kept in `scratch`),
    /// or the whole buffers from there on.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    pub(crate) unsafe fn after(&self, mut done: usize, scratch: &mut iovec) -> Buffers {
        if done == 0 {
            return *self;
        }
        // SAFETY: forwarded.
        let all = unsafe { self.all() };
        for (at, one) in all.iter().enumerate() {
            if done < one.iov_len {
                if done == 0 {
                    return Buffers::new(one, all.len() - at);
                }
                *scratch = iovec {
                    iov_base: one.iov_base.wrapping_byte_add(done),
                    iov_len: one.iov_len - done,
                };
                return Buffers::new(scratch, 1);
            }
            done -= one.iov_len;
        }
        *self
    }
}

pub(crate) fn no_buffer() -> iovec {
    iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}
