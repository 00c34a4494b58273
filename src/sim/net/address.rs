//! Internet addresses: as C has them, and which of them are which node's. Pure.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::sys::syscall::Errno;

/// The network of all nodes: 10.0.0.0, of which node `n` is the `n + 1`st.
const FIRST: u32 = 0x0a00_0000;
/// Its other addresses are nobody's.
const MASK: u32 = 0xff00_0000;

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To a node, which sees the second address as the sender's.
    Node(usize, IpAddr),
    /// To a machine of this network that is not there.
    Nobody,
    /// To another network.
    Outside,
}

/// A node's own address.
pub(super) fn of_node(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + node as u32 + 1)
}

/// The node of that address, of so many.
pub(super) fn node_of(address: Ipv4Addr, nodes: usize) -> Option<usize> {
    let at = u32::from(address).checked_sub(FIRST + 1)? as usize;
    (at < nodes).then_some(at)
}

/// An IPv4 address that is mapped into IPv6 is that address.
pub(super) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Where `ip` leads from a node, one of so many.
pub(super) fn route(node: usize, nodes: usize, ip: IpAddr) -> Route {
    if is_loopback(ip) {
        return Route::Node(node, ip);
    }
    let IpAddr::V4(v4) = ip else {
        return Route::Outside;
    };
    match node_of(v4, nodes) {
        Some(target) => Route::Node(target, of_node(node).into()),
        None if u32::from(v4) & MASK == FIRST => Route::Nobody,
        None => Route::Outside,
    }
}

/// Whom a connection to "any address" means: oneself.
pub(super) fn target(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Whether a socket of the node may have that address.
pub(super) fn is_own(node: usize, ip: IpAddr) -> bool {
    ip.is_unspecified() || is_loopback(ip) || ip == IpAddr::V4(of_node(node))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Whether what is sent to `ip` arrives at a socket with the address `bound`.
pub(super) fn accepts(bound: IpAddr, ip: IpAddr) -> bool {
    match bound {
        bound if bound == ip => true,
        IpAddr::V4(v4) => v4.is_unspecified() && ip.is_ipv4(),
        // Of both families.
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

/// The family in C's numbers that "any address" of has this form.
pub(super) fn unspecified(family: c_int) -> IpAddr {
    if family == libc::AF_INET6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Reads a `sockaddr`; its IP is canonical.
///
/// # Safety
///
/// - `len` bytes may be read at `place`.
pub(super) unsafe fn read(place: usize, len: usize) -> Result<SocketAddr, Errno> {
    if place == 0 {
        return Err(libc::EFAULT);
    }
    if len < size_of::<libc::sa_family_t>() {
        return Err(libc::EINVAL);
    }
    // SAFETY: the caller's bytes, as many as the type has.
    unsafe {
        match c_int::from(at::<libc::sa_family_t>(place)) {
            libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
                let name = at::<libc::sockaddr_in>(place);
                let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddr::new(ip.into(), u16::from_be(name.sin_port)))
            }
            libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
                let name = at::<libc::sockaddr_in6>(place);
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                Ok(SocketAddr::new(
                    canonical(ip.into()),
                    u16::from_be(name.sin6_port),
                ))
            }
            libc::AF_INET | libc::AF_INET6 => Err(libc::EINVAL),
            _ => Err(libc::EAFNOSUPPORT),
        }
    }
}

/// # Safety
///
/// - A `T` may be read at `place`, from any bytes.
unsafe fn at<T>(place: usize) -> T {
    // SAFETY: the caller's promise; unaligned as it may be.
    unsafe { std::ptr::with_exposed_provenance::<T>(place).read_unaligned() }
}

/// Writes an address as a socket of the family shows it, as far as there is room, and
/// its length; nothing at null.
///
/// # Safety
///
/// - `len` is null or a `socklen_t`, and as many bytes may be written at `place`.
pub(super) unsafe fn write(addr: SocketAddr, family: c_int, place: usize, len: usize) {
    if place == 0 || len == 0 {
        return;
    }
    let len = std::ptr::with_exposed_provenance_mut::<libc::socklen_t>(len);
    let to = std::ptr::with_exposed_provenance_mut::<u8>(place);
    let (bytes, whole) = encode(addr, family);
    // SAFETY: as far as there is room.
    unsafe {
        let room = (len.read_unaligned() as usize).min(whole);
        bytes.as_ptr().copy_to(to, room);
        len.write_unaligned(whole as libc::socklen_t);
    }
}

/// The bytes of a `sockaddr`, and how many.
fn encode(addr: SocketAddr, family: c_int) -> ([u8; size_of::<libc::sockaddr_in6>()], usize) {
    let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
    let port = addr.port().to_be_bytes();
    bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port);
    match shown(addr, family) {
        SocketAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            (bytes, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            (bytes, size_of::<libc::sockaddr_in6>())
        }
    }
}

/// An address in the words of a family.
fn shown(addr: SocketAddr, family: c_int) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(v4) if family == libc::AF_INET6 => {
            let ip = if v4.is_unspecified() {
                Ipv6Addr::UNSPECIFIED
            } else {
                v4.to_ipv6_mapped()
            };
            SocketAddrV6::new(ip, addr.port(), 0, 0).into()
        }
        IpAddr::V4(v4) => SocketAddrV4::new(v4, addr.port()).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, addr.port(), 0, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for (text, family, back) in [
            ("10.0.0.1:80", libc::AF_INET, "10.0.0.1:80"),
            ("10.0.0.1:80", libc::AF_INET6, "10.0.0.1:80"),
            ("[::1]:9", libc::AF_INET6, "[::1]:9"),
            ("0.0.0.0:1", libc::AF_INET6, "[::]:1"),
        ] {
            let mut place = [0_u8; 64];
            let mut len: libc::socklen_t = 64;
            let at = place.as_mut_ptr().expose_provenance();
            // SAFETY: places of that length.
            let read = unsafe {
                let count = (&raw mut len).expose_provenance();
                write(text.parse().unwrap(), family, at, count);
                read(at, len as usize)
            };
            assert_eq!(read, Ok(back.parse().unwrap()));
        }
        // SAFETY: too short to be read, or null.
        unsafe {
            let short = [libc::AF_INET as u8, 0, 0, 0];
            let at = short.as_ptr().expose_provenance();
            assert_eq!(read(at, 4), Err(libc::EINVAL));
            assert_eq!(read(at, 1), Err(libc::EINVAL));
            assert_eq!(read(0, 16), Err(libc::EFAULT));
        }
    }

    #[test]
    fn addresses_lead_to_nodes() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = ip("10.0.0.2");
        assert_eq!(route(1, 3, ip("10.0.0.3")), Route::Node(2, own));
        assert_eq!(route(1, 3, own), Route::Node(1, own));
        assert_eq!(
            route(1, 3, ip("127.0.0.1")),
            Route::Node(1, ip("127.0.0.1"))
        );
        assert_eq!(route(1, 3, ip("::1")), Route::Node(1, ip("::1")));
        assert_eq!(route(1, 3, ip("10.0.0.4")), Route::Nobody);
        assert_eq!(route(1, 3, ip("10.0.0.0")), Route::Nobody);
        assert_eq!(route(1, 3, ip("8.8.8.8")), Route::Outside);
        assert!(is_own(1, own) && is_own(1, ip("0.0.0.0")) && !is_own(1, ip("10.0.0.1")));
        assert!(accepts(ip("0.0.0.0"), own) && accepts(ip("::"), own));
        assert!(!accepts(ip("127.0.0.1"), own) && !accepts(ip("0.0.0.0"), ip("::1")));
    }
}
