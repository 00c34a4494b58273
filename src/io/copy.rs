//! [`copy_bidirectional`]: a proxy's loop, for both directions in one coroutine.
//!
//! Each direction is a *flow*: bytes go from its source into a pipe, and on to its sink,
//! moved by the kernel (`splice`). Where a source or a sink can't be spliced they go
//! through a buffer. A flow that holds bytes waits for its sink, one that holds none for
//! its source; so it waits for one descriptor, and both together for two at most.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Io, plain};
use crate::driver::Direction;
use crate::sched::{self, CurrentTask};
use crate::sys::errno;
use crate::sys::transfer;

/// Bytes that a flow holds at most: what a pipe takes.
const CHUNK: usize = 64 << 10;

/// Copies from `a` to `b` and from `b` to `a` until both have ended; says how many bytes
/// went each way. When one side ends, the other is told (`shutdown`) as soon as all bytes
/// are there, and may go on sending: a half-close passes through. On sockets and pipes
/// no byte passes through the program.
///
/// # Errors
///
/// `TimedOut` when nothing has moved in either direction for `idle`; `ECANCELED` when the
/// coroutine [is to end](super::is_cancelled); and what the descriptors say. What was read
/// and not written yet is lost then. The descriptors stay open.
///
/// # Panics
///
/// Outside a coroutine.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use crore::io::{Io, copy_bidirectional};
///
/// crore::run(|| {
///     let ((client, inside), (outside, server)) = (UnixStream::pair()?, UnixStream::pair()?);
///     let proxy = crore::spawn(move || {
///         let (inside, outside) = (Io::new(inside)?, Io::new(outside)?);
///         copy_bidirectional(&inside, &outside, Duration::from_secs(60))
///     });
///     let (mut client, mut server) = (Io::new(client)?, Io::new(server)?);
///     client.write_all(b"question")?;
///     client.get_ref().shutdown(Shutdown::Write)?;
///     let mut text = String::new();
///     server.read_to_string(&mut text)?; // the end has passed
///     server.write_all(b"answer")?;
///     drop(server);
///     client.read_to_string(&mut text)?;
///     assert_eq!(text, "questionanswer");
///     assert_eq!(proxy.join().unwrap()?, (8, 6));
///     std::io::Result::Ok(())
/// })??;
/// # std::io::Result::Ok(())
/// ```
pub fn copy_bidirectional<A: AsFd, B: AsFd>(
    a: &Io<A>,
    b: &Io<B>,
    idle: Duration,
) -> io::Result<(u64, u64)> {
    let Some(cx) = CurrentTask::running() else {
        outside();
    };
    let mut flows = [
        Flow::new(a.as_fd(), b.as_fd())?,
        Flow::new(b.as_fd(), a.as_fd())?,
    ];
    let mut limit = Instant::now().checked_add(idle);
    loop {
        plain(cx.check_parkable_for(Direction::Read))?;
        let mut moved = false;
        for flow in &mut flows {
            moved |= flow.step()?;
        }
        if flows.iter().all(|flow| flow.ended) {
            let [there, back] = flows.map(|flow| flow.total);
            return Ok((there, back));
        }
        if moved {
            limit = Instant::now().checked_add(idle);
            cx.spend();
        } else if cx.is_over(limit) {
            return Err(io::ErrorKind::TimedOut.into());
        } else {
            let waits = flows.iter().filter_map(Flow::waits_for);
            let waits: Vec<_> = waits
                .map(|(fd, dir)| (fd.as_raw_fd(), dir.into()))
                .collect();
            let until = limit.into_iter().chain(cx.deadline()).min();
            cx.wait_on_any(&waits, until);
        }
    }
}

/// One direction.
struct Flow<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    held: FlowStore,
    /// Nothing more comes.
    at_end: bool,
    /// The sink was told so.
    ended: bool,
    total: u64,
}

/// What is between source and sink.
enum FlowStore {
    Pipe {
        reader: OwnedFd,
        writer: OwnedFd,
        bytes: usize,
    },
    Buffer {
        bytes: Vec<u8>,
        done: usize,
    },
}

impl<'a> Flow<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> io::Result<Self> {
        let (reader, writer) = transfer::pipe()?;
        // Numbers that begin where no hook sees it.
        sched::renew_fd(reader.as_raw_fd());
        sched::renew_fd(writer.as_raw_fd());
        Ok(Self {
            from,
            to,
            held: FlowStore::Pipe {
                reader,
                writer,
                bytes: 0,
            },
            at_end: false,
            ended: false,
            total: 0,
        })
    }

    /// Moves what can be moved without waiting, once; whether anything was.
    fn step(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let mut moved = false;
        if self.held.len() == 0 && !self.at_end {
            match self.held.fill(self.from) {
                Ok(0) => self.at_end = true,
                Ok(_) => {}
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) if self.held.cannot(&error) => {
                    self.held = FlowStore::buffer();
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
            moved = true;
        }
        if self.held.len() > 0 {
            match self.held.empty(self.to) {
                Ok(bytes) => self.total += bytes as u64,
                Err(error) if would_block(&error) => return Ok(moved),
                Err(error) if self.held.cannot(&error) => self.held.unsplice()?,
                Err(error) => return Err(error),
            }
            moved = true;
        }
        if self.at_end && self.held.len() == 0 {
            transfer::end_writing(self.to)?;
            self.ended = true;
        }
        Ok(moved)
    }

    /// What has to become ready for it to go on.
    fn waits_for(&self) -> Option<(BorrowedFd<'a>, Direction)> {
        if self.ended {
            None
        } else if self.held.len() > 0 {
            Some((self.to, Direction::Write))
        } else {
            Some((self.from, Direction::Read))
        }
    }
}

impl FlowStore {
    fn buffer() -> Self {
        Self::Buffer {
            bytes: Vec::new(),
            done: 0,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Pipe { bytes, .. } => *bytes,
            Self::Buffer { bytes, done } => bytes.len() - done,
        }
    }

    /// Takes from the source, when it holds nothing.
    fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        match self {
            Self::Pipe { writer, bytes, .. } => {
                *bytes = transfer::splice(from, writer.as_fd(), CHUNK)?;
                Ok(*bytes)
            }
            Self::Buffer { bytes, done } => {
                *done = 0;
                bytes.resize(CHUNK, 0);
                let read = transfer::read(from, bytes);
                bytes.truncate(*read.as_ref().unwrap_or(&0));
                read
            }
        }
    }

    /// Gives to the sink.
    fn empty(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        match self {
            Self::Pipe { reader, bytes, .. } => {
                let moved = transfer::splice(reader.as_fd(), to, *bytes)?;
                *bytes -= moved;
                Ok(moved)
            }
            Self::Buffer { bytes, done } => {
                let moved = transfer::write(to, &bytes[*done..])?;
                *done += moved;
                Ok(moved)
            }
        }
    }

    /// Whether an error says that there is no splicing.
    fn cannot(&self, error: &io::Error) -> bool {
        matches!(self, Self::Pipe { .. }) && error.raw_os_error() == Some(errno::EINVAL)
    }

    /// What the pipe holds goes on through a buffer.
    fn unsplice(&mut self) -> io::Result<()> {
        let mut held = vec![0; self.len()];
        if let Self::Pipe { reader, .. } = self {
            let got = transfer::read(reader.as_fd(), &mut held)?;
            debug_assert_eq!(got, held.len(), "a pipe gives all that it holds");
        }
        *self = Self::Buffer {
            bytes: held,
            done: 0,
        };
        Ok(())
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cold]
fn outside() -> ! {
    panic!(
        "copy_bidirectional was called outside a coroutine: a plain thread can't wait for two \
         descriptors; spawn a coroutine for this, or call it inside crore::run(|| …)"
    )
}
