//! A client process: one half of so many connections, in plain blocking code.
//!
//! It does what the lines on stdin say and answers on stdout:
//!
//! ```text
//!   open N        opens N more, echoes a message on each      at K … done
//!   echo          echoes a message on every connection        at K … done
//!   probe MS      one message at a time, for so long          took NS NS … done
//!   (end)         ends, which closes them all by reset
//! ```
//!
//! Whatever goes wrong is answered `failed WHY`, once, and ends the step.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::options::Sources;
use crate::pattern::Pattern;

/// Bytes in a message.
const SIZE: usize = 64;

/// Messages on their way at once while connections are opened or all echo.
/// Below the backlog that std asks for (128): a full one costs a second, for
/// the kernel's retry.
pub(crate) const BATCH: usize = 64;

/// How long a reply may take on a machine that is busy with all the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// The source address before the first; loopback has 16 million.
const SOURCES: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// A connection: a socket, and how far in the pattern it is.
struct Connection {
    stream: TcpStream,
    at: u32,
}

/// All connections of this process.
struct Client {
    sources: Sources,
    pattern: Pattern,
    connections: Vec<Connection>,
}

/// Obeys stdin until it ends.
pub(crate) fn run(sources: Sources) -> io::Result<()> {
    let mut client = Client {
        sources,
        pattern: Pattern::new(SIZE),
        connections: Vec::new(),
    };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (command, argument) = line.split_once(' ').unwrap_or((&line, "0"));
        let argument = argument.parse().map_err(io::Error::other)?;
        let done = match command {
            "open" => client.open(argument),
            "echo" => client.echo_all(),
            "probe" => client.probe(Duration::from_millis(argument as u64)),
            _ => Err(io::Error::other(format!("no such command: {line:?}"))),
        };
        if let Err(e) = done {
            println!("failed {e}");
        }
        println!("done");
    }
    Ok(())
}

impl Client {
    fn open(&mut self, count: usize) -> io::Result<()> {
        let all = self.connections.len() + count;
        self.connections.reserve_exact(count);
        while self.connections.len() < all {
            let first = self.connections.len();
            let end = all.min(first + BATCH);
            for number in first..end {
                let stream = self.connect(number)?;
                let Sources { first, each, .. } = self.sources;
                let at = Pattern::start(first as usize * each + number) as u32;
                self.connections.push(Connection { stream, at });
            }
            if let Err(e) = echo(&mut self.connections[first..], &self.pattern) {
                self.connections.truncate(first);
                return Err(e);
            }
            println!("at {}", self.connections.len());
        }
        // Also where there was nothing to open.
        println!("at {all}");
        Ok(())
    }

    fn connect(&self, number: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        // Closing sends a reset: a million ports must not wait in TIME_WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let Sources { server, .. } = self.sources;
        let source = source(&self.sources, number);
        let connected = socket
            .bind(&SockAddr::from(SocketAddr::from((source, 0))))
            .and_then(|()| socket.connect(&server.into()));
        connected.map_err(|e| io::Error::new(e.kind(), format!("from {source}: {e}")))?;
        Ok(socket.into())
    }

    fn echo_all(&mut self) -> io::Result<()> {
        let mut done = 0;
        for batch in self.connections.chunks_mut(BATCH) {
            echo(batch, &self.pattern)?;
            done += batch.len();
            println!("at {done}");
        }
        Ok(())
    }

    /// Connections at random, so that none is still in a cache from the last
    /// time; nothing else is on its way.
    fn probe(&mut self, time: Duration) -> io::Result<()> {
        let (started, mut times) = (Instant::now(), String::new());
        let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(self.sources.first);
        while started.elapsed() < time {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = (random % self.connections.len() as u64) as usize;
            let before = Instant::now();
            echo(&mut self.connections[number..=number], &self.pattern)?;
            times += &format!(" {}", before.elapsed().as_nanos());
        }
        println!("took{times}");
        Ok(())
    }
}

/// Sends a message on each, then waits for all to come back.
fn echo(connections: &mut [Connection], pattern: &Pattern) -> io::Result<()> {
    for Connection { stream, at } in &mut *connections {
        stream.write_all(pattern.message(*at as usize))?;
    }
    debug_assert_eq!(pattern.size(), SIZE);
    let mut buffer = [0; SIZE];
    for Connection { stream, at } in connections {
        stream.read_exact(&mut buffer).map_err(explain)?;
        if buffer != pattern.message(*at as usize) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "other bytes came back than were sent",
            ));
        }
        *at = pattern.after(*at as usize) as u32;
    }
    Ok(())
}

fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(
            ErrorKind::TimedOut,
            format!("no reply within {} s", PATIENCE.as_secs()),
        ),
        ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the server closed the connection")
        }
        _ => error,
    }
}

/// The source address of a connection: on loopback every address is ours.
fn source(sources: &Sources, number: usize) -> Ipv4Addr {
    Ipv4Addr::from(SOURCES + sources.first + (number / sources.each) as u32)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn sources_follow_one_another() {
        let sources = Sources {
            server: "127.0.0.1:9".parse().unwrap(),
            first: 255,
            each: 10,
        };
        assert_eq!(source(&sources, 0), Ipv4Addr::new(127, 1, 0, 255));
        assert_eq!(source(&sources, 9), Ipv4Addr::new(127, 1, 0, 255));
        assert_eq!(source(&sources, 10), Ipv4Addr::new(127, 1, 1, 0));
    }

    /// A client of a listener that answers as `reply` says, a thread a peer.
    fn client(reply: fn(&mut [u8]) -> usize) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; SIZE];
                    while stream.read_exact(&mut buffer).is_ok() {
                        let count = reply(&mut buffer);
                        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Client {
            sources: Sources {
                server,
                first: 0,
                each: 14_000,
            },
            pattern: Pattern::new(SIZE),
            connections: Vec::new(),
        }
    }

    #[test]
    fn right_bytes_are_right() {
        let mut client = client(|_| SIZE);
        client.open(70).unwrap();
        client.echo_all().unwrap();
        client.probe(Duration::from_millis(1)).unwrap();
        client.open(1).unwrap();
        assert_eq!(client.connections.len(), 71);
    }

    #[test]
    fn wrong_bytes_and_no_bytes_are_found() {
        let mut wrong = client(|bytes| {
            bytes[SIZE - 1] ^= 1;
            SIZE
        });
        let error = wrong.open(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(wrong.connections.is_empty());
        let error = client(|_| 0).open(1).unwrap_err();
        assert_eq!(error.to_string(), "the server closed the connection");
    }
}
