//! The server: plain `std::net`. Each blocking call parks one coroutine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Once;
use std::time::Duration;

/// Serves every connection of the listener, on this one thread, for ever. Out
/// of open files or coroutines it says so once, and waits for some to come back.
pub(crate) fn serve(listener: &TcpListener, shared: bool) -> io::Result<()> {
    static SAID: Once = Once::new();
    crore::run(|| {
        for stream in listener.incoming() {
            let builder = crore::Builder::new().stack_size(32 * 1024);
            let spawned = stream.and_then(|stream| match shared {
                false => builder.spawn(|| echo::<1024>(stream)),
                // SAFETY: `echo` lends its buffer to `read` and `write_all`
                // only, and keeps nothing else that others could point to.
                true => unsafe { builder.spawn_shared(|| echo::<128>(stream)) },
            });
            if let Err(e) = spawned {
                SAID.call_once(|| eprintln!("a connection could not be served: {e}; going on"));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    })
}

/// Sends back what comes until the peer ends. On a stack of its own a buffer of
/// 4 KiB would take a second page; on a shared one every byte is kept for as
/// long as the connection waits.
fn echo<const BUFFER: usize>(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; BUFFER];
    while let count @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..count])?;
    }
    Ok(())
}
