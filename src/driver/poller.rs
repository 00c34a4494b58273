//! Poller: the seam to the kernel's event queue. What stands above it knows
//! descriptors, serial numbers and [`ReadyEvent`]s; what the queue is made of,
//! only a [`Backend`] knows. The one that ships is [`Epoll`], by mio, and this
//! is the only file that names mio.
//!
//! A runtime's backend is chosen when the runtime is built; each worker has a
//! poller of its own from it. It is called where a system call is made anyway:
//! what a wait on a registered descriptor touches lies above this seam. The
//! other backend is the tests': `memory.rs`, files and a queue without a kernel.
//!
//! # The contract
//!
//! - A **registration** is of the file that a number means at that moment,
//!   under that number, with a serial that its events carry. It reports both
//!   directions, **edge-triggered**: what is ready when it is made or made
//!   again, and whatever becomes ready from then on; each once.
//! - It ends with [`Poller::deregister`] and with the file. The *file*: while a
//!   `dup` keeps that, a registration goes on under a number that was closed,
//!   and may mean another file by now. Its serial tells.
//! - Errors are [`WatchError`]s. Each says what those above do about it.
//!
//! # Why not io_uring
//!
//! As a queue of readiness it would fit: `register` is a multishot
//! `IORING_OP_POLL_ADD` with number and serial as its user data; `reregister`
//! takes that back and adds another, and has to find out by itself whether the
//! number still means the file, because a poll request holds the file and never
//! looks at the number again; `wait` is `io_uring_enter`, the timer fd an
//! `IORING_OP_TIMEOUT`. It would save the system call of a registration, which
//! is one in the life of a descriptor.
//!
//! Its other style, completion, does not fit and stays out: the kernel would
//! write into buffers in a coroutine's frames while other coroutines have the
//! same stack, and the frames lie elsewhere (I8). Buffers that the runtime owns
//! are copied a second time; that costs more than the call that they save.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::clock::TimeSource;
use crate::sys::errno::{EBADF, ENOENT, ENOMEM, ENOSPC, EPERM};
use crate::sys::fd::{EventFd, TimerFd, bell, own, unwatch};
use crate::sys::sockopt::is_tcp_stream;

/// What the workers of a runtime wait with.
pub(crate) trait Backend: Debug + Send + Sync + RefUnwindSafe {
    /// A poller, for one worker.
    ///
    /// # Errors
    ///
    /// It may need descriptors: `EMFILE` and `ENFILE` in words.
    fn poller(&self) -> io::Result<Box<dyn Poller>>;

    /// What time it is; `None`: what the system says.
    fn time(&self) -> Option<Arc<dyn TimeSource>>;
}

/// One worker's event queue.
pub(crate) trait Poller: Debug {
    /// Registers what `fd` means now. If that is registered under this number
    /// already, it gets the new serial.
    fn register(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError>;

    /// Registers again what `fd` is registered for, with the serial that it
    /// has: a file that is ready is reported once more.
    fn reregister(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError>;

    /// Ends the registration of what `fd` means now, if there is one.
    fn deregister(&mut self, fd: RawFd);

    /// Appends what has become ready. With `block` it first sleeps until
    /// something is, or the timer or a notifier has gone off; it may return
    /// early. Whether the timer has gone off, which it does once.
    ///
    /// # Errors
    ///
    /// None that can be expected.
    fn wait(&mut self, block: bool, events: &mut Vec<ReadyEvent>) -> io::Result<bool>;

    /// What ends a blocking [`wait`](Self::wait), now or the next one.
    fn notifier(&self) -> Notifier;

    /// [`deregister`](Self::deregister) without a borrow, for the poller's own thread.
    fn deregister_by_number(&self) -> DeregisterFn;

    /// Sets the one timer to go off in `delay`; an earlier setting is void.
    ///
    /// # Errors
    ///
    /// None that can be expected.
    fn arm(&mut self, delay: Duration) -> io::Result<()>;

    /// Whether `fd` is a TCP socket, of which a short transfer says that it is
    /// not ready any more.
    fn is_tcp_stream(&self, fd: RawFd) -> bool;
}

/// Called by any thread, with locks held: it blocks nowhere.
pub(crate) type Notifier = Box<dyn Fn() + Send + Sync>;

/// Called with whatever borrowed, and in signal handlers. Of use while its poller lives.
pub(crate) type DeregisterFn = Box<dyn Fn(RawFd)>;

/// Why a descriptor can't be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchError {
    /// The number is not open (`EBADF`): its waiters are closed.
    NotOpen,
    /// A regular file, or another that is always ready (`EPERM`): nobody waits
    /// for it, the call blocks its thread.
    AlwaysReady,
    /// [`Poller::reregister`] only: the number means another file than the one
    /// that was registered (`ENOENT`). The reactor registers that one; nobody
    /// above hears of it.
    NotRegistered,
    /// The kernel watches no more (`ENOSPC`, which is
    /// `fs.epoll.max_user_watches`, or `ENOMEM`): one looks again every few
    /// milliseconds instead.
    Exhausted(i32),
    /// Nothing that can be expected: the call that wanted to wait fails with it.
    Other(i32),
}

impl WatchError {
    /// The error number for which this stands.
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::NotOpen => EBADF,
            Self::AlwaysReady => EPERM,
            Self::NotRegistered => ENOENT,
            Self::Exhausted(errno) | Self::Other(errno) => errno,
        }
    }
}

impl From<WatchError> for io::Error {
    fn from(error: WatchError) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

impl From<io::Error> for WatchError {
    #[cold]
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().unwrap_or(0) {
            EBADF => Self::NotOpen,
            EPERM => Self::AlwaysReady,
            ENOENT => Self::NotRegistered,
            errno @ (ENOSPC | ENOMEM) => Self::Exhausted(errno),
            errno => Self::Other(errno),
        }
    }
}

/// What became ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadyEvent {
    /// The number under which the file was registered.
    pub(crate) fd: RawFd,
    /// The serial of that registration.
    pub(crate) serial: u32,
    pub(crate) ready: Readiness,
}

/// How it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Urgent data included.
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// No further reads will wait: end of stream, hang-up or error.
    pub(crate) read_closed: bool,
    /// No further writes will wait: closed, hang-up or error.
    pub(crate) write_closed: bool,
    /// Out-of-band data, where short reads may stop at its mark; or what else of a file
    /// `POLLPRI` means.
    pub(crate) urgent: bool,
}

/// The kernel's epoll.
#[derive(Debug)]
pub(crate) struct Epoll;

impl Backend for Epoll {
    fn poller(&self) -> io::Result<Box<dyn Poller>> {
        let poller = EpollPoller::new().map_err(|e| {
            io::Error::new(
                e.kind(),
                format!(
                    "cannot create a worker's reactor (an epoll, an eventfd and a timerfd): {e}; \
                     if descriptors ran out, raise `ulimit -n`"
                ),
            )
        })?;
        Ok(Box::new(poller))
    }

    fn time(&self) -> Option<Arc<dyn TimeSource>> {
        None
    }
}

/// Events that one wait takes from the kernel.
const EVENTS: usize = 1024;

/// Urgent data is asked for in any case: a read stops short at its mark, which
/// says nothing about what lies behind.
const INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

/// Tokens hold a descriptor in the low half; these two are not descriptors. (The
/// notifier's is the bell's, too.)
const NOTIFIER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
const _: () = assert!(
    usize::BITS == 64,
    "a token holds a descriptor and a serial number"
);

/// mio's epoll, whose number is the runtime's while it is there.
#[derive(Debug)]
struct OwnPoll(Poll);

impl OwnPoll {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        own::keep(poll.as_raw_fd());
        Ok(Self(poll))
    }

    fn registry(&self) -> &Registry {
        self.0.registry()
    }
}

impl Drop for OwnPoll {
    fn drop(&mut self) {
        own::release(self.0.as_raw_fd());
    }
}

#[derive(Debug)]
struct EpollPoller {
    poll: OwnPoll,
    events: Events,
    notifier: Arc<EventFd>,
    timer_fd: TimerFd,
}

impl EpollPoller {
    fn new() -> io::Result<Self> {
        let poll = OwnPoll::new()?;
        let (notifier, timer_fd) = (Arc::new(EventFd::new()?), TimerFd::new()?);
        for (fd, token) in [
            (notifier.as_raw_fd(), NOTIFIER),
            (bell::fd()?, NOTIFIER),
            (timer_fd.as_raw_fd(), TIMER),
        ] {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            notifier,
            timer_fd,
        })
    }
}

fn token(fd: RawFd, serial: u32) -> Token {
    Token((serial as usize) << 32 | fd as u32 as usize)
}

impl Poller for EpollPoller {
    fn register(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        let (registry, token) = (self.poll.registry(), token(fd, serial));
        match registry.register(&mut SourceFd(&fd), token, INTEREST) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.reregister(fd, serial),
            result => Ok(result?),
        }
    }

    fn reregister(&mut self, fd: RawFd, serial: u32) -> Result<(), WatchError> {
        let (registry, token) = (self.poll.registry(), token(fd, serial));
        Ok(registry.reregister(&mut SourceFd(&fd), token, INTEREST)?)
    }

    fn deregister(&mut self, fd: RawFd) {
        // Fails if the descriptor is closed by now: then it is not needed.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    fn wait(&mut self, block: bool, events: &mut Vec<ReadyEvent>) -> io::Result<bool> {
        let timeout = if block { None } else { Some(Duration::ZERO) };
        match self.poll.0.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(false),
            result => result?,
        }
        let mut timer = false;
        for event in &self.events {
            match event.token() {
                NOTIFIER => {}
                TIMER => timer = true,
                Token(bits) => events.push(ReadyEvent {
                    fd: bits as u32 as RawFd,
                    serial: (bits >> 32) as u32,
                    ready: Readiness {
                        read: event.is_readable(),
                        write: event.is_writable(),
                        read_closed: event.is_read_closed() || event.is_error(),
                        write_closed: event.is_write_closed() || event.is_error(),
                        urgent: event.is_priority(),
                    },
                }),
            }
        }
        Ok(timer)
    }

    fn notifier(&self) -> Notifier {
        let notifier = Arc::clone(&self.notifier);
        Box::new(move || notifier.signal())
    }

    fn deregister_by_number(&self) -> DeregisterFn {
        let epoll = self.poll.0.as_raw_fd();
        Box::new(move |fd| unwatch(epoll, fd))
    }

    fn arm(&mut self, delay: Duration) -> io::Result<()> {
        self.timer_fd.arm(delay)
    }

    fn is_tcp_stream(&self, fd: RawFd) -> bool {
        is_tcp_stream(fd)
    }
}
