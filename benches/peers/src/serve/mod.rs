//! The echo servers. All read up to [`BUFFER`] bytes and send them back, set
//! `TCP_NODELAY`, and use one thread, but for the thread for each connection. `pipelined`
//! has servers for clients that do not wait for an answer before they ask again.

mod epoll;
pub mod pipelined;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

pub use epoll::serve as epoll;

/// Bytes that a server reads at once: room for a message, so that a reader
/// knows by a short read that there is no more.
pub const BUFFER: usize = 1280;

/// The echo in plain blocking code: for threads and for coroutines that stand
/// in for them.
///
/// # Errors
///
/// Those of the socket.
pub fn echo(mut stream: TcpStream) -> io::Result<()> {
    echo_through(&mut stream, &mut [0; BUFFER])
}

/// The same with a buffer on the heap.
///
/// # Errors
///
/// Those of the socket.
pub fn echo_on_heap(mut stream: TcpStream) -> io::Result<()> {
    echo_through(&mut stream, &mut vec![0; BUFFER])
}

#[inline(always)]
fn echo_through(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let count @ 1.. = stream.read(buffer)? {
        stream.write_all(&buffer[..count])?;
    }
    Ok(())
}

/// A thread for each connection.
///
/// # Errors
///
/// Those of `accept`, and of threads that can't be had.
pub fn threads(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        let builder = thread::Builder::new().stack_size(64 * 1024);
        drop(builder.spawn(|| echo(stream))?);
    }
    Ok(())
}

/// tokio's current-thread runtime.
///
/// # Errors
///
/// Those of `accept`.
pub fn tokio(listener: TcpListener) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
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
    })
}

/// smol's executor on one thread.
///
/// # Errors
///
/// Those of `accept`.
pub fn smol(listener: TcpListener) -> io::Result<()> {
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = smol::net::TcpListener::try_from(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            let echo = executor.spawn(async move {
                stream.set_nodelay(true)?;
                let mut buffer = [0; BUFFER];
                while let count @ 1.. = stream.read(&mut buffer).await? {
                    stream.write_all(&buffer[..count]).await?;
                }
                io::Result::Ok(())
            });
            echo.detach();
        }
    }))
}

/// monoio on io_uring.
///
/// # Errors
///
/// Those of `accept`, and of kernels without io_uring.
pub fn monoio(listener: TcpListener) -> io::Result<()> {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
    let mut runtime = builder.with_entries(4096).build()?;
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            monoio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut buffer = Vec::with_capacity(BUFFER);
                loop {
                    let (count, read) = stream.read(buffer).await;
                    if count? == 0 {
                        return io::Result::Ok(());
                    }
                    let (sent, written) = stream.write_all(read).await;
                    sent?;
                    buffer = written;
                    buffer.clear();
                }
            });
        }
    })
}

/// may with one worker.
///
/// # Errors
///
/// Those of `accept`.
pub fn may(listener: TcpListener) -> io::Result<()> {
    use std::os::fd::{FromRawFd, IntoRawFd};

    crate::on_may::configure();
    listener.set_nonblocking(true)?;
    // SAFETY: the descriptor is a listener's and has no other owner.
    let listener = unsafe { may::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    // SAFETY: the closures use no thread-locals of their own, and little stack.
    let accepting = unsafe {
        may::coroutine::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept()?;
                may::coroutine::spawn(move || {
                    stream.set_nodelay(true)?;
                    let mut buffer = [0; BUFFER];
                    while let count @ 1.. = stream.read(&mut buffer)? {
                        stream.write_all(&buffer[..count])?;
                    }
                    io::Result::Ok(())
                });
            }
        })
    };
    accepting
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a coroutine panicked")))
}
