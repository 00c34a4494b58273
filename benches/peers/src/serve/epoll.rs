//! The yardstick: an edge-triggered epoll loop, as little as an echo server
//! can do with readiness: one `read` and one `write` a request, no memory of
//! its own for a connection, no allocation.
//!
//! It is a yardstick, not a server: what the kernel does not take at once of a
//! reply ends the connection.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};

use super::BUFFER;

const EVENTS: usize = 1024;

/// Serves for ever.
///
/// # Errors
///
/// Those of `accept` and of epoll.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    on_events(listener, libc::EPOLLIN, |fd| echo(fd, &mut buffer))
}

/// Accepts, and calls `go_on` with each connection that has an event of `interest`, until
/// it says that the connection is over. For ever.
///
/// # Errors
///
/// Those of `accept` and of epoll.
pub(super) fn on_events(
    listener: TcpListener,
    interest: libc::c_int,
    mut go_on: impl FnMut(RawFd) -> bool,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // SAFETY: no pointers.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    watch(epoll, listener.as_raw_fd(), libc::EPOLLIN)?;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    loop {
        // SAFETY: room for `EVENTS` events.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..check(count)? as usize] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                accept_all(epoll, fd, interest)?;
            } else if !go_on(fd) {
                // SAFETY: ours, and nobody uses it any more.
                unsafe { libc::close(fd) };
            }
        }
    }
}

fn watch(epoll: RawFd, fd: RawFd, interest: libc::c_int) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: (interest | libc::EPOLLET) as u32,
        u64: fd as u64,
    };
    // SAFETY: one event, live across the call.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn accept_all(epoll: RawFd, listener: RawFd, interest: libc::c_int) -> io::Result<()> {
    loop {
        let none = std::ptr::null_mut();
        // SAFETY: no address is asked for.
        let fd = unsafe { libc::accept4(listener, none, none.cast(), libc::SOCK_NONBLOCK) };
        match check(fd) {
            Ok(fd) => {
                let on: libc::c_int = 1;
                // SAFETY: one int, live across the call.
                check(unsafe {
                    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
                    libc::setsockopt(fd, level, name, (&raw const on).cast(), 4)
                })?;
                watch(epoll, fd, interest)?;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Sends back what has come; whether the connection goes on.
fn echo(fd: RawFd, buffer: &mut [u8; BUFFER]) -> bool {
    loop {
        // SAFETY: room for `BUFFER` bytes.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), BUFFER) };
        if got <= 0 {
            return got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        }
        // SAFETY: so many bytes are there.
        let sent = unsafe { libc::write(fd, buffer.as_ptr().cast(), got as usize) };
        if sent != got {
            return false;
        }
        // A short read has drained the socket; the next byte is a new edge.
        if (got as usize) < BUFFER {
            return true;
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}
