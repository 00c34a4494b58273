//! Copies to and from pipes: `splice`, `tee`, `vmsplice`.
//!
//! A call waits for both of its ends, and each end has its own say on that, as in the
//! kernel:
//!
//! | end | a wait for it is made unless |
//! |---|---|
//! | the pipe | `SPLICE_F_NONBLOCK`, or its `O_NONBLOCK` |
//! | either of two pipes | the same, or the `O_NONBLOCK` of the other |
//! | a Unix stream that is read | its own `O_NONBLOCK`, or a pipe that is not waited for |
//! | any other file | its own `O_NONBLOCK` |
//!
//! Pipes obey `SPLICE_F_NONBLOCK`: the call is made with it once both ends are ready.
//! Sockets and terminals do not. What is to go there blocks in the kernel while they are
//! full, so it goes through a buffer (`through_buffer`): a read, and writes that park.

use std::ffi::{c_int, c_uint};
use std::os::fd::RawFd;

use libc::{iovec, size_t, ssize_t};

use crate::driver::Direction;
use crate::hook::files::through_buffer::{Source, through_buffer};
use crate::hook::libc::hook;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{On, cancellable, cancellable_on, in_coroutine, park_until_ready};
use crate::hook::wait::retry::WaitContext;
use crate::hook::wait::transfer::broken;
use crate::sched::CurrentTask;
use crate::sys::fcntl::status_flags;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::ready::{error_waits, poll_now};
use crate::sys::sockopt::{self, listens};
use crate::sys::stat::{identity, is_pipe, kind};
use crate::sys::syscall::{Answer, Errno, sys};
use crate::sys::terminal::is_terminal;

/// All flags that there are.
const FLAGS: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

hook!(
    next_or(SYS_splice),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn splice(
        from: c_int,
        from_at: *mut i64,
        to: c_int,
        to_at: *mut i64,
        n: size_t,
        flags: c_uint,
    ) -> ssize_t {
        let on = match flags & libc::SPLICE_F_NONBLOCK == 0 && n > 0 {
            true => On::Fd(to, Direction::Write),
            false => On::Socket(to, Direction::Write, libc::MSG_DONTWAIT),
        };
        let ends = SplicedEnds { from, to, flags };
        // SAFETY: the caller's arguments.
        let call = |more| unsafe { sys!(SYS_splice, from, from_at, to, to_at, n, flags | more) };
        cancellable_on(cx, on, || {
            let pipes = (is_pipe(from), is_pipe(to));
            let misplaced = pipes.0 && !from_at.is_null() || pipes.1 && !to_at.is_null();
            if n == 0 || misplaced || ends.are_refused() {
                return call(0);
            }
            match pipes {
                (true, true) => ends.between_pipes(cx, call),
                (false, true) => ends.into_pipe(cx, n, call),
                (true, false) if may_wait(to) => ends.out_of_pipe(cx, n, call),
                // It is refused at once.
                _ => call(0),
            }
        })
    }
);

hook!(
    next_or(SYS_tee),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn tee(from: c_int, to: c_int, n: size_t, flags: c_uint) -> ssize_t {
        let ends = SplicedEnds { from, to, flags };
        // SAFETY: no pointers.
        let call = |more: c_uint| unsafe { sys!(SYS_tee, from, to, n, flags | more) };
        cancellable(cx, || {
            let pipes = is_pipe(from) && is_pipe(to);
            match n > 0 && pipes && !ends.are_refused() {
                true => ends.between_pipes(cx, call),
                false => call(0),
            }
        })
    }
);

hook!(
    next_or(SYS_vmsplice),
    Some(cx) = in_coroutine().filter(|_| flags & libc::SPLICE_F_NONBLOCK == 0),
    /// Not told by `O_NONBLOCK`, but by its flag alone.
    unsafe extern "C-unwind" fn vmsplice(
        fd: c_int,
        iov: *const iovec,
        count: size_t,
        flags: c_uint,
    ) -> ssize_t {
        let flags = flags | libc::SPLICE_F_NONBLOCK;
        // SAFETY: the caller's buffers.
        let try_now = || unsafe { sys!(SYS_vmsplice, fd, iov, count, flags) };
        cancellable(cx, || {
            loop {
                match try_now() {
                    Err(libc::EAGAIN) => park_until_ready(cx, fd, end_of_pipe(fd)?, None)?,
                    answer => return answer,
                }
            }
        })
    }
);

/// What is done at this end of a pipe.
fn end_of_pipe(fd: RawFd) -> Result<Direction, Errno> {
    match status_flags(fd)? & libc::O_ACCMODE {
        libc::O_RDONLY => Ok(Direction::Read),
        _ => Ok(Direction::Write),
    }
}

/// What is neither a pipe nor refused: anonymous files can't be spliced.
fn may_wait(fd: RawFd) -> bool {
    kind(fd) != 0
}

/// Not a full error queue: that is nothing to take. What listens refuses.
fn has_something(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLIN) & !libc::POLLERR != 0 || error_waits(fd) || listens(fd)
}

pub(super) fn has_room(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLOUT) != 0
}

/// The ends of one call, and its flags.
#[derive(Clone, Copy)]
struct SplicedEnds {
    from: RawFd,
    to: RawFd,
    flags: c_uint,
}

impl SplicedEnds {
    /// Whether the kernel refuses the call at once, whatever is or isn't there.
    fn are_refused(self) -> bool {
        let unfit = |fd, mode| status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE == mode);
        self.flags & !FLAGS != 0
            || unfit(self.from, libc::O_WRONLY)
            || unfit(self.to, libc::O_RDONLY)
            || identity(self.from) == identity(self.to)
    }

    fn waits_by_flag(self) -> bool {
        self.flags & libc::SPLICE_F_NONBLOCK == 0
    }

    fn between_pipes(self, cx: CurrentTask, call: impl Fn(c_uint) -> Answer) -> Answer {
        let Self { from, to, .. } = self;
        if !self.waits_by_flag() || is_nonblocking(from)? || is_nonblocking(to)? {
            return call(0);
        }
        let mut backoff = Backoff::new();
        loop {
            if !has_something(from) {
                wait(cx, from, Direction::Read)?;
            } else if !has_room(to) {
                wait(cx, to, Direction::Write)?;
            } else {
                match call(libc::SPLICE_F_NONBLOCK) {
                    Err(libc::EAGAIN) => backoff.pause(cx, None)?,
                    answer => return answer,
                }
            }
        }
    }

    /// From a socket, a file or a device. Room comes first, as in the kernel.
    fn into_pipe(self, cx: CurrentTask, n: usize, call: impl Fn(c_uint) -> Answer) -> Answer {
        let Self { from, to, .. } = self;
        status_flags(from)?;
        let pipe_waits = self.waits_by_flag() && !is_nonblocking(to)?;
        let source_waits =
            may_wait(from) && !is_nonblocking(from)? && (pipe_waits || !is_unix_stream(from));
        let mut backoff = Backoff::new();
        loop {
            if pipe_waits && !has_room(to) {
                wait(cx, to, Direction::Write)?;
                continue;
            }
            let room = has_room(to);
            if room && source_waits && !has_something(from) {
                wait(cx, from, Direction::Read)?;
                continue;
            }
            if room && source_waits && is_terminal(from) {
                // Its bytes may be fewer than it waits for (`VMIN`).
                return through_buffer(Source::of(from), to, n.min(libc::PIPE_BUF), 0);
            }
            match call(libc::SPLICE_F_NONBLOCK) {
                // Another was faster at the end that is waited for.
                Err(libc::EAGAIN)
                    if if has_room(to) {
                        source_waits
                    } else {
                        pipe_waits
                    } =>
                {
                    backoff.pause(cx, None)?;
                }
                answer => return answer,
            }
        }
    }

    /// To a socket, a file or a device. Bytes come first, as in the kernel.
    fn out_of_pipe(self, cx: CurrentTask, n: usize, call: impl Fn(c_uint) -> Answer) -> Answer {
        let Self { from, to, .. } = self;
        if status_flags(to)? & libc::O_APPEND != 0 {
            return call(0);
        }
        let pipe_waits = self.waits_by_flag() && !is_nonblocking(from)?;
        let may_be_full = kind(to) == libc::S_IFSOCK || is_terminal(to);
        let target_waits = may_be_full && !is_nonblocking(to)?;
        loop {
            if !has_something(from) {
                if !pipe_waits {
                    return Err(libc::EAGAIN);
                }
                wait(cx, from, Direction::Read)?;
                continue;
            }
            if target_waits && !broken(to) {
                let more = match self.flags & libc::SPLICE_F_MORE {
                    0 => 0,
                    _ => libc::MSG_MORE,
                };
                return through_buffer(Source::of(from), to, n, more);
            }
            match call(libc::SPLICE_F_NONBLOCK) {
                // Another was faster.
                Err(libc::EAGAIN) if pipe_waits && !has_something(from) => {}
                answer => return answer,
            }
        }
    }
}

fn is_unix_stream(fd: RawFd) -> bool {
    sockopt::number(fd, libc::SO_DOMAIN) == Ok(libc::AF_UNIX)
        && sockopt::number(fd, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// Parks until ready, for as long as a socket's time limit says.
pub(super) fn wait(cx: CurrentTask, fd: RawFd, dir: Direction) -> Result<(), Errno> {
    let deadline = WaitContext::new(fd, dir).deadline()?;
    match park_until_ready(cx, fd, dir, deadline) {
        Err(libc::ETIMEDOUT) => Err(libc::EAGAIN),
        waited => waited,
    }
}
