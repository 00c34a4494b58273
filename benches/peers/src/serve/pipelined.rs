//! Servers of a [`Service`]: all read up to [`Conversation::ROOM`] bytes, answer the requests
//! that are whole, and send the answers in one piece.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::thread;

use super::epoll::on_events;
use crate::pipelined::{Conversation, Service};

/// A connection in plain blocking code: for threads and for coroutines that stand in for
/// them.
///
/// # Errors
///
/// Those of the socket, and what is no request.
pub fn converse(mut stream: TcpStream, service: Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut conversation = Conversation::new(service);
    while let count @ 1.. = stream.read(conversation.room())? {
        stream.write_all(conversation.came(count)?)?;
    }
    Ok(())
}

/// A thread for each connection.
///
/// # Errors
///
/// Those of `accept`, and of threads that can't be had.
pub fn threads(listener: TcpListener, service: Service) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        drop(thread::Builder::new().spawn(move || converse(stream, service))?);
    }
    Ok(())
}

/// The edge-triggered loop, with a conversation for each connection.
///
/// # Errors
///
/// Those of `accept` and of epoll.
pub fn epoll(listener: TcpListener, service: Service) -> io::Result<()> {
    let mut talks = HashMap::new();
    on_events(listener, libc::EPOLLIN | libc::EPOLLOUT, |fd| {
        let talk = talks.entry(fd).or_insert_with(|| Talk {
            conversation: Conversation::new(service),
            sent: 0,
        });
        let waits = |e: io::Error| e.kind() == ErrorKind::WouldBlock;
        let goes_on = talk.go_on(fd).map_or_else(waits, |()| false);
        if !goes_on {
            talks.remove(&fd);
        }
        goes_on
    })
}

/// A connection of the loop; the answers are sent up to `sent`.
struct Talk {
    conversation: Conversation,
    sent: usize,
}

impl Talk {
    /// Reads and answers until the client is done; until then the error is why not.
    fn go_on(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the loop's, which closes it; open until then.
        let mut stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(fd) });
        let mut drained = false;
        loop {
            while self.sent < self.conversation.output.len() {
                self.sent += stream.write(&self.conversation.output[self.sent..])?;
            }
            if drained {
                return Err(ErrorKind::WouldBlock.into());
            }
            let room = self.conversation.room();
            let all = room.len();
            let count = stream.read(room)?;
            if count == 0 {
                return Ok(());
            }
            // A short read has drained the socket; the next byte is a new edge.
            drained = count < all;
            self.sent = 0;
            self.conversation.came(count)?;
        }
    }
}

/// tokio's current-thread runtime.
///
/// # Errors
///
/// Those of `accept`.
pub fn tokio(listener: TcpListener, service: Service) -> io::Result<()> {
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
                let mut conversation = Conversation::new(service);
                while let count @ 1.. = stream.read(conversation.room()).await? {
                    stream.write_all(conversation.came(count)?).await?;
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
pub fn smol(listener: TcpListener, service: Service) -> io::Result<()> {
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = smol::net::TcpListener::try_from(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            let talk = executor.spawn(async move {
                stream.set_nodelay(true)?;
                let mut conversation = Conversation::new(service);
                while let count @ 1.. = stream.read(conversation.room()).await? {
                    stream.write_all(conversation.came(count)?).await?;
                }
                io::Result::Ok(())
            });
            talk.detach();
        }
    }))
}

/// monoio on io_uring.
///
/// # Errors
///
/// Those of `accept`, and of kernels without io_uring.
pub fn monoio(listener: TcpListener, service: Service) -> io::Result<()> {
    use monoio::buf::IoBufMut;
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
    let mut runtime = builder.with_entries(4096).build()?;
    runtime.block_on(async {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            monoio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut talk = Conversation::new(service);
                loop {
                    let room = std::mem::take(&mut talk.input).slice_mut(talk.filled..);
                    let (count, read) = stream.read(room).await;
                    talk.input = read.into_inner();
                    if count.as_ref().is_ok_and(|&count| count == 0) {
                        return io::Result::Ok(());
                    }
                    talk.came(count?)?;
                    let (sent, written) = stream.write_all(std::mem::take(&mut talk.output)).await;
                    talk.output = written;
                    sent?;
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
pub fn may(listener: TcpListener, service: Service) -> io::Result<()> {
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
                    let mut conversation = Conversation::new(service);
                    while let count @ 1.. = stream.read(conversation.room())? {
                        stream.write_all(conversation.came(count)?)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelined::check;
    use crate::subject::Pipelined;

    /// Each service, in pieces that end in the midst of requests and in large ones.
    fn answers_right(serve: Pipelined) {
        for service in Service::ALL {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap();
            thread::spawn(move || serve(listener, service).expect("it serves for ever"));
            for piece in [131, 30_001] {
                check(server, service, piece);
            }
        }
    }

    #[test]
    fn the_loop_answers_right() {
        answers_right(epoll);
    }

    #[test]
    fn threads_answer_right() {
        answers_right(threads);
    }

    #[test]
    fn tokio_answers_right() {
        answers_right(tokio);
    }

    #[test]
    fn smol_answers_right() {
        answers_right(smol);
    }

    #[test]
    fn may_answers_right() {
        answers_right(may);
    }

    #[test]
    fn monoio_answers_right() {
        answers_right(monoio);
    }
}
