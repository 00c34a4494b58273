//! The core of `examples/push` on tokio and tokio-tungstenite, to be measured beside it:
//! the same messages, the same history with cursors, the same buffers and heartbeats.
//! `examples/push/beside_tokio.sh` runs both.
//!
//! - `channel` has the histories; `session` a WebSocket; `protocol` the messages.

mod channel;
mod protocol;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lexopt::prelude::*;
use tokio::net::TcpSocket;

use channel::Channels;

/// What all connections share.
#[derive(Default)]
pub struct Service {
    pub channels: Channels,
    clients: AtomicU64,
}

struct Options {
    listen: SocketAddr,
    workers: usize,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        listen: ([127, 0, 0, 1], 7790).into(),
        workers: 2,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("listen") => options.listen = args.value()?.parse()?,
            Long("workers") => options.workers = args.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn main() -> std::io::Result<()> {
    let options = options().unwrap_or_else(|why| {
        eprintln!("error: {why}\n\nUsage: push_tokio [--listen ADDRESS] [--workers N]");
        std::process::exit(2)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.workers.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(serve(options.listen))
}

async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4096)?;
    println!("listening at {}", listener.local_addr()?);
    let service = Arc::new(Service::default());
    loop {
        let (socket, _) = listener.accept().await?;
        let number = service.clients.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(session::serve(socket, service.clone(), number));
    }
}
