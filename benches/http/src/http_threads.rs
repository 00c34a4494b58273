//! `http_threads ADDRESS [DATABASE POOL]`: the very code of `examples/http`, with a thread
//! for each connection and without limits of time.

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::app::App;
use http::connection::{Limits, Reply, Request, Service, serve};
use http::pool::Pool;

/// What of it knows nothing of crore.
#[allow(dead_code, reason = "the whole files, of which this takes a part")]
#[path = "../../../examples/http/src"]
mod http {
    pub mod app;
    pub mod connection;
    mod date;
    pub mod pool;
}

const PATIENCE: Duration = Duration::from_secs(5);

struct Threads(App);

impl Service for Threads {
    fn answer(&self, request: &Request<'_>, body: &mut Vec<u8>) -> Reply {
        self.0.answer(request, body)
    }

    fn is_ending(&self) -> bool {
        false
    }

    fn read(&self, mut stream: &TcpStream, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
        stream.read(buffer)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args
        .next()
        .ok_or("usage: http_threads ADDRESS [DATABASE POOL]")?;
    let pool = match args.next() {
        None => None,
        Some(database) => {
            let size = args.next().ok_or("of how many connections?")?.parse()?;
            Some(Pool::new(database.parse()?, size, PATIENCE))
        }
    };
    let service = Arc::new(Threads(App { pool }));
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, service) = (stream?, service.clone());
        thread::Builder::new()
            .stack_size(256 << 10)
            // How a connection ends is the client's business.
            .spawn(move || serve(&stream, &*service, &Limits::default()))?;
    }
    Ok(())
}
