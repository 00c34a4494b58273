//! Socket options: what the kernel's Unix sockets do not have is kept here.

use std::ffi::c_int;
use std::os::fd::RawFd;

use super::socket::{Cookie, Phase, Socket};
use super::state::Net;
use crate::sys::syscall::{Answer, Errno};

/// As much as is kept of an option.
const LONGEST: usize = 256;

/// The kernel's levels that are the Internet's.
const LEVELS: [c_int; 4] = [
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_IP,
    libc::IPPROTO_IPV6,
];

impl Net {
    /// `setsockopt`.
    ///
    /// # Safety
    ///
    /// - As for `setsockopt`.
    pub(super) unsafe fn set_option(&mut self, cookie: Cookie, args: [usize; 6]) -> Option<Answer> {
        let [_, level, name, place, len, _] = args;
        let (level, name) = (level as c_int, name as c_int);
        let kept = [libc::SO_REUSEADDR, libc::SO_REUSEPORT, libc::SO_LINGER];
        let is_socket = level == libc::SOL_SOCKET;
        if is_socket && !kept.contains(&name) || !is_socket && !LEVELS.contains(&level) {
            return None;
        }
        // Offloads are the kernel's alone.
        if level == libc::IPPROTO_UDP || (level, name) == (libc::IPPROTO_TCP, libc::TCP_ULP) {
            return Some(Err(libc::ENOPROTOOPT));
        }
        if place == 0 {
            return Some(Err(libc::EFAULT));
        }
        let place = std::ptr::with_exposed_provenance::<u8>(place);
        // SAFETY: the caller's bytes.
        let bytes = unsafe { std::slice::from_raw_parts(place, len.min(LONGEST)) };
        let socket = self.sockets.get_mut(cookie)?;
        socket.options.insert((level, name), bytes.to_vec());
        let lingers_not = socket.lingers_not();
        if let Phase::Connected { id, end, .. } = socket.phase {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.ends[end].lingers_not = lingers_not;
            }
        }
        // The kernel's socket knows these two as well.
        let both = is_socket && name != libc::SO_REUSEPORT;
        (!both).then_some(Ok(0))
    }

    /// `getsockopt`.
    ///
    /// # Safety
    ///
    /// - As for `getsockopt`.
    pub(super) unsafe fn option(
        &mut self,
        fd: RawFd,
        cookie: Cookie,
        args: [usize; 6],
    ) -> Option<Answer> {
        let [_, level, name, place, len, _] = args;
        let (level, name) = (level as c_int, name as c_int);
        let value = if level == libc::SOL_SOCKET {
            let socket = self.sockets.get(cookie)?;
            let number = match name {
                libc::SO_DOMAIN => socket.family,
                libc::SO_PROTOCOL if socket.is_udp() => libc::IPPROTO_UDP,
                libc::SO_PROTOCOL => libc::IPPROTO_TCP,
                libc::SO_REUSEPORT => socket.is_on(level, name).into(),
                libc::SO_ERROR => self.take_error(fd, cookie).unwrap_or(0),
                _ => return None,
            };
            number.to_ne_bytes().to_vec()
        } else if LEVELS.contains(&level) {
            match self.internet_option(cookie, level, name) {
                Ok(value) => value,
                Err(code) => return Some(Err(code)),
            }
        } else {
            return None;
        };
        // SAFETY: the caller's places.
        Some(unsafe { give(&value, place, len) })
    }

    fn internet_option(&self, cookie: Cookie, level: c_int, name: c_int) -> Result<Vec<u8>, Errno> {
        let socket = self.sockets.get(cookie).ok_or(libc::EBADF)?;
        if let Some(value) = socket.options.get(&(level, name)) {
            return Ok(value.clone());
        }
        Ok(match (level, name) {
            (libc::IPPROTO_UDP, _) => return Err(libc::ENOPROTOOPT),
            (libc::IPPROTO_TCP, libc::TCP_INFO) => tcp_info(socket),
            _ => unset(level, name).to_ne_bytes().to_vec(),
        })
    }
}

/// What Linux says of a whole-number option that nobody has set.
fn unset(level: c_int, name: c_int) -> c_int {
    match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => 1460,
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => 7200,
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => 75,
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => 9,
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => 6,
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => 64,
        (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL | libc::IP_MULTICAST_LOOP)
        | (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS | libc::IPV6_MULTICAST_LOOP) => 1,
        (libc::IPPROTO_IP, libc::IP_MTU) | (libc::IPPROTO_IPV6, libc::IPV6_MTU) => 1500,
        _ => 0,
    }
}

/// `struct tcp_info`, of which only the state is told.
fn tcp_info(socket: &Socket) -> Vec<u8> {
    const ESTABLISHED: u8 = 1;
    const SYN_SENT: u8 = 2;
    const CLOSE: u8 = 7;
    const LISTEN: u8 = 10;
    let mut info = vec![0; size_of::<libc::tcp_info>()];
    info[0] = match socket.phase {
        Phase::Connected { .. } => ESTABLISHED,
        Phase::Connecting => SYN_SENT,
        Phase::Listening { .. } => LISTEN,
        _ => CLOSE,
    };
    info
}

/// Writes an option as far as there is room, and how long it is.
///
/// # Safety
///
/// - `len` is null or a `socklen_t`, and as many bytes may be written at `place`.
unsafe fn give(value: &[u8], place: usize, len: usize) -> Answer {
    if place == 0 || len == 0 {
        return Err(libc::EFAULT);
    }
    let to = std::ptr::with_exposed_provenance_mut::<u8>(place);
    let len = std::ptr::with_exposed_provenance_mut::<libc::socklen_t>(len);
    // SAFETY: as far as there is room.
    unsafe {
        let count = value.len().min(len.read_unaligned() as usize);
        value.as_ptr().copy_to(to, count);
        len.write_unaligned(count as libc::socklen_t);
    }
    Ok(0)
}
