//! The server: plain `std::net`. Each blocking call parks one coroutine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Once;
use std::time::Duration;

/// How a connection is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// On a stack of its own.
    Dedicated,
    /// On a shared stack: what lies on it while the connection waits is kept.
    Shared,
    /// The same, and a connection that waits has no buffer.
    Lean,
}

/// Serves every connection of the listener, on this one thread, for ever. Out
/// of open files or coroutines it says so once, and waits for some to come back.
pub(crate) fn serve(listener: &TcpListener, service: Service) -> io::Result<()> {
    static SAID: Once = Once::new();
    crore::run(|| {
        for stream in listener.incoming() {
            let builder = crore::Builder::new().stack_size(32 * 1024);
            let spawned = stream.and_then(|stream| match service {
                Service::Dedicated => builder.spawn(|| echo::<1024>(stream)),
                // SAFETY: `echo` lends its buffer to `read` and `write_all`
                // only, and keeps nothing else that others could point to.
                Service::Shared => unsafe { builder.spawn_shared(|| echo::<128>(stream)) },
                // SAFETY: the same, and the byte lent to `peek`.
                Service::Lean => unsafe { builder.spawn_shared(|| echo_lean(stream)) },
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

/// The same; waits for the first byte before it has a buffer to read it to.
/// That costs a system call more for each answer.
fn echo_lean(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while stream.peek(&mut [0])? > 0 {
        answer(&stream)?;
    }
    Ok(())
}

/// Sends back what is there. Its frame is gone while the connection waits.
#[inline(never)]
fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer)?;
    stream.write_all(&buffer[..count])
}
