//! An echo server on std alone, a thread for each connection: prints its port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

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
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for peer in listener.incoming() {
        let peer = peer?;
        let thread = thread::Builder::new().stack_size(64 << 10);
        thread.spawn(move || serve(peer))?;
    }
    Ok(())
}
