//! An HTTP/1.1 server of plain `std::net` code in coroutines, that is slow on
//! purpose: what its clients wait for.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crore::sync::Barrier;

use crate::listen;

/// `GET /delay/MS/WORD` answers `WORD` after `MS` milliseconds, `GET
/// /together/WORD` once as many such requests are there as the server was told
/// to expect, `POST /echo` its body. Connections are kept alive.
#[derive(Debug)]
pub struct SlowHttp {
    address: SocketAddr,
    server: crore::JoinHandle<()>,
}

impl SlowHttp {
    /// Starts the server in a coroutine of the runtime that this is called in.
    ///
    /// # Panics
    ///
    /// If it can't listen.
    pub fn start(together: usize) -> Self {
        let listener = listen();
        let address = listener.local_addr().expect("an address");
        let barrier = Arc::new(Barrier::new(together));
        let server = crore::spawn_local(move || {
            while let Ok((peer, _)) = listener.accept() {
                let barrier = Arc::clone(&barrier);
                crore::spawn_local(move || {
                    // A client that is gone, as in the tests of timeouts, is
                    // no concern of the server.
                    let _ = serve(&peer, &barrier);
                });
            }
        });
        Self { address, server }
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for SlowHttp {
    fn drop(&mut self) {
        self.server.cancel();
    }
}

fn serve(peer: &TcpStream, together: &Barrier) -> std::io::Result<()> {
    let mut reader = BufReader::new(peer);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut reader, &mut body)?;
        let mut parts = target.trim_start_matches('/').split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("delay"), Some(ms), Some(word)) => {
                crore::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
                body = word.into();
            }
            (Some("together"), Some(word), None) => {
                together.wait();
                body = word.into();
            }
            (Some("echo"), None, None) => {}
            _ => body = format!("no {target} here").into_bytes(),
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut answer = head.into_bytes();
        answer.append(&mut body);
        (&*peer).write_all(&answer)?;
    }
}
