//! The servers. All read up to [`BUFFER`] bytes and send them back, set
//! `TCP_NODELAY`, and use one thread.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;

/// Bytes that a server reads at once.
pub(crate) const BUFFER: usize = 1024;

/// Bytes that a coroutine on a shared stack reads at once: while it is parked
/// its buffer is kept with its frames.
const SHARED_BUFFER: usize = 128;

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// A minimal edge-triggered epoll loop: the yardstick.
    Epoll,
    /// crore, plain `std::net`, a stack for each connection.
    Crore,
    /// The same code on shared stacks.
    Shared,
    /// tokio's current-thread runtime.
    Tokio,
}

impl Server {
    pub(crate) const ALL: [Self; 4] = [Self::Epoll, Self::Crore, Self::Shared, Self::Tokio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Crore => "crore",
            Self::Shared => "shared",
            Self::Tokio => "tokio",
        }
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|server| server.name() == name)
            .ok_or_else(|| format!("no server is called {name:?}"))
    }
}

/// Serves on a free loopback port for ever; first prints its process and its
/// address.
pub(crate) fn serve(server: Server) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{} {}", std::process::id(), listener.local_addr()?);
    match server {
        Server::Epoll => crate::epoll::serve(&listener),
        Server::Crore => crore(&listener),
        Server::Shared => shared(&listener),
        Server::Tokio => tokio(listener),
    }
}

fn crore(listener: &TcpListener) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            let builder = crore::Builder::new().stack_size(32 * 1024);
            drop(builder.spawn(move || echo::<BUFFER>(stream))?);
        }
        Ok(())
    })?
}

fn shared(listener: &TcpListener) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let stream = stream?;
            // SAFETY: `echo` hands its buffer to read and write only, which
            // are done with it when they return; nobody else gets a pointer
            // into its frames.
            drop(unsafe { crore::spawn_shared(move || echo::<SHARED_BUFFER>(stream)) });
        }
        Ok(())
    })?
}

fn echo<const BUFFER: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; BUFFER];
    while let count @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..count])?;
    }
    Ok(())
}

fn tokio(listener: TcpListener) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let local = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut buffer = [0; BUFFER];
                while let count @ 1.. = stream.read(&mut buffer).await? {
                    stream.write_all(&buffer[..count]).await?;
                }
                io::Result::Ok(())
            });
        }
    };
    runtime.block_on(local)
}
