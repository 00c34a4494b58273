//! Listening with room for a crowd.

use std::net::{Ipv4Addr, TcpListener};

/// The kernel cuts it to `net.core.somaxconn`, 4 096 by default.
const BACKLOG: i32 = 4096;

/// A listener on a free port of this machine.
///
/// `std` asks for a backlog of 128. Of a thousand connections made at once the
/// kernel then drops most, and they come back a second later: true of threads
/// too, but a crowd on one thread meets it every time.
///
/// # Panics
///
/// If there is no port.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let again = socket2::SockRef::from(&listener).listen(BACKLOG);
    again.expect("a longer backlog");
    listener
}
