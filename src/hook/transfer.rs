//! Bytes in and out: `read`, `recv`, `write`, `send` and their relatives.
//!
//! All are one [`Transfer`]: they differ in the system call that moves the
//! piece from byte `done` on, and in nothing else. Rules that hold for all:
//!
//! - per call non-blocking (`MSG_DONTWAIT`, `RWF_NOWAIT`), nothing is set on
//!   the descriptor;
//! - outgoing bytes are taken whole, as a blocking send does; an error after
//!   the first piece is left for the next call;
//! - a short transfer on a stream means drained, so the next one parks without
//!   a try; end of file and `MSG_PEEK` say nothing;
//! - `MSG_WAITALL` collects on streams, except with `MSG_PEEK` and with
//!   control data, where what is there is returned.

use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use libc::{iovec, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use super::engine::{Asker, Mode, event, gate, inside, poll_now, socket_number, until_done};
use super::raw::{Answer, sys, syscall};
use super::{fdflags, real};
use crate::driver::Direction;
use crate::sched::Cx;

/// The most buffers that the kernel takes in one call (`UIO_MAXIOV`).
const MOST_BUFFERS: usize = 1024;

/// What the engine must know of a call that moves bytes.
struct Transfer {
    fd: RawFd,
    dir: Direction,
    /// Bytes asked for.
    total: usize,
    /// Of `recv` and `send`; 0 for `read` and `write`.
    flags: c_int,
    /// Not done before `total` bytes are moved.
    whole: bool,
}

impl Transfer {
    fn incoming(fd: RawFd, total: usize, flags: c_int, control: bool) -> Self {
        let collect = flags & libc::MSG_WAITALL != 0
            && flags & libc::MSG_PEEK == 0
            && !control
            && socket_number(fd, libc::SO_TYPE) == Ok(libc::SOCK_STREAM);
        Self {
            fd,
            dir: Direction::Read,
            total,
            flags,
            whole: collect,
        }
    }

    fn outgoing(fd: RawFd, total: usize, flags: c_int) -> Self {
        Self {
            fd,
            dir: Direction::Write,
            total,
            flags,
            whole: true,
        }
    }

    /// Moves the bytes; `piece(done, mode)` moves what comes after `done`.
    #[inline]
    fn run(&self, cx: Cx, mut piece: impl FnMut(usize, Mode) -> Answer) -> Answer {
        let peek = self.flags & libc::MSG_PEEK != 0;
        // These answer at once, whatever is or isn't there.
        let at_once = match self.dir {
            Direction::Read => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB,
            Direction::Write => libc::MSG_DONTWAIT,
        };
        if self.flags & at_once != 0 {
            return piece(0, Mode::Plain);
        }
        let mut asker = Asker::new(self.fd, self.dir);
        let mut done = 0;
        loop {
            let moved = until_done(cx, &mut asker, self.total > 0, |mode| {
                if done > 0 && self.dir == Direction::Write && broken(self.fd) {
                    Ok(0)
                } else {
                    piece(done, mode)
                }
            });
            let moved = match moved {
                Ok(moved) => moved,
                Err(_) if done > 0 => return Ok(done),
                Err(code) => return Err(code),
            };
            done += moved;
            let short = done < self.total;
            if short && moved > 0 && !peek && cx.is_stream(self.fd) {
                cx.drained(self.fd, self.dir);
            }
            if !short || moved == 0 || !self.whole {
                return Ok(done);
            }
        }
    }
}

/// An error waits at `fd`. After a partial send it must stay there for the
/// next call: trying would consume it, and raise SIGPIPE now.
#[cold]
fn broken(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLOUT) & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
}

/// The buffers of a vectored call.
#[derive(Clone, Copy)]
struct Buffers {
    first: *const iovec,
    count: usize,
}

impl Buffers {
    /// Nothing is read through the pointer if the kernel would refuse `count`.
    fn new(first: *const iovec, count: usize) -> Self {
        Self { first, count }
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

    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    unsafe fn total(&self) -> usize {
        // SAFETY: forwarded.
        unsafe { self.all() }
            .iter()
            .fold(0, |sum, one| sum.saturating_add(one.iov_len))
    }

    /// What comes after `done` bytes: the rest of a buffer (kept in `scratch`),
    /// or the whole buffers from there on.
    ///
    /// # Safety
    ///
    /// - As for [`all`](Self::all).
    unsafe fn after(&self, mut done: usize, scratch: &mut iovec) -> Buffers {
        // SAFETY: forwarded.
        let all = if done == 0 {
            &[]
        } else {
            unsafe { self.all() }
        };
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

fn no_buffer() -> iovec {
    iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

/// `read`/`write` on any descriptor: `preadv2`/`pwritev2` at the file's own
/// position without waiting; where that does not exist, `poll` first.
///
/// # Safety
///
/// - `buffers` are valid for the direction.
unsafe fn vector(fd: RawFd, dir: Direction, buffers: Buffers, mode: Mode) -> Answer {
    let (nowait, plain): (c_long, c_long) = match dir {
        Direction::Read => (libc::SYS_preadv2, libc::SYS_readv),
        Direction::Write => (libc::SYS_pwritev2, libc::SYS_writev),
    };
    let [fd_arg, first, count] = [fd as usize, buffers.first as usize, buffers.count];
    if mode == Mode::NoWait {
        if !fdflags::known(fd, fdflags::POLL_FIRST) {
            let here = -1isize as usize;
            let args = [fd_arg, first, count, here, here, libc::RWF_NOWAIT as usize];
            // SAFETY: the caller's buffers.
            match unsafe { syscall(nowait, args) } {
                Err(libc::EOPNOTSUPP | libc::ENOSYS) => {
                    fdflags::Question::begin(fd).learned(fdflags::POLL_FIRST);
                }
                // Some files refuse the flag, others the arguments.
                Err(libc::EINVAL) => {}
                answer => return answer,
            }
        }
        if poll_now(fd, event(dir)) == 0 {
            return Err(libc::EAGAIN);
        }
    }
    // SAFETY: the caller's buffers.
    unsafe { syscall(plain, [fd_arg, first, count, 0, 0, 0]) }
}

/// # Safety
///
/// - As for `readv`.
unsafe fn read_vector(cx: Cx, fd: RawFd, buffers: Buffers) -> ssize_t {
    // SAFETY: the caller's buffers, for this and all closures below.
    let total = unsafe { buffers.total() };
    inside(cx, || {
        Transfer::incoming(fd, total, 0, false).run(cx, |_, mode| {
            // SAFETY: as above.
            let got = unsafe { vector(fd, Direction::Read, buffers, mode) }?;
            if got == 0 || got >= total || mode == Mode::Plain || !is_file(cx, fd) {
                return Ok(got);
            }
            // A file gives without waiting only what is in memory already,
            // but a reader of files expects all that there is.
            let mut scratch = no_buffer();
            // SAFETY: as above.
            let rest = unsafe {
                vector(
                    fd,
                    Direction::Read,
                    buffers.after(got, &mut scratch),
                    Mode::Plain,
                )
            };
            Ok(got + rest.unwrap_or(0))
        })
    })
}

/// A regular file; what is not one is remembered.
fn is_file(cx: Cx, fd: RawFd) -> bool {
    if fdflags::known(fd, fdflags::NOT_A_FILE) || cx.is_stream(fd) {
        return false;
    }
    let question = fdflags::Question::begin(fd);
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a place for the answer; zeros are a valid `stat`.
    let mode = unsafe {
        let asked = sys!(SYS_fstat, fd, stat.as_mut_ptr());
        if asked.is_err() {
            0
        } else {
            stat.assume_init().st_mode & libc::S_IFMT
        }
    };
    let file = mode == libc::S_IFREG;
    if !file {
        question.learned(fdflags::NOT_A_FILE);
    }
    file
}

/// # Safety
///
/// - As for `writev`.
unsafe fn write_vector(cx: Cx, fd: RawFd, buffers: Buffers) -> ssize_t {
    // SAFETY: the caller's buffers, for the closure too.
    let total = unsafe { buffers.total() };
    inside(cx, || {
        Transfer::outgoing(fd, total, 0).run(cx, |done, mode| {
            let mut scratch = no_buffer();
            // SAFETY: as above.
            unsafe {
                vector(
                    fd,
                    Direction::Write,
                    buffers.after(done, &mut scratch),
                    mode,
                )
            }
        })
    })
}

/// The coroutine, unless `fd` is stdout or stderr: `println!` holds a lock by
/// thread while it writes, so nobody else may run meanwhile.
#[inline(always)]
fn writer_gate(fd: RawFd) -> Option<Cx> {
    gate().filter(|_| fd != libc::STDOUT_FILENO && fd != libc::STDERR_FILENO)
}

/// The flags of one try.
fn with(flags: c_int, mode: Mode) -> c_int {
    match mode {
        Mode::NoWait => flags | libc::MSG_DONTWAIT,
        Mode::Plain => flags,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, n: size_t) -> ssize_t {
    // SAFETY: the caller's buffer of `n` bytes.
    unsafe {
        match gate() {
            None => real::read(fd, buf, n),
            Some(cx) => read_vector(
                cx,
                fd,
                Buffers::new(
                    &iovec {
                        iov_base: buf,
                        iov_len: n,
                    },
                    1,
                ),
            ),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's buffers.
    unsafe {
        match gate() {
            None => real::readv(fd, iov, count),
            Some(cx) => read_vector(cx, fd, Buffers::new(iov, count as usize)),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
    // SAFETY: the caller's buffer of `n` bytes.
    unsafe {
        match writer_gate(fd) {
            None => real::write(fd, buf, n),
            Some(cx) => write_vector(
                cx,
                fd,
                Buffers::new(
                    &iovec {
                        iov_base: buf.cast_mut(),
                        iov_len: n,
                    },
                    1,
                ),
            ),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's buffers.
    unsafe {
        match writer_gate(fd) {
            None => real::writev(fd, iov, count),
            Some(cx) => write_vector(cx, fd, Buffers::new(iov, count as usize)),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t {
    let none = std::ptr::null_mut();
    // SAFETY: the caller's buffer of `n` bytes.
    unsafe {
        match gate() {
            None => real::recv(fd, buf, n, flags),
            Some(cx) => receive_from(cx, fd, buf, n, flags, none, none.cast()),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the caller's buffer and address.
    unsafe {
        match gate() {
            None => real::recvfrom(fd, buf, n, flags, addr, len),
            Some(cx) => receive_from(cx, fd, buf, n, flags, addr.cast(), len),
        }
    }
}

/// # Safety
///
/// - As for `recvfrom`.
#[inline]
unsafe fn receive_from(
    cx: Cx,
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
    addr: *mut c_void,
    len: *mut socklen_t,
) -> ssize_t {
    inside(cx, || {
        Transfer::incoming(fd, n, flags, false).run(cx, |done, mode| {
            let rest = buf.wrapping_byte_add(done);
            // SAFETY: the caller's buffer from `done` on, and his address.
            unsafe {
                sys!(
                    SYS_recvfrom,
                    fd,
                    rest,
                    n - done,
                    with(flags, mode),
                    addr,
                    len
                )
            }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, buf: *const c_void, n: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the caller's buffer of `n` bytes.
    unsafe {
        match gate() {
            None => real::send(fd, buf, n, flags),
            Some(cx) => send_to(cx, fd, buf, n, flags, std::ptr::null(), 0),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    buf: *const c_void,
    n: size_t,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    // SAFETY: the caller's buffer and address.
    unsafe {
        match gate() {
            None => real::sendto(fd, buf, n, flags, addr, len),
            Some(cx) => send_to(cx, fd, buf, n, flags, addr, len),
        }
    }
}

/// # Safety
///
/// - As for `sendto`.
#[inline]
unsafe fn send_to(
    cx: Cx,
    fd: c_int,
    buf: *const c_void,
    n: size_t,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    inside(cx, || {
        Transfer::outgoing(fd, n, flags).run(cx, |done, mode| {
            let rest = buf.wrapping_byte_add(done);
            // SAFETY: the caller's buffer from `done` on, and his address.
            unsafe { sys!(SYS_sendto, fd, rest, n - done, with(flags, mode), addr, len) }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller's header, if it is one.
    let (Some(cx), Some(header)) = (gate(), unsafe { msg.as_ref() }) else {
        // SAFETY: the caller's arguments.
        return unsafe { real::recvmsg(fd, msg, flags) };
    };
    let buffers = Buffers::new(header.msg_iov, header.msg_iovlen);
    let control = header.msg_controllen > 0;
    inside(cx, || {
        // SAFETY: the header's buffers, for the closure too.
        let total = unsafe { buffers.total() };
        Transfer::incoming(fd, total, flags, control).run(cx, |done, mode| {
            if done == 0 {
                // SAFETY: the caller's header.
                return unsafe { sys!(SYS_recvmsg, fd, msg, with(flags, mode)) };
            }
            let mut scratch = no_buffer();
            // SAFETY: a header of our own around the header's buffers.
            unsafe {
                let mut more = continued(buffers.after(done, &mut scratch));
                sys!(SYS_recvmsg, fd, &raw mut more, with(flags, mode))
            }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller's header, if it is one.
    let (Some(cx), Some(header)) = (gate(), unsafe { msg.as_ref() }) else {
        // SAFETY: the caller's arguments.
        return unsafe { real::sendmsg(fd, msg, flags) };
    };
    let buffers = Buffers::new(header.msg_iov, header.msg_iovlen);
    inside(cx, || {
        // SAFETY: the header's buffers, for the closure too.
        let total = unsafe { buffers.total() };
        Transfer::outgoing(fd, total, flags).run(cx, |done, mode| {
            if done == 0 {
                // SAFETY: the caller's header.
                return unsafe { sys!(SYS_sendmsg, fd, msg, with(flags, mode)) };
            }
            // Descriptors and credentials went with the first piece.
            let mut scratch = no_buffer();
            // SAFETY: a header of our own around the header's buffers.
            unsafe {
                let more = continued(buffers.after(done, &mut scratch));
                sys!(SYS_sendmsg, fd, &raw const more, with(flags, mode))
            }
        })
    })
}

/// A header for the pieces after the first.
fn continued(buffers: Buffers) -> msghdr {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = buffers.first.cast_mut();
    header.msg_iovlen = buffers.count;
    header
}

/// In a coroutine both say `EINVAL`: their manual pages ask callers to fall
/// back to `read` and `write` then (std's `io::copy` does), and those park.
/// They have no non-blocking form that socket ends obey.
fn refuse(cx: Cx) -> ssize_t {
    inside(cx, || Err(libc::EINVAL))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile(out: c_int, from: c_int, offset: *mut i64, n: size_t) -> ssize_t {
    match gate() {
        // SAFETY: the caller's arguments.
        None => unsafe { real::sendfile(out, from, offset, n) },
        Some(cx) => refuse(cx),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile64(out: c_int, from: c_int, offset: *mut i64, n: size_t) -> ssize_t {
    // SAFETY: the same function where `off_t` has 64 bits.
    unsafe { sendfile(out, from, offset, n) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn splice(
    from: c_int,
    from_at: *mut i64,
    to: c_int,
    to_at: *mut i64,
    n: size_t,
    flags: libc::c_uint,
) -> ssize_t {
    match gate() {
        // SAFETY: the caller's arguments.
        None => unsafe { real::splice(from, from_at, to, to_at, n, flags) },
        Some(cx) => refuse(cx),
    }
}
