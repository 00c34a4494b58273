//! The server: plain `std::net`. Each blocking call parks one coroutine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Once;
use std::time::Duration;

/// Serves every connection of the listener, on this one thread, for ever. Out
/// of open files or coroutines it says so once, and waits for some to come back.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    static SAID: Once = Once::new();
    crore::run(|| {
        for stream in listener.incoming() {
            let builder = crore::Builder::new().stack_size(32 * 1024);
            if let Err(e) = stream.and_then(|stream| builder.spawn(|| echo(stream))) {
                SAID.call_once(|| eprintln!("a connection could not be served: {e}; going on"));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    })
}

/// Sends back what comes until the peer ends. A buffer of 4 KiB would take a
/// second page of the stack.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    while let count @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..count])?;
    }
    Ok(())
}
