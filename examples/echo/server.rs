//! The server: plain `std::net`. Each blocking call parks one coroutine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Once;
use std::time::Duration;

/// Serves every connection of the listener, on this one thread, for ever.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    crore::run(|| {
        for stream in listener.incoming() {
            let worker = crore::Builder::new().stack_size(32 * 1024);
            if let Err(e) = stream.and_then(|stream| worker.spawn(|| echo(stream))) {
                refuse(&e);
            }
        }
    })
}

/// Sends back what comes until the peer ends.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

/// Out of open files or coroutines: says so once, and waits a little for some
/// to come back.
fn refuse(e: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| eprintln!("a connection could not be served: {e}; going on"));
    std::thread::sleep(Duration::from_millis(10));
}
