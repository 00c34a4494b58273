//! Connections: `accept` and `connect`, the two calls without a non-blocking flag.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::time::Instant;

use libc::{sockaddr, socklen_t};

use crate::driver::Direction;
use crate::hook::fd::{lifecycle, lingering};
use crate::hook::libc::hook;
use crate::hook::poll::poll;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::{On, cancellable_on, in_coroutine, park_until_ready};
use crate::hook::wait::retry::{Mode, WaitContext, time_limit, until_done};
use crate::sched::CurrentTask;
use crate::sys::fcntl::{set_status_flags, status_flags};
use crate::sys::fd::{shared_listener, table};
use crate::sys::ready::poll_now;
use crate::sys::simulated;
use crate::sys::sockopt::{self, listens};
use crate::sys::syscall::{Answer, Errno, errno, set_errno, sys};

hook!(
    next_or(SYS_accept4),
    unsafe extern "C-unwind" fn accept(
        fd: c_int,
        addr: *mut sockaddr,
        len: *mut socklen_t,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            match in_coroutine() {
                None => lifecycle::opened(on_thread(fd, || accept::next(fd, addr, len))),
                Some(cx) => accept_in_coroutine(cx, fd, addr, len, 0),
            }
        }
    }
);

hook!(
    next_or(SYS_accept4),
    unsafe extern "C-unwind" fn accept4(
        fd: c_int,
        addr: *mut sockaddr,
        len: *mut socklen_t,
        flags: c_int,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe {
            match in_coroutine() {
                None => lifecycle::opened(on_thread(fd, || accept4::next(fd, addr, len, flags))),
                Some(cx) => accept_in_coroutine(cx, fd, addr, len, flags),
            }
        }
    }
);

/// Accepts on a plain thread: as libc does, also where we have made the
/// listener non-blocking.
fn on_thread(fd: RawFd, accept: impl Fn() -> c_int) -> c_int {
    shared_listener::about_to_accept(fd, false);
    loop {
        let accepted = accept();
        if accepted >= 0 || errno() != libc::EAGAIN || !shared_listener::is_shared(fd) {
            return accepted;
        }
        let mut entry = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let limit = time_limit(fd, Direction::Read).map_or(-1, |limit| {
            c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX)
        });
        // SAFETY: one entry, which lives across the call.
        match unsafe { poll::next(&raw mut entry, 1, limit) } {
            0 => {
                set_errno(libc::EAGAIN);
                return -1;
            }
            ready if ready < 0 => return ready,
            _ => {}
        }
    }
}

/// Asks `poll`, then accepts. What happens when another thread takes the
/// connection in between is `fd/shared_listener.rs`'s business.
///
/// # Safety
///
/// - As for `accept4`.
unsafe fn accept_in_coroutine(
    cx: CurrentTask,
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) -> c_int {
    shared_listener::about_to_accept(fd, true);
    let mut context = WaitContext::new(fd, Direction::Read);
    let accepted = cancellable_on(cx, On::Fd(fd, Direction::Read), || {
        until_done(cx, &mut context, true, |mode| {
            // What does not listen is left to `accept4`, which refuses it at once.
            if mode == Mode::NoWait && poll_now(fd, libc::POLLIN) == 0 && listens(fd) {
                return Err(libc::EAGAIN);
            }
            // SAFETY: the caller's arguments.
            unsafe { sys!(SYS_accept4, fd, addr, len, flags) }
        })
    });
    lifecycle::opened(accepted)
}

hook!(
    next_or(SYS_connect),
    Some(cx) = in_coroutine(),
    unsafe extern "C-unwind" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        // SAFETY: the caller's arguments.
        cancellable_on(cx, On::Connection(fd), || unsafe {
            connect_in_coroutine(cx, fd, addr, len)
        })
    }
);

/// # Safety
///
/// - As for `connect`.
unsafe fn connect_in_coroutine(
    cx: CurrentTask,
    fd: RawFd,
    addr: *const sockaddr,
    len: socklen_t,
) -> Answer {
    let flags = status_flags(fd)?;
    // SAFETY: the caller's address, for every call of this.
    let plain = || unsafe { sys!(SYS_connect, fd, addr, len) };
    if flags & libc::O_NONBLOCK != 0 || !has_connections(fd) {
        return plain();
    }
    cx.spend_for(AS_LONG_AS);
    let started = without_waiting(fd, plain);
    let mut context = WaitContext::new(fd, Direction::Write);
    match started {
        Err(code @ (libc::EINPROGRESS | libc::EALREADY)) => {
            let deadline = context.deadline()?;
            if let Some(world) = simulated::world() {
                world.refuses(fd, false)?;
            }
            match settled(cx, fd, deadline) {
                Ok(()) => {}
                // As the kernel says when SO_SNDTIMEO runs out.
                Err(libc::ETIMEDOUT) => return Err(code),
                Err(code) => return Err(code),
            }
            // SAFETY: a socket address begins with its family.
            let family = c_int::from(unsafe { (*addr).sa_family });
            if family == libc::AF_INET || family == libc::AF_INET6 {
                // Once settled, connecting again does not wait: it fetches the
                // result and moves the socket's state as a blocking call would.
                return plain();
            }
            match sockopt::number(fd, libc::SO_ERROR)? {
                0 => Ok(0),
                code => Err(code),
            }
        }
        Err(libc::EAGAIN) => full_backlog(cx, context.deadline()?, || without_waiting(fd, plain)),
        answer => answer,
    }
}

/// Whether to connect it may take time: a socket of datagrams only notes the address.
fn has_connections(fd: RawFd) -> bool {
    let kind = sockopt::number(fd, libc::SO_TYPE);
    matches!(
        kind,
        Ok(libc::SOCK_STREAM | libc::SOCK_SEQPACKET | libc::SOCK_DCCP)
    )
}

/// Runs `call` with `O_NONBLOCK`: for this one call, never while parked. Other flags are
/// as another thread may have set them since.
fn without_waiting(fd: RawFd, call: impl FnOnce() -> Answer) -> Answer {
    let flags = status_flags(fd)?;
    if flags & libc::O_NONBLOCK != 0 {
        return call();
    }
    set_status_flags(fd, flags | libc::O_NONBLOCK)?;
    let answer = call();
    // They are valid.
    let _ = set_status_flags(fd, status_flags(fd)? & !libc::O_NONBLOCK);
    answer
}

/// Parks until the connection is made or has failed.
fn settled(cx: CurrentTask, fd: RawFd, deadline: Option<Instant>) -> Result<(), Errno> {
    loop {
        if poll_now(fd, libc::POLLOUT) != 0 {
            return Ok(());
        }
        if let Err(code) = park_until_ready(cx, fd, Direction::Write, deadline) {
            let late = code == libc::ETIMEDOUT && poll_now(fd, libc::POLLOUT) != 0;
            return if late { Ok(()) } else { Err(code) };
        }
    }
}

/// A Unix listener whose backlog is full gives no sign of room.
fn full_backlog(
    cx: CurrentTask,
    deadline: Option<Instant>,
    mut call: impl FnMut() -> Answer,
) -> Answer {
    let mut backoff = Backoff::new();
    loop {
        match backoff.pause(cx, deadline) {
            Err(libc::ETIMEDOUT) => return call(),
            paused => paused?,
        }
        match call() {
            Err(libc::EAGAIN) => {}
            answer => return answer,
        }
    }
}

hook!(
    next_or(SYS_setsockopt),
    unsafe extern "C-unwind" fn setsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: socklen_t,
    ) -> c_int {
        // SAFETY: the caller's arguments.
        let result = unsafe { setsockopt::next(fd, level, name, value, len) };
        if level == libc::SOL_SOCKET && TIME_LIMITS.contains(&name) {
            table::invalidate(fd);
        }
        if result == 0 && level == libc::SOL_SOCKET && name == libc::SO_LINGER {
            lingering::was_set(fd);
        }
        result
    }
);

/// A connection that is made, or refused, takes the time of so many transfers.
const AS_LONG_AS: u32 = 4;

/// `SO_RCVTIMEO`, `SO_SNDTIMEO`, and their names for 64-bit times.
const TIME_LIMITS: [c_int; 4] = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO, 66, 67];
