//! System calls that make, name and end sockets.

use std::ffi::{c_int, c_long};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use super::address::{self, Route};
use super::connection::{Connection, Item, Lane, Side};
use super::link::Nanos;
use super::socket::{Cookie, Phase, Socket};
use super::state::{Net, NetEvent};
use super::wire;
use crate::sched::renew_fd;
use crate::sys::fcntl::status_flags;
use crate::sys::ready::poll_now;
use crate::sys::sockopt;
use crate::sys::syscall::{Answer, Errno, sys};

/// How long a machine is asked for that is not there.
const UNANSWERED: Nanos = 3_000_000_000;

impl Net {
    /// A system call of a node's program; `None`: the kernel's to answer. Never waits.
    ///
    /// # Safety
    ///
    /// - The arguments fulfil the contract of system call `number`.
    pub(crate) unsafe fn call(
        &mut self,
        now: Nanos,
        node: usize,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        self.now = self.now.max(now);
        let [a, b, c, d, ..] = args;
        if number == libc::SYS_socket {
            return self.socket(node, a as c_int, b as c_int, c as c_int);
        }
        let names = [
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_connect,
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_shutdown,
            libc::SYS_setsockopt,
            libc::SYS_getsockopt,
        ];
        if !names.contains(&number) {
            // SAFETY: forwarded.
            return unsafe { self.transfer(number, args) };
        }
        let fd = a as RawFd;
        let (cookie, _) = self.sockets.find(fd)?;
        // SAFETY: the caller's places.
        unsafe {
            Some(match number {
                libc::SYS_bind => {
                    let addr = address::read(b, c);
                    addr.and_then(|addr| self.bind(cookie, addr))
                }
                libc::SYS_listen => self.listen(fd, cookie, b as c_int),
                libc::SYS_connect => match family(b, c) {
                    Some(libc::AF_UNSPEC) => self.disconnect(cookie),
                    _ => address::read(b, c).and_then(|addr| self.connect(fd, cookie, addr)),
                },
                libc::SYS_accept => self.accept(fd, cookie, b, c, 0),
                libc::SYS_accept4 => self.accept(fd, cookie, b, c, d as c_int),
                libc::SYS_getsockname => {
                    let socket = self.sockets.get(cookie)?;
                    let none = SocketAddr::new(address::unspecified(socket.family), 0);
                    address::write(socket.local.unwrap_or(none), socket.family, b, c);
                    Ok(0)
                }
                libc::SYS_getpeername => match self.sockets.get(cookie)? {
                    Socket {
                        peer: Some(peer),
                        family,
                        phase: Phase::Connected { .. } | Phase::Datagrams(_),
                        ..
                    } => {
                        address::write(*peer, *family, b, c);
                        Ok(0)
                    }
                    _ => Err(libc::ENOTCONN),
                },
                libc::SYS_shutdown => return self.shutdown(cookie, b as c_int),
                libc::SYS_setsockopt => return self.set_option(cookie, args),
                _ => return self.option(fd, cookie, args),
            })
        }
    }

    fn socket(
        &mut self,
        node: usize,
        family: c_int,
        kind: c_int,
        protocol: c_int,
    ) -> Option<Answer> {
        const FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        if family != libc::AF_INET && family != libc::AF_INET6 {
            return None;
        }
        let flags = kind & FLAGS;
        let made = match (kind & !FLAGS, protocol) {
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
                wire::unix_stream(flags).map(|fd| (fd, Phase::Fresh))
            }
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => {
                wire::unix_datagrams(flags).map(|(fd, wire)| (fd, Phase::Datagrams(wire)))
            }
            _ => return Some(Err(libc::EPROTONOSUPPORT)),
        };
        Some(made.map(|(fd, phase)| {
            self.sockets
                .add(fd.as_raw_fd(), Socket::new(node, family, phase));
            fd.into_raw_fd() as usize
        }))
    }

    fn bind(&mut self, cookie: Cookie, addr: SocketAddr) -> Answer {
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        if socket.local.is_some() {
            return Err(libc::EINVAL);
        }
        if addr.is_ipv6() && socket.family == libc::AF_INET {
            return Err(libc::EAFNOSUPPORT);
        }
        if !address::is_own(socket.node, addr.ip()) {
            return Err(libc::EADDRNOTAVAIL);
        }
        self.sockets.bind(cookie, addr)?;
        Ok(0)
    }

    /// Gives a socket some port unless it has one.
    pub(super) fn bind_anywhere(&mut self, cookie: Cookie) -> Result<SocketAddr, Errno> {
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        if socket.local.is_none() {
            let any = address::unspecified(socket.family);
            self.sockets.bind(cookie, SocketAddr::new(any, 0))?;
        }
        let bound = self.sockets.get(cookie).and_then(|socket| socket.local);
        bound.ok_or(libc::EBADF)
    }

    fn listen(&mut self, fd: RawFd, cookie: Cookie, backlog: c_int) -> Answer {
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        match socket.phase {
            // SAFETY: no pointers.
            Phase::Listening { .. } => return unsafe { sys!(SYS_listen, fd, backlog) },
            Phase::Datagrams(_) => return Err(libc::EOPNOTSUPP),
            Phase::Fresh | Phase::Failed => {}
            _ => return Err(libc::EINVAL),
        }
        let cookie = self.fresh(fd, cookie)?;
        self.bind_anywhere(cookie)?;
        if self.sockets.another_listens(cookie) {
            return Err(libc::EADDRINUSE);
        }
        let name = wire::listen(fd, backlog)?;
        let pending = Default::default();
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        socket.phase = Phase::Listening { name, pending };
        Ok(0)
    }

    /// Puts a new Unix socket in the place of one that was connected in vain.
    fn fresh(&mut self, fd: RawFd, cookie: Cookie) -> Result<Cookie, Errno> {
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        socket.phase = Phase::Fresh;
        socket.peer = None;
        if !std::mem::take(&mut socket.spent) {
            return Ok(cookie);
        }
        let new = wire::unix_stream(status_flags(fd)? & libc::O_NONBLOCK)?;
        // SAFETY: no pointers.
        let flags = unsafe { sys!(SYS_fcntl, fd, libc::F_GETFD) }?;
        let closes = if flags as c_int & libc::FD_CLOEXEC == 0 {
            0
        } else {
            libc::O_CLOEXEC
        };
        // What waits for the old one waits in vain.
        renew_fd(fd);
        // SAFETY: no pointers.
        unsafe { sys!(SYS_dup3, new.as_raw_fd(), fd, closes) }?;
        let renewed = sockopt::cookie(fd).ok_or(libc::EBADF)?;
        self.sockets.rename(cookie, renewed);
        Ok(renewed)
    }

    fn connect(&mut self, fd: RawFd, cookie: Cookie, addr: SocketAddr) -> Answer {
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        if addr.is_ipv6() && socket.family == libc::AF_INET {
            return Err(libc::EAFNOSUPPORT);
        }
        match &mut socket.phase {
            Phase::Fresh => {}
            Phase::Failed => {
                socket.phase = Phase::Fresh;
                return Err(self.take_error(fd, cookie).unwrap_or(libc::ECONNABORTED));
            }
            Phase::Connecting => return Err(libc::EALREADY),
            Phase::Connected { told, .. } if !*told => {
                *told = true;
                return Ok(0);
            }
            Phase::Datagrams(_) => return self.connect_datagrams(cookie, addr),
            _ => return Err(libc::EISCONN),
        }
        let node = socket.node;
        let to = SocketAddr::new(address::target(addr.ip()), addr.port());
        let (target, own) = match address::route(node, self.names.len(), to.ip()) {
            Route::Node(target, own) => (Some(target), own),
            Route::Nobody => (None, address::of_node(node).into()),
            Route::Outside => return Err(libc::ENETUNREACH),
        };
        let cookie = self.fresh(fd, cookie)?;
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        if socket.local.is_none() {
            self.sockets.bind(cookie, SocketAddr::new(own, 0))?;
        }
        let wire = self.wire.connect(fd)?;
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        let local = socket.local.get_or_insert(SocketAddr::new(own, 0));
        if local.ip().is_unspecified() {
            local.set_ip(own);
        }
        let local = *local;
        self.serial += 1;
        let id = self.serial;
        socket.peer = Some(to);
        socket.phase = Phase::Connecting;
        let lingers_not = socket.lingers_not();
        let filled = wire::fill(fd);
        self.wire.watch(&wire, id << 1)?;
        let mut connection = Connection {
            ends: [
                Side::new(node, local),
                Side::new(target.unwrap_or(node), to),
            ],
            lanes: <[Lane; 2]>::default(),
            established: false,
            filled,
        };
        connection.ends[0].wire = Some(wire);
        connection.ends[0].socket = Some(cookie);
        connection.ends[0].lingers_not = lingers_not;
        if target.is_some() {
            connection.lanes[0].queue.push_back(Item::Syn);
        } else {
            let late = self.now + UNANSWERED;
            self.schedule(late, NetEvent::Fail(id, libc::EHOSTUNREACH));
        }
        self.connections.insert(id, connection);
        self.transmit(id, 0);
        Err(libc::EINPROGRESS)
    }

    fn disconnect(&mut self, cookie: Cookie) -> Answer {
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        if socket.is_udp() {
            socket.peer = None;
            return Ok(0);
        }
        Err(libc::EAFNOSUPPORT)
    }

    /// # Safety
    ///
    /// - As for `accept4`.
    unsafe fn accept(
        &mut self,
        fd: RawFd,
        cookie: Cookie,
        place: usize,
        len: usize,
        flags: c_int,
    ) -> Answer {
        let socket = self.sockets.get_mut(cookie).ok_or(libc::EBADF)?;
        let (node, family) = (socket.node, socket.family);
        let pending = match &mut socket.phase {
            Phase::Listening { pending, .. } => pending,
            Phase::Datagrams(_) => return Err(libc::EOPNOTSUPP),
            _ => return Err(libc::EINVAL),
        };
        if poll_now(fd, libc::POLLIN) == 0 {
            return Err(libc::EAGAIN);
        }
        // SAFETY: no address is asked for.
        let new = unsafe { sys!(SYS_accept4, fd, 0, 0, flags) }?;
        let Some((id, local, peer)) = pending.pop_front() else {
            return Ok(new);
        };
        let end = 1;
        let told = true;
        let mut accepted = Socket::new(node, family, Phase::Connected { id, end, told });
        accepted.local = Some(local);
        accepted.peer = Some(peer);
        accepted.options = socket.options.clone();
        let lingers_not = accepted.lingers_not();
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.ends[end].socket = sockopt::cookie(new as RawFd);
            connection.ends[end].lingers_not = lingers_not;
        }
        let is_over = self.connections.get(&id);
        if is_over.is_none_or(|it| it.ends[end].wire.is_none()) {
            accepted.phase = Phase::Reset;
            accepted.error = Some(libc::ECONNRESET);
        }
        self.sockets.add(new as RawFd, accepted);
        // SAFETY: the caller's places.
        unsafe { address::write(peer, family, place, len) };
        Ok(new)
    }

    fn shutdown(&mut self, cookie: Cookie, how: c_int) -> Option<Answer> {
        let socket = self.sockets.get(cookie)?;
        match socket.phase {
            Phase::Connected { id, end, .. } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.ends[end].shut |= how == libc::SHUT_RDWR;
                }
                None
            }
            Phase::Datagrams(_) if socket.peer.is_some() => None,
            Phase::Listening { .. } | Phase::Connecting => None,
            _ => Some(Err(libc::ENOTCONN)),
        }
    }

    /// What went wrong, once (`SO_ERROR`).
    pub(super) fn take_error(&mut self, fd: RawFd, cookie: Cookie) -> Option<Errno> {
        // The kernel has an error of its own if the wire's end had bytes left.
        let kernels = sockopt::number(fd, libc::SO_ERROR).ok();
        let own = self.sockets.get_mut(cookie)?.error.take();
        own.or(kernels.filter(|code| *code != 0))
    }
}

/// # Safety
///
/// - `len` bytes may be read at `place`.
unsafe fn family(place: usize, len: usize) -> Option<c_int> {
    if place == 0 || len < size_of::<libc::sa_family_t>() {
        return None;
    }
    let place = std::ptr::with_exposed_provenance::<libc::sa_family_t>(place);
    // SAFETY: the caller's bytes.
    Some(c_int::from(unsafe { place.read_unaligned() }))
}
