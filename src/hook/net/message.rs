//! `recv`, `recvfrom`, `recvmsg`, `send`, `sendto`, `sendmsg`: the calls of
//! sockets, which have flags.

use std::ffi::{c_int, c_void};

use libc::{msghdr, size_t, sockaddr, socklen_t, ssize_t};

use crate::driver::Direction;
use crate::hook::libc::hook;
use crate::hook::wait::call::{On, cancellable_on, in_coroutine};
use crate::hook::wait::retry::Mode;
use crate::hook::wait::shallow;
use crate::hook::wait::transfer::{Buffers, Transfer, broken, no_buffer};
use crate::sched::CurrentTask;
use crate::sys::fd::nonblocking::is_nonblocking;
use crate::sys::syscall::{Answer, Errno, sys};

/// The flags of one try.
pub(crate) fn with(flags: c_int, mode: Mode) -> c_int {
    match mode {
        Mode::NoWait => flags | libc::MSG_DONTWAIT,
        Mode::Plain => flags,
    }
}

hook!(
    next_or(SYS_recvfrom),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn recv(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's buffer of `n` bytes.
        unsafe {
            if n == 0 || flags & !libc::MSG_PEEK != 0 {
                receive_specially(cx, fd, buf, n, flags)
            } else {
                receive_waiting(fd, buf, n, flags)
            }
        }
    }
);

/// `recv` of nothing, or with flags.
///
/// # Safety
///
/// - As for `recv`.
#[cold]
#[inline(never)]
unsafe fn receive_specially(
    cx: CurrentTask,
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's buffer.
    unsafe { receive(cx, fd, buf, n, flags, None) }
}

/// `recv` of some bytes without flags, or of what stays there. Its frame is all
/// of ours that the coroutine keeps while it waits.
///
/// # Safety
///
/// - As for `recv`, in a coroutine.
#[inline(never)]
unsafe fn receive_waiting(fd: c_int, buf: *mut c_void, n: size_t, flags: c_int) -> ssize_t {
    shallow::wait(
        fd,
        // SAFETY: the caller's arguments.
        move |saved, woken| unsafe { receive_or_wait(fd, buf, n, flags, saved, woken) },
        // SAFETY: the same.
        move |cx| unsafe { receive(cx, fd, buf, n, flags, None) },
    )
}

/// # Safety
///
/// - As for `recv`, in a coroutine.
#[inline(never)]
unsafe fn receive_or_wait(
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
    saved: Errno,
    woken: bool,
) -> ssize_t {
    shallow::attempt(saved, On::Socket(fd, Direction::Read, flags), move |cx| {
        Transfer::shallow(fd, n, flags, woken).run(cx, move |_, mode| {
            // SAFETY: the caller's buffer.
            unsafe { sys!(SYS_recvfrom, fd, buf, n, with(flags, mode), 0, 0) }
        })
    })
}

hook!(
    next_or(SYS_recvfrom),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn recvfrom(
        fd: c_int,
        buf: *mut c_void,
        n: size_t,
        flags: c_int,
        addr: *mut sockaddr,
        len: *mut socklen_t,
    ) -> ssize_t {
        // SAFETY: the caller's buffer and address.
        unsafe { receive(cx, fd, buf, n, flags, Some(&Peer { addr, len })) }
    }
);

/// Where the other side's address is or goes, if the caller asks.
struct Peer<A, L> {
    addr: A,
    len: L,
}

/// Six arguments, so that its callers end with a jump here: their frames are none of
/// the parked coroutine's.
///
/// # Safety
///
/// - As for `recvfrom`.
#[inline(never)]
unsafe fn receive(
    cx: CurrentTask,
    fd: c_int,
    buf: *mut c_void,
    n: size_t,
    flags: c_int,
    peer: Option<&Peer<*mut sockaddr, *mut socklen_t>>,
) -> ssize_t {
    cancellable_on(cx, On::Socket(fd, Direction::Read, flags), move || {
        Transfer::incoming(fd, n, flags, false).run(cx, move |done, mode| {
            let none = (std::ptr::null_mut(), std::ptr::null_mut());
            let (addr, len) = peer.map_or(none, |peer| (peer.addr, peer.len));
            let rest = buf.wrapping_byte_add(done);
            // SAFETY: the caller's buffer from `done` on, and its address.
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

hook!(
    next_or(SYS_sendto),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn send(
        fd: c_int,
        buf: *const c_void,
        n: size_t,
        flags: c_int,
    ) -> ssize_t {
        // SAFETY: the caller's buffer of `n` bytes.
        unsafe { transmit(cx, fd, buf, n, flags, None) }
    }
);

hook!(
    next_or(SYS_sendto),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn sendto(
        fd: c_int,
        buf: *const c_void,
        n: size_t,
        flags: c_int,
        addr: *const sockaddr,
        len: socklen_t,
    ) -> ssize_t {
        // SAFETY: the caller's buffer and address.
        unsafe { transmit(cx, fd, buf, n, flags, Some(&Peer { addr, len })) }
    }
);

/// A send that was to connect as well has begun to: it goes on, as a plain one,
/// when the connection is made.
#[inline(always)]
fn started(sent: Answer, fd: c_int, flags: &mut c_int, mode: Mode) -> Answer {
    match sent {
        Err(libc::EINPROGRESS) if mode == Mode::NoWait && is_nonblocking(fd) == Ok(false) => {
            *flags &= !libc::MSG_FASTOPEN;
            Err(libc::EAGAIN)
        }
        sent => sent,
    }
}

/// As [`receive`].
///
/// # Safety
///
/// - As for `sendto`.
#[inline(never)]
unsafe fn transmit(
    cx: CurrentTask,
    fd: c_int,
    buf: *const c_void,
    n: size_t,
    flags: c_int,
    peer: Option<&Peer<*const sockaddr, socklen_t>>,
) -> ssize_t {
    cancellable_on(cx, On::Socket(fd, Direction::Write, flags), move || {
        let mut flags = flags;
        Transfer::outgoing(fd, n, flags).run(cx, move |done, mode| {
            let none = (std::ptr::null(), 0);
            let (addr, len) = peer.map_or(none, |peer| (peer.addr, peer.len));
            let rest = buf.wrapping_byte_add(done);
            // SAFETY: the caller's buffer from `done` on, and its address.
            let sent =
                unsafe { sys!(SYS_sendto, fd, rest, n - done, with(flags, mode), addr, len) };
            started(sent, fd, &mut flags, mode)
        })
    })
}

hook!(
    next_or(SYS_recvmsg),
    // SAFETY: the caller's header, if it is one.
    Some((cx, header)) = in_coroutine().zip(unsafe { msg.as_ref() }),
    unsafe extern "C-unwind" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
        let buffers = Buffers::new(header.msg_iov, header.msg_iovlen);
        let control = header.msg_controllen > 0;
        cancellable_on(cx, On::Socket(fd, Direction::Read, flags), || {
            // SAFETY: the header's buffers, for the closure too.
            let total = unsafe { buffers.total() };
            Transfer::incoming(fd, total, flags, control).run(cx, move |done, mode| {
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
);

hook!(
    next_or(SYS_sendmsg),
    // SAFETY: the caller's header, if it is one.
    Some((cx, header)) = in_coroutine().zip(unsafe { msg.as_ref() }),
    unsafe extern "C-unwind" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
        // SAFETY: the caller's message.
        cancellable_on(cx, On::Socket(fd, Direction::Write, flags), || unsafe {
            finish(cx, fd, header, 0, flags)
        })
    }
);

/// Sends what comes after `before` bytes of a message; says how many of all
/// its bytes were taken.
///
/// # Safety
///
/// - As for `sendmsg`.
pub(crate) unsafe fn finish(
    cx: CurrentTask,
    fd: c_int,
    header: &msghdr,
    before: usize,
    flags: c_int,
) -> Answer {
    let buffers = Buffers::new(header.msg_iov, header.msg_iovlen);
    // SAFETY: the header's buffers, for the closure too.
    let total = unsafe { buffers.total() };
    let rest = Transfer::outgoing(fd, total - before.min(total), flags);
    let mut flags = flags;
    let sent = rest.run(cx, |done, mode| {
        if before + done == 0 {
            // SAFETY: the caller's header.
            let sent = unsafe {
                sys!(
                    SYS_sendmsg,
                    fd,
                    std::ptr::from_ref(header),
                    with(flags, mode)
                )
            };
            return started(sent, fd, &mut flags, mode);
        }
        if done == 0 && broken(fd) {
            return Ok(0);
        }
        // Descriptors and credentials went with the first piece.
        let mut scratch = no_buffer();
        // SAFETY: a header of our own around the header's buffers.
        unsafe {
            let more = continued(buffers.after(before + done, &mut scratch));
            sys!(SYS_sendmsg, fd, &raw const more, with(flags, mode))
        }
    })?;
    Ok(before + sent)
}

/// A header for the pieces after the first.
fn continued(buffers: Buffers) -> msghdr {
    // SAFETY: null pointers and zero lengths are a valid header.
    let mut header: msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = buffers.first.cast_mut();
    header.msg_iovlen = buffers.count;
    header
}
