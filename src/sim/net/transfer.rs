//! System calls that send and receive. Bytes of connections are the kernel's; what it does
//! not know are errors of the network. Datagrams have a header on the wire.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_long};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::slice;

use super::address;
use super::socket::{Cookie, Phase};
use super::state::Net;
use super::udp;
use crate::sys::syscall::{Answer, Errno, sys};

/// What a call wants of a socket.
enum Purpose {
    Receive,
    Send,
    /// How many bytes wait to be read.
    Count,
}

impl Net {
    /// Whether it is a socket of this network's.
    pub(crate) fn has(&self, fd: RawFd) -> bool {
        self.sockets.find(fd).is_some()
    }

    /// Whether a call that does not wait may find nothing to do there.
    pub(crate) fn can_be_unready(&self, fd: RawFd) -> bool {
        let found = self.sockets.find(fd);
        found.is_some_and(|(_, socket)| {
            matches!(
                socket.phase,
                Phase::Listening { .. } | Phase::Connected { .. } | Phase::Datagrams(_)
            )
        })
    }

    /// How many bytes wait to be read from a connection.
    pub(crate) fn unread(&self, fd: RawFd) -> Option<usize> {
        let (_, socket) = self.sockets.find(fd)?;
        let is_connected = matches!(socket.phase, Phase::Connected { .. });
        is_connected.then(|| unread(fd) as usize)
    }

    /// The descriptors of a node's sockets.
    pub(crate) fn descriptors(&self, node: usize) -> BTreeSet<RawFd> {
        self.sockets.of(node).into_iter().collect()
    }

    /// # Safety
    ///
    /// - As for the system call.
    pub(super) unsafe fn transfer(&mut self, number: c_long, args: [usize; 6]) -> Option<Answer> {
        let want = match number {
            libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_preadv2
            | libc::SYS_recvfrom
            | libc::SYS_recvmsg
            | libc::SYS_recvmmsg => Purpose::Receive,
            libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwritev2
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_sendmmsg
            | libc::SYS_sendfile => Purpose::Send,
            libc::SYS_ioctl if args[1] == libc::FIONREAD as usize => Purpose::Count,
            _ => return None,
        };
        let fd = args[0] as RawFd;
        let (cookie, socket) = self.sockets.find(fd)?;
        let is_udp = socket.is_udp();
        // SAFETY: the caller's places.
        unsafe {
            match want {
                Purpose::Count if is_udp => Some(count(args)),
                Purpose::Count => None,
                Purpose::Receive if is_udp => self.receive_datagrams(cookie, number, args),
                Purpose::Send if is_udp => self.send_datagrams(cookie, number, args),
                Purpose::Receive => {
                    if let Some(code) = self.reading_fails(fd, cookie) {
                        return Some(Err(code));
                    }
                    receive_without_name(number, args)
                }
                Purpose::Send => {
                    if let Some(code) = self.writing_fails(fd, cookie) {
                        return Some(Err(code));
                    }
                    send_without_name(number, args)
                }
            }
        }
    }

    /// What reading from a connection says in the place of the kernel.
    fn reading_fails(&mut self, fd: RawFd, cookie: Cookie) -> Option<Errno> {
        let socket = self.sockets.get(cookie)?;
        match (&socket.phase, socket.error) {
            // Its end has been read.
            (_, Some(libc::EPIPE)) => None,
            (_, Some(_)) if unread(fd) == 0 => self.take_error(fd, cookie),
            (_, Some(_)) => None,
            (Phase::Fresh | Phase::Failed | Phase::Listening { .. }, None) => Some(libc::ENOTCONN),
            _ => None,
        }
    }

    fn writing_fails(&mut self, fd: RawFd, cookie: Cookie) -> Option<Errno> {
        let socket = self.sockets.get(cookie)?;
        match (&socket.phase, socket.error) {
            // The kernel says so, too, and sends the signal.
            (_, Some(libc::EPIPE)) => {
                self.take_error(fd, cookie);
                None
            }
            (_, Some(_)) => self.take_error(fd, cookie),
            (Phase::Fresh | Phase::Failed | Phase::Listening { .. }, None) => Some(libc::EPIPE),
            _ => None,
        }
    }

    /// # Safety
    ///
    /// - As for the system call, of a UDP socket.
    unsafe fn receive_datagrams(
        &mut self,
        cookie: Cookie,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        let [fd, place, len, flags, name, name_len] = args;
        let fd = fd as RawFd;
        let family = self.sockets.get(cookie)?.family;
        // SAFETY: the caller's places.
        unsafe {
            Some(match number {
                libc::SYS_read => {
                    let got = self.receive(fd, cookie, &[vector(place, len)], 0);
                    got.map(|got| got.count)
                }
                libc::SYS_readv | libc::SYS_preadv2 => {
                    let got = self.receive(fd, cookie, vectors(place, len), 0);
                    got.map(|got| got.count)
                }
                libc::SYS_recvfrom => {
                    let vectors = [vector(place, len)];
                    let got = self.receive(fd, cookie, &vectors, flags as c_int);
                    got.map(|got| {
                        if let Some(from) = got.from {
                            address::write(from, family, name, name_len);
                        }
                        got.count
                    })
                }
                libc::SYS_recvmsg => {
                    let header = std::ptr::with_exposed_provenance_mut::<libc::msghdr>(place);
                    self.receive_message(fd, cookie, &mut *header, len as c_int)
                }
                _ => {
                    let all = std::ptr::with_exposed_provenance_mut::<libc::mmsghdr>(place);
                    let all = slice::from_raw_parts_mut(all, len);
                    each(all, |header| {
                        self.receive_message(fd, cookie, header, flags as c_int)
                    })
                }
            })
        }
    }

    /// # Safety
    ///
    /// - As for `recvmsg`.
    unsafe fn receive_message(
        &mut self,
        fd: RawFd,
        cookie: Cookie,
        header: &mut libc::msghdr,
        flags: c_int,
    ) -> Answer {
        let family = self.sockets.get(cookie).ok_or(libc::EBADF)?.family;
        // SAFETY: the caller's places.
        unsafe {
            let vectors = vectors(header.msg_iov.expose_provenance(), header.msg_iovlen as _);
            let got = self.receive(fd, cookie, vectors, flags)?;
            let name_len = (&raw mut header.msg_namelen).expose_provenance();
            match got.from {
                Some(from) => {
                    let name = header.msg_name.expose_provenance();
                    address::write(from, family, name, name_len);
                }
                None => header.msg_namelen = 0,
            }
            header.msg_controllen = 0;
            header.msg_flags = got.flags;
            Ok(got.count)
        }
    }

    /// # Safety
    ///
    /// - As for the system call, of a UDP socket.
    unsafe fn send_datagrams(
        &mut self,
        cookie: Cookie,
        number: c_long,
        args: [usize; 6],
    ) -> Option<Answer> {
        let [_, place, len, _, name, name_len] = args;
        // SAFETY: the caller's places.
        let answer = unsafe {
            match number {
                libc::SYS_write => {
                    let bytes = gather(&[vector(place, len)]);
                    self.send_datagram(cookie, None, bytes)
                }
                libc::SYS_writev | libc::SYS_pwritev2 => {
                    let bytes = gather(vectors(place, len));
                    self.send_datagram(cookie, None, bytes)
                }
                libc::SYS_sendto => {
                    let bytes = gather(&[vector(place, len)]);
                    match named(name, name_len) {
                        Ok(to) => self.send_datagram(cookie, to, bytes),
                        Err(code) => Err(code),
                    }
                }
                libc::SYS_sendmsg => {
                    let header = std::ptr::with_exposed_provenance::<libc::msghdr>(place);
                    self.send_message(cookie, &*header)
                }
                libc::SYS_sendmmsg => {
                    let all = std::ptr::with_exposed_provenance_mut::<libc::mmsghdr>(place);
                    let all = slice::from_raw_parts_mut(all, len);
                    each(all, |header| self.send_message(cookie, header))
                }
                _ => Err(libc::EINVAL),
            }
        };
        // On the same node they are there at once.
        self.advance(self.now);
        Some(answer)
    }

    /// # Safety
    ///
    /// - As for `sendmsg`.
    unsafe fn send_message(&mut self, cookie: Cookie, header: &libc::msghdr) -> Answer {
        // SAFETY: the caller's places.
        unsafe {
            let to = named(
                header.msg_name.expose_provenance(),
                header.msg_namelen as usize,
            )?;
            let bytes = gather(vectors(
                header.msg_iov.expose_provenance(),
                header.msg_iovlen as _,
            ));
            self.send_datagram(cookie, to, bytes)
        }
    }
}

/// Makes the call for each message until one fails, and says how many it was made for; why
/// it failed only if that was the first.
fn each(all: &mut [libc::mmsghdr], mut call: impl FnMut(&mut libc::msghdr) -> Answer) -> Answer {
    for (at, message) in all.iter_mut().enumerate() {
        match call(&mut message.msg_hdr) {
            Ok(count) => message.msg_len = count as u32,
            Err(code) if at == 0 => return Err(code),
            Err(_) => return Ok(at),
        }
    }
    Ok(all.len())
}

fn vector(place: usize, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(place),
        iov_len: len,
    }
}

/// # Safety
///
/// - `count` vectors may be read at `place`, which stay as long as they are used.
unsafe fn vectors<'a>(place: usize, count: usize) -> &'a [libc::iovec] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance(place), count) }
}

/// # Safety
///
/// - The bytes of the vectors may be read.
unsafe fn gather(vectors: &[libc::iovec]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for vector in vectors.iter().filter(|vector| vector.iov_len > 0) {
        // SAFETY: the caller's promise.
        let part = unsafe { slice::from_raw_parts(vector.iov_base.cast(), vector.iov_len) };
        bytes.extend_from_slice(part);
    }
    bytes
}

/// # Safety
///
/// - `len` bytes may be read at `place`, unless it is null.
unsafe fn named(place: usize, len: usize) -> Result<Option<SocketAddr>, Errno> {
    if place == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { address::read(place, len) }.map(Some)
}

/// How many bytes wait to be read.
fn unread(fd: RawFd) -> c_int {
    let mut count: c_int = 0;
    // SAFETY: a place for a number.
    let answer = unsafe { sys!(SYS_ioctl, fd, libc::FIONREAD, &raw mut count) };
    answer.map_or(0, |_| count)
}

/// `FIONREAD` of a UDP socket: bytes of the next datagram.
///
/// # Safety
///
/// - The third argument is a place for a number.
unsafe fn count(args: [usize; 6]) -> Answer {
    let found = unread(args[0] as RawFd) as usize;
    let place = std::ptr::with_exposed_provenance_mut::<c_int>(args[2]);
    // SAFETY: the caller's place.
    unsafe { place.write_unaligned(found.saturating_sub(udp::HEADER) as c_int) };
    Ok(0)
}

/// Receives from a connection, whose peer on the wire has a name that is not to be seen.
///
/// # Safety
///
/// - As for the system call.
unsafe fn receive_without_name(number: c_long, args: [usize; 6]) -> Option<Answer> {
    let [fd, place, len, flags, name, name_len] = args;
    // SAFETY: the caller's places.
    unsafe {
        match number {
            libc::SYS_recvfrom if name != 0 && name_len != 0 => {
                let count = std::ptr::with_exposed_provenance_mut::<libc::socklen_t>(name_len);
                let answer = sys!(SYS_recvfrom, fd, place, len, flags, 0, 0);
                if answer.is_ok() {
                    count.write_unaligned(0);
                }
                Some(answer)
            }
            libc::SYS_recvmsg => {
                let header = std::ptr::with_exposed_provenance_mut::<libc::msghdr>(place);
                let header = &mut *header;
                if header.msg_name.is_null() {
                    return None;
                }
                let name = std::mem::replace(&mut header.msg_name, std::ptr::null_mut());
                let answer = sys!(SYS_recvmsg, fd, place, len);
                header.msg_name = name;
                header.msg_namelen = 0;
                Some(answer)
            }
            _ => None,
        }
    }
}

/// Sends to a connection, where an address means nothing.
///
/// # Safety
///
/// - As for the system call.
unsafe fn send_without_name(number: c_long, args: [usize; 6]) -> Option<Answer> {
    let [fd, place, len, flags, name, _] = args;
    // SAFETY: the caller's places.
    unsafe {
        match number {
            libc::SYS_sendto if name != 0 => Some(sys!(SYS_sendto, fd, place, len, flags, 0, 0)),
            libc::SYS_sendmsg => {
                let header = std::ptr::with_exposed_provenance::<libc::msghdr>(place);
                let mut header = *header;
                if header.msg_name.is_null() {
                    return None;
                }
                header.msg_name = std::ptr::null_mut();
                header.msg_namelen = 0;
                Some(sys!(SYS_sendmsg, fd, &raw const header, len))
            }
            _ => None,
        }
    }
}
