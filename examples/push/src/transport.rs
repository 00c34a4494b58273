//! Transport: a connection's bytes, plain or by TLS.
//!
//! A connection waits for its socket and for news at the same time, so a read must not
//! wait inside of tungstenite, where a client could keep it with half a frame. Once the
//! socket is said to be readable, one read of it is [allowed](Transport::allow); the next
//! one says `WouldBlock`, as the socket would if it were non-blocking, and tungstenite
//! and rustls keep what they have.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::config::Config;

/// A connection.
pub enum Transport {
    /// As it is.
    Plain(Metered),
    /// Encrypted; large, so it is elsewhere.
    Tls(Box<StreamOwned<ServerConnection, Metered>>),
}

/// A socket that is read so many times and no more.
pub struct Metered {
    socket: TcpStream,
    reads: u32,
}

impl Transport {
    /// Reads as often as it likes, at first.
    pub fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let socket = Metered {
            socket,
            reads: u32::MAX,
        };
        Ok(match tls {
            None => Self::Plain(socket),
            Some(config) => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                Self::Tls(Box::new(StreamOwned::new(connection, socket)))
            }
        })
    }

    fn metered(&mut self) -> &mut Metered {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    /// From now on so many reads of the socket.
    pub fn allow(&mut self, reads: u32) {
        self.metered().reads = reads;
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => &socket.socket,
            Self::Tls(stream) => &stream.sock.socket,
        }
    }

    /// Says that no more is sent.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(std::net::Shutdown::Write)
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reads == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.reads -= 1;
        uninterrupted(|| self.socket.read(buffer))
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signal ends no connection: whoever is interrupted tries again.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Reads the certificates that the settings name, if they do.
pub fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
    if config.tls_cert.is_empty() {
        return Ok(None);
    }
    let chain = CertificateDer::pem_file_iter(&config.tls_cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| format!("tls_cert = {}: {why}", config.tls_cert))?;
    let key = PrivateKeyDer::from_pem_file(&config.tls_key)
        .map_err(|why| format!("tls_key = {}: {why}", config.tls_key))?;
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|why| format!("tls_cert and tls_key: {why}"))?;
    Ok(Some(Arc::new(tls)))
}
