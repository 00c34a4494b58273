//! [`Listener`]: accepting that goes on where one connection fails.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Io, net, plain};
use crate::driver::Direction;
use crate::sched::CurrentTask;
use crate::sys::errno;
use crate::sys::report::report;

/// How long a listener waits at first when the process has no descriptors left, and at
/// most: until a connection has ended, which nobody tells.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(500)];

/// A TCP listener for servers: [`accept`](Self::accept) fails only when there is nothing
/// more to accept.
///
/// ```
/// use std::io::{Read, Write};
/// use crore::io::Listener;
///
/// crore::run(|| {
///     # #[cfg(not(feature = "hook"))] return Ok(());
///     let listener = Listener::bind("127.0.0.1:0")?;
///     let addr = listener.local_addr()?;
///     let token = crore::CancelToken::new();
///     let accepting = token.clone();
///     let acceptor = crore::spawn(move || {
///         accepting.bind(|| {
///             while let Ok((mut stream, _)) = listener.accept() {
///                 crore::spawn(move || stream.write_all(b"hello"));
///             }
///         });
///     });
///     let mut said = String::new();
///     std::net::TcpStream::connect(addr)?.read_to_string(&mut said)?;
///     assert_eq!(said, "hello");
///     token.cancel();
///     acceptor.join().unwrap();
///     std::io::Result::Ok(())
/// })??;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Listener(Io<TcpListener>);

impl Listener {
    /// A listener at `addr`, with the longest queue that the kernel allows
    /// (`net.core.somaxconn`).
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::bind`].
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::with_backlog(addr, i32::MAX as u32)
    }

    /// As [`bind`](Self::bind); of those that connect at most so many wait to be accepted.
    ///
    /// ```
    /// let listener = crore::io::Listener::with_backlog("127.0.0.1:0", 16)?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::bind`].
    pub fn with_backlog(addr: impl ToSocketAddrs, backlog: u32) -> io::Result<Self> {
        let backlog = backlog.min(i32::MAX as u32) as i32;
        let listener = net::first_that_works(addr, |addr| net::listener(&addr, backlog, false))?;
        Io::new(listener).map(Self)
    }

    /// One for each worker: see [`bind_per_worker`](super::bind_per_worker).
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().workers(2).build()?;
    /// let all = runtime.run(|| crore::io::Listener::per_worker("127.0.0.1:0"))??;
    /// assert_eq!(all.len(), 2);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`bind_per_worker`](super::bind_per_worker).
    pub fn per_worker(addr: impl ToSocketAddrs) -> io::Result<Vec<Self>> {
        let all = net::bind_per_worker(addr)?.into_iter();
        all.map(|one| Io::new(one).map(Self)).collect()
    }

    /// Waits for the next connection, which blocks as std's does: with the hooks it parks.
    /// Parks the coroutine, or blocks the thread outside of one.
    ///
    /// What concerns a connection alone (it was reset before it was accepted) leads to the
    /// next one. When the process or the system has no descriptor or no memory for it
    /// (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) it waits a little, longer each time up to
    /// half a second, and tries again; the first time in a process a report says so.
    ///
    /// # Errors
    ///
    /// `ECANCELED` if the coroutine is to end, see
    /// [`io::is_cancelled`](super::is_cancelled); and what says that this is no listener
    /// any more.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let [mut pause, longest] = BACK_OFF;
        loop {
            let error = match self.0.read_with(TcpListener::accept) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(code) if errno::OF_ONE_CONNECTION.contains(&code) => {}
                Some(code) if errno::OUT_OF_ROOM.contains(&code) => {
                    out_of_room(&error);
                    rest(pause)?;
                    pause = longest.min(pause * 2);
                }
                _ => return Err(error),
            }
        }
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// As for [`TcpListener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// std's listener, which blocks.
    ///
    /// # Errors
    ///
    /// What `fcntl` says.
    pub fn into_inner(self) -> io::Result<TcpListener> {
        self.0.into_inner()
    }
}

/// For [`select!`](crate::select!): `readable(&listener)`.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets time pass, unless the coroutine is to end.
fn rest(time: Duration) -> io::Result<()> {
    let Some(cx) = CurrentTask::parkable() else {
        thread::sleep(time);
        return Ok(());
    };
    let end = Instant::now() + time;
    while !cx.is_over(Some(end)) {
        plain(cx.check_parkable_for(Direction::Read))?;
        cx.park_until(Some(end));
    }
    Ok(())
}

#[cold]
fn out_of_room(error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        report(format_args!(
            "a listener can't accept ({error}): it waits until there is room; raise the limit of \
             open files, or accept with a Semaphore's permit only"
        ));
    }
}
