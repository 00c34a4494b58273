//! Select over everything: what a coroutine may wait for besides channels, as cases of
//! [`select!`](crate::select!).
//!
//! Here are the cases that have no object: [`readable`], [`writable`], [`after`], [`at`],
//! [`cancelled`], [`signal`]. What has one makes its own:
//! [`Receiver::case`](crate::sync::channel::Receiver::case) and its like,
//! [`CancelToken::case`](crate::CancelToken::case),
//! [`JoinHandle::case`](crate::JoinHandle::case). All may be mixed in
//! [`sync::channel::select`](crate::sync::channel::select()), which the macro calls.
//!
//! A connection that waits for its peer, for what others have for it, for its time and
//! for the server's end is one coroutine:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//! use crore::sync::channel::Receiver;
//!
//! fn serve(mut peer: UnixStream, pushes: Receiver<String>) -> io::Result<()> {
//!     let mut buffer = [0; 512];
//!     loop {
//!         crore::select! {
//!             readable(&peer) => match peer.read(&mut buffer)? {
//!                 0 => return Ok(()),
//!                 n => peer.write_all(&buffer[..n])?,
//!             },
//!             recv(pushes) -> text => match text {
//!                 Ok(text) => peer.write_all(text.as_bytes())?,
//!                 Err(_) => return Ok(()),
//!             },
//!             after(Duration::from_secs(60)) => return peer.write_all(b"are you there?"),
//!             cancelled() => return peer.write_all(b"goodbye"),
//!         }
//!     }
//! }
//!
//! crore::run(|| {
//!     # #[cfg(not(feature = "hook"))] return Ok(());
//!     let (mut here, there) = UnixStream::pair()?;
//!     let (push, pushes) = crore::sync::channel::unbounded();
//!     let server = crore::CancelToken::new();
//!     let token = server.clone();
//!     crore::spawn(move || token.bind(|| serve(there, pushes)));
//!
//!     let mut word = [0; 5];
//!     here.write_all(b"hello")?;
//!     here.read_exact(&mut word)?;
//!     push.send("world".into()).unwrap();
//!     here.read_exact(&mut word)?;
//!     server.cancel();
//!     let mut last = String::new();
//!     here.read_to_string(&mut last)?;
//!     assert_eq!((&word, &*last), (b"world", "goodbye"));
//!     io::Result::Ok(())
//! })??;
//! # std::io::Result::Ok(())
//! ```
//!
//! What it costs: a select that waits leaves a waker at each of its cases and takes it
//! back, and allocates nothing once its thread, and what it waits for, have seen one.

mod descriptor;
mod macros;

use std::io;
use std::os::fd::AsFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::Direction;
use crate::sched::CurrentTask;
use crate::signal::SignalPlace;
use crate::sync::channel::{Ready, ReadyCase};
use descriptor::Descriptor;

/// A descriptor has something to read, has ended or has an error: a read would not wait.
/// (It may all the same, if somebody else reads first.) In a coroutine that is asked to
/// end by a [token](crate::CancelToken) a read fails, so this case can go on.
///
/// # Panics
///
/// Outside a coroutine, when it is waited for: a plain thread has no event queue.
///
/// ```
/// use std::io::Write;
/// crore::run(|| {
///     let (reader, mut writer) = std::io::pipe()?;
///     crore::spawn(move || writer.write_all(b"!"));
///     crore::select! {
///         readable(&reader) => std::io::Result::Ok(()),
///         after(std::time::Duration::from_secs(3600)) => unreachable!(),
///     }
/// })?
/// # ;std::io::Result::Ok(())
/// ```
pub fn readable<F: AsFd + ?Sized>(fd: &F) -> ReadyCase<impl Ready<Output = ()>> {
    ReadyCase::new(Descriptor::new(fd.as_fd(), Direction::Read))
}

/// A descriptor takes bytes, or has an error: a write would not wait.
///
/// # Panics
///
/// As for [`readable`].
///
/// ```
/// crore::run(|| {
///     let (_reader, writer) = std::io::pipe()?;
///     crore::select! {
///         writable(&writer) => std::io::Result::Ok(()),
///     }
/// })?
/// # ;std::io::Result::Ok(())
/// ```
pub fn writable<F: AsFd + ?Sized>(fd: &F) -> ReadyCase<impl Ready<Output = ()>> {
    ReadyCase::new(Descriptor::new(fd.as_fd(), Direction::Write))
}

/// So much time has passed since this was called. In a loop that is at each turn anew;
/// [`at`] is for a limit of the whole.
///
/// ```
/// let (_tx, rx) = crore::sync::channel::bounded::<u32>(1);
/// crore::select! {
///     recv(rx) -> _ => unreachable!(),
///     after(std::time::Duration::from_millis(1)) => println!("nothing came"),
/// }
/// ```
pub fn after(time: Duration) -> ReadyCase<impl Ready<Output = ()>> {
    ReadyCase::new(Time(Instant::now().checked_add(time)))
}

/// It is so late.
///
/// ```
/// use std::time::{Duration, Instant};
/// let (tx, rx) = crore::sync::channel::bounded(3);
/// (0..3).for_each(|n| tx.send(n).unwrap());
/// let end = Instant::now() + Duration::from_millis(5);
/// let mut sum = 0;
/// loop {
///     crore::select! {
///         recv(rx) -> n => sum += n.unwrap(),
///         at(end) => break,
///     }
/// }
/// assert!(sum <= 3);
/// ```
pub fn at(instant: Instant) -> ReadyCase<impl Ready<Output = ()>> {
    ReadyCase::new(Time(Some(instant)))
}

/// The coroutine that waits is to end: it was cancelled, or a
/// [token](crate::CancelToken::bind) that it is bound to was. Never outside a coroutine.
/// It is looked at before all other arms: a read that is ready, too, would fail.
///
/// A `select!` without such an arm goes on when a token is cancelled, and
/// [unwinds](crate::JoinHandle::cancel) in a cancelled coroutine; with one, the latter
/// has its arm run, in which nothing that waits succeeds.
///
/// ```
/// use crore::CancelToken;
/// crore::run(|| {
///     let token = CancelToken::new();
///     let theirs = token.clone();
///     let waiting = crore::spawn(move || theirs.bind(|| crore::select! { cancelled() => 7 }));
///     crore::yield_now();
///     token.cancel();
///     assert_eq!(waiting.join().unwrap(), 7);
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub fn cancelled() -> ReadyCase<impl Ready<Output = ()>> {
    ReadyCase::new(IsCancelled)
}

/// One of the signals has come: which. See [`signal::wait`](crate::signal::wait()).
///
/// # Errors
///
/// As [`signal::wait`](crate::signal::wait()): such a case can go on at once.
///
/// ```
/// use crore::signal::{SIGTERM, SIGUSR2};
/// use std::time::Duration;
///
/// let signal = crore::select! {
///     signal(&[SIGTERM, SIGUSR2]) -> signal => Some(signal?),
///     after(Duration::from_millis(1)) => None,
/// };
/// assert_eq!(signal, None);
/// # std::io::Result::Ok(())
/// ```
pub fn signal(signals: &[i32]) -> ReadyCase<impl Ready<Output = io::Result<i32>> + use<>> {
    ReadyCase::new(SignalCase(SignalPlace::new(signals).map_err(Some)))
}

/// A time, if it is not too late to be told.
struct Time(Option<Instant>);

impl Ready for Time {
    type Output = ();

    fn is_ready(&mut self, _waker: Option<&Waker>) -> bool {
        let now = CurrentTask::running().map_or_else(Instant::now, CurrentTask::now);
        self.0.is_some_and(|at| now >= at)
    }

    fn leave(&mut self) {}

    fn ask_again(&self) -> Option<Instant> {
        self.0
    }

    fn output(&mut self) {}
}

/// The end of the coroutine that asks. It is woken for that anyway.
struct IsCancelled;

impl Ready for IsCancelled {
    type Output = ();

    fn is_ready(&mut self, _waker: Option<&Waker>) -> bool {
        CurrentTask::running().is_some_and(|cx| cx.is_asked() || cx.is_cancelled())
    }

    fn leave(&mut self) {}

    fn goes_first(&self) -> bool {
        true
    }

    fn output(&mut self) {
        // Counted as every other wait that fails, for those who go on and on.
        let checked = CurrentTask::running().map(|cx| cx.check_for(Direction::Read));
        drop(checked);
    }
}

struct SignalCase(Result<SignalPlace, Option<io::Error>>);

impl Ready for SignalCase {
    type Output = io::Result<i32>;

    fn is_ready(&mut self, waker: Option<&Waker>) -> bool {
        self.0.as_mut().map_or(true, |place| place.has_come(waker))
    }

    fn leave(&mut self) {
        if let Ok(place) = &mut self.0 {
            place.leave();
        }
    }

    fn output(&mut self) -> io::Result<i32> {
        match &mut self.0 {
            Ok(place) => Ok(place.take()),
            Err(error) => Err(error.take().unwrap_or_else(|| io::ErrorKind::Other.into())),
        }
    }
}
