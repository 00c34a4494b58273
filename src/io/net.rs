//! Sockets in [`Io`]: what `std::net`'s types do besides reading and writing.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use super::{Io, park, plain};
use crate::driver::Direction;
use crate::sched::{self, CurrentTask, Worker};
use crate::sys;
use std::os::fd::{AsFd, AsRawFd};

/// A listener at `addr` for each worker of the runtime, the workers' order being
/// theirs. They share the address (`SO_REUSEPORT`): the kernel gives each
/// connection to one of them, by a hash of its two ends, so each worker accepts on its
/// own. Outside a runtime there is one. With port 0 all get the same free port.
///
/// [`spawn_on`](crate::spawn_on) has an example. With one listener only,
/// [`spawn`](crate::spawn) spreads connections by how many each worker has.
///
/// # Errors
///
/// As for [`TcpListener::bind`]. Other users' listeners don't share: `EADDRINUSE`.
///
/// # Examples
///
/// ```
/// let runtime = crore::Runtime::builder().workers(3).build()?;
/// let listeners = runtime.run(|| crore::io::bind_per_worker("127.0.0.1:0"))??;
/// assert_eq!(listeners.len(), 3);
/// assert_eq!(listeners[0].local_addr()?, listeners[2].local_addr()?);
/// # std::io::Result::Ok(())
/// ```
pub fn bind_per_worker(addr: impl ToSocketAddrs) -> io::Result<Vec<TcpListener>> {
    let count = Worker::current().map_or(1, |worker| worker.workers().handles().len());
    first_that_works(addr, |addr| listeners(addr, count))
}

/// Does it at the first address where it succeeds.
pub(super) fn first_that_works<T>(
    addr: impl ToSocketAddrs,
    make: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::ErrorKind::InvalidInput.into();
    for addr in addr.to_socket_addrs()? {
        match make(addr) {
            Ok(made) => return Ok(made),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listeners(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut all = vec![listener(&addr, i32::MAX, true)?];
    let addr = all[0].local_addr()?;
    while all.len() < count {
        all.push(listener(&addr, i32::MAX, true)?);
    }
    Ok(all)
}

/// A listener as [`sys::socket::listen`] makes it, whose number begins where no hook sees
/// it.
pub(super) fn listener(
    addr: &SocketAddr,
    backlog: i32,
    beside_others: bool,
) -> io::Result<TcpListener> {
    let listener = sys::socket::listen(addr, backlog, beside_others)?;
    sched::renew_fd(listener.as_raw_fd());
    Ok(listener)
}

impl Io<TcpListener> {
    /// A listener at `addr`.
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::bind`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::{TcpListener, TcpStream};
    /// use crore::io::Io;
    ///
    /// crore::run(|| {
    ///     let listener = Io::<TcpListener>::bind("127.0.0.1:0")?;
    ///     let addr = listener.get_ref().local_addr()?;
    ///     let client = crore::spawn(move || Io::<TcpStream>::connect(addr)?.write_all(b"hi"));
    ///     let (mut stream, _) = listener.accept()?; // parks until the client is there
    ///     let mut text = String::new();
    ///     stream.read_to_string(&mut text)?;
    ///     assert_eq!(text, "hi");
    ///     client.join().unwrap()
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::new(TcpListener::bind(addr)?)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::accept`], and as for [`readable`](super::readable).
    ///
    /// ```
    /// use crore::io::Io;
    /// use std::io::{Read, Write};
    /// use std::net::{TcpListener, TcpStream};
    /// # fn main() -> std::io::Result<()> {
    /// crore::run(|| {
    ///     let listener = Io::<TcpListener>::bind("127.0.0.1:0")?;
    ///     let addr = listener.get_ref().local_addr()?;
    ///     let client = crore::spawn(move || Io::<TcpStream>::connect(addr)?.write_all(b"ping"));
    ///     let (mut stream, _from) = listener.accept()?;
    ///     let mut text = String::new();
    ///     stream.read_to_string(&mut text)?;
    ///     assert_eq!(text, "ping");
    ///     client.join().unwrap()
    /// })?
    /// # }
    /// ```
    pub fn accept(&self) -> io::Result<(Io<TcpStream>, SocketAddr)> {
        let (stream, from) = self.read_with(TcpListener::accept)?;
        Ok((Io::new(stream)?, from))
    }
}

impl Io<TcpStream> {
    /// Connects to `addr`.
    ///
    /// # Errors
    ///
    /// As for [`TcpStream::connect`], and as for [`writable`](super::writable).
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        if let Some(cx) = CurrentTask::current() {
            plain(cx.check())?;
        }
        let socket = sys::socket::start_connect(&addr)?;
        sched::renew_fd(socket.as_raw_fd());
        let stream = Self::born_nonblocking(TcpStream::from(socket));
        loop {
            // Asking may be early: a socket that has no peer and no error yet
            // is still on its way.
            if let Some(error) = stream.get_ref().take_error()? {
                return Err(error);
            }
            match stream.get_ref().peer_addr() {
                Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                    park(stream.as_fd(), Direction::Write)?;
                }
                result => return result.map(|_| stream),
            }
        }
    }
}

impl Io<UdpSocket> {
    /// A socket at `addr`.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::bind`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::UdpSocket;
    /// use crore::io::Io;
    ///
    /// crore::run(|| {
    ///     let (one, other) = (Io::<UdpSocket>::bind("127.0.0.1:0")?, Io::<UdpSocket>::bind("127.0.0.1:0")?);
    ///     one.send_to(b"hi", other.get_ref().local_addr()?)?;
    ///     let mut buffer = [0; 8];
    ///     let (length, from) = other.recv_from(&mut buffer)?;
    ///     assert_eq!((&buffer[..length], from), (&b"hi"[..], one.get_ref().local_addr()?));
    ///     std::io::Result::Ok(())
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::new(UdpSocket::bind(addr)?)
    }

    /// Waits for a datagram and says who sent it.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::recv_from`], and as for [`readable`](super::readable).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buf))
    }

    /// Sends a datagram to `addr`, waiting for room.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`], and as for [`writable`](super::writable).
    pub fn send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.write_with(|socket| socket.send_to(buf, addr))
    }

    /// Waits for a datagram from the connected peer.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::recv`], and as for [`readable`](super::readable).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_with(|socket| socket.recv(buf))
    }

    /// Sends a datagram to the connected peer, waiting for room.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send`], and as for [`writable`](super::writable).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|socket| socket.send(buf))
    }
}
