//! The echo server of `figures/echo.rs` with crore linked: a coroutine for each connection.
//! Prints its port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn serve(mut peer: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match peer.read(&mut buffer)? {
            0 => return Ok(()),
            got => peer.write_all(&buffer[..got])?,
        }
    }
}

fn main() -> std::io::Result<()> {
    crore::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?.port());
        for peer in listener.incoming() {
            let peer = peer?;
            crore::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || serve(peer))?;
        }
        Ok(())
    })?
}
