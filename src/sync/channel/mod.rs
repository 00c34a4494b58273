//! Channels: [`bounded`], [`unbounded`] and [`rendezvous`], for many senders
//! and many receivers, after [`std::sync::mpsc`], whose error types they use.
//!
//! Every operation comes in forms that wait (parking the coroutine, or the
//! thread outside of one), that try, that wait for a time, and as a future;
//! all forms may be mixed on one channel. [`select`] waits for several.
//!
//! **Order and fairness**: values come out in the order in which they went in,
//! and waiters on either side are served first come, first served; a value is
//! handed to the receiver that has waited longest, so nobody can snatch it.
//!
//! **Disconnecting**: when all senders are gone, receivers get the values that
//! are left and then an error. When all receivers are gone, the values that
//! are left are dropped and senders get theirs back in an error.
//!
//! **Dropping** a future, or unwinding out of a wait when a coroutine is
//! cancelled: a waiting value is dropped with its sender; a value that had
//! been handed to a receiver goes back to the front. None is lost or doubled.
//!
//! ```
//! use crore::sync::channel;
//!
//! let (tx, rx) = channel::bounded(8);
//! let producer = std::thread::spawn(move || (0..100).for_each(|i| tx.send(i).unwrap()));
//! assert_eq!(rx.iter().sum::<u32>(), 4950);
//! # producer.join().unwrap();
//! ```
//!
//! Values that must not leave their thread make ends that don't either:
//!
//! ```compile_fail,E0277
//! let (tx, rx) = crore::sync::channel::unbounded::<std::rc::Rc<u32>>();
//! std::thread::spawn(move || rx.recv());
//! ```

mod iter;
mod ready;
mod select;
mod select_token;
mod state;
mod wait;

use std::fmt;
use std::time::{Duration, Instant};

pub use iter::{IntoIter, Iter, TryIter};
pub use ready::{Ready, ReadyCase};
pub use select::{
    Case, RecvCase, Select, SendCase, select, select_async, select_timeout, try_select,
};
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
pub use wait::{RecvFuture, SendFuture};

use crate::block_on::{block_on, block_on_deadline, wait, waits_freely};
use crate::sched::{Blocker, WaitsFor, waiting};
use crate::shim::{Arc, Lock};
use crate::sync::waiters::WakeList;
use state::{ChannelState, Stop, Want};

/// Makes a channel that holds up to `capacity` values; senders wait while it
/// is full. With 0 it is a [`rendezvous`].
///
/// ```
/// let (tx, rx) = crore::sync::channel::bounded(1);
/// tx.send(1).unwrap();
/// assert!(tx.try_send(2).is_err()); // full: `send` would wait
/// assert_eq!(rx.recv(), Ok(1));
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Lock::new(ChannelState::new(capacity)));
    (
        Sender {
            channel: channel.clone(),
        },
        Receiver { channel },
    )
}

/// Makes a channel that holds what comes; senders never wait.
///
/// ```
/// let (tx, rx) = crore::sync::channel::unbounded();
/// (0..1000).for_each(|i| tx.send(i).unwrap()); // never waits
/// drop(tx);
/// assert_eq!(rx.iter().count(), 1000);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

/// Makes a channel that holds nothing: a sender waits until a receiver has
/// taken its value.
///
/// ```
/// use crore::sync::channel::{self, TrySendError};
/// let (tx, rx) = channel::rendezvous();
/// assert_eq!(tx.try_send(1), Err(TrySendError::Full(1))); // nobody waits for it
/// let thread = std::thread::spawn(move || rx.recv());
/// tx.send(2).unwrap();
/// assert_eq!(thread.join().unwrap(), Ok(2));
/// ```
pub fn rendezvous<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}

/// The end of a channel that values go in at. Clones send to the same channel.
///
/// ```
/// crore::run(|| {
///     let (tx, rx) = crore::sync::channel::bounded(1);
///     for i in 0..3 {
///         let tx = tx.clone();
///         crore::spawn(move || tx.send(i).unwrap()); // parks while the channel is full
///     }
///     drop(tx); // when the last sender is gone, the receiver's iteration ends
///     assert_eq!(rx.iter().sum::<i32>(), 3);
/// }).unwrap();
/// ```
pub struct Sender<T> {
    channel: Arc<Lock<ChannelState<T>>>,
}

/// The end of a channel that values come out of. Clones share the values:
/// each goes to one of them.
///
/// ```
/// crore::run(|| {
///     let (tx, rx) = crore::sync::channel::bounded(8);
///     let workers: Vec<_> = (0..2)
///         .map(|_| {
///             let rx = rx.clone(); // each value goes to one of them
///             crore::spawn(move || rx.iter().sum::<u32>())
///         })
///         .collect();
///     (0..10).for_each(|i| tx.send(i).unwrap());
///     drop(tx);
///     let sums = workers.into_iter().map(|worker| worker.join().unwrap());
///     assert_eq!(sums.sum::<u32>(), 45);
/// }).unwrap();
/// ```
pub struct Receiver<T> {
    channel: Arc<Lock<ChannelState<T>>>,
}

/// Why [`Sender::send_timeout`] returned the value.
///
/// ```
/// use crore::sync::channel::{SendTimeoutError, bounded};
/// let (tx, rx) = bounded(1);
/// drop(rx);
/// let gone = tx.send_timeout(7, std::time::Duration::from_millis(1));
/// assert_eq!(gone, Err(SendTimeoutError::Disconnected(7))); // the value comes back
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The channel stayed full.
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
}

impl<T> Sender<T> {
    /// Sends, and waits while the channel is full.
    ///
    /// # Errors
    ///
    /// All receivers are gone; the error contains the value.
    ///
    /// # Examples
    ///
    /// ```
    /// let (tx, rx) = crore::sync::channel::bounded(1);
    /// tx.send("hi").unwrap();
    /// drop(rx);
    /// assert_eq!(tx.send("lost").unwrap_err().0, "lost");
    /// ```
    #[inline(always)]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if waits_freely() {
            wait(self.send_async(value), self.awaited())
        } else {
            self.send_on_thread(value)
        }
    }

    #[inline(never)]
    fn send_on_thread(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(SendError(value)),
            Err(TrySendError::Full(value)) => block_on(self.send_async(value)),
        }
    }

    /// Sends if there is room, or a receiver that waits.
    ///
    /// # Errors
    ///
    /// The channel is full or has no receivers; the error contains the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use crore::sync::channel::{TrySendError, bounded};
    /// let (tx, _rx) = bounded(1);
    /// assert_eq!(tx.try_send(1), Ok(()));
    /// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    /// ```
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut wakes = WakeList::new();
        let mut value = Some(value);
        let stopped = self.channel.lock().send(&mut value, None, &mut wakes);
        match (stopped, value) {
            (Err(Stop::Wait), Some(value)) => Err(TrySendError::Full(value)),
            (Err(_), Some(value)) => Err(TrySendError::Disconnected(value)),
            _ => Ok(()),
        }
    }

    /// Sends, and waits for at most `timeout` while the channel is full.
    ///
    /// # Errors
    ///
    /// The time is up or all receivers are gone; the error contains the value.
    ///
    /// ```
    /// # use crore::sync::channel::{bounded, SendTimeoutError};
    /// let (tx, _rx) = bounded(1);
    /// tx.send(1).unwrap();
    /// let late = tx.send_timeout(2, std::time::Duration::from_millis(1));
    /// assert_eq!(late, Err(SendTimeoutError::Timeout(2)));
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let value = match self.try_send(value) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(value)) => {
                return Err(SendTimeoutError::Disconnected(value));
            }
            Err(TrySendError::Full(value)) => value,
        };
        let mut future = self.send_async(value);
        let deadline = Instant::now().checked_add(timeout);
        match waiting(self.awaited(), || block_on_deadline(&mut future, deadline)) {
            Some(done) => done.map_err(|SendError(value)| SendTimeoutError::Disconnected(value)),
            None => future
                .withdraw()
                .map_or(Ok(()), |value| Err(SendTimeoutError::Timeout(value))),
        }
    }

    /// Sends as a future, which waits while the channel is full.
    ///
    /// ```
    /// crore::run(|| {
    ///     let (tx, rx) = crore::sync::channel::rendezvous();
    ///     let sender = crore::spawn_future(async move { tx.send_async(7).await });
    ///     assert_eq!(rx.recv(), Ok(7));
    ///     assert_eq!(sender.join().unwrap(), Ok(()));
    /// }).unwrap();
    /// ```
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture::new(self, value)
    }

    /// Sending `value`, as a case for [`select`].
    ///
    /// ```
    /// use crore::sync::channel::{bounded, select};
    /// let (tx, rx) = bounded(1);
    /// let mut sent = tx.case(7);
    /// select(&mut [&mut sent]);
    /// assert_eq!((sent.take(), rx.recv()), (Some(Ok(())), Ok(7)));
    /// ```
    pub fn case(&self, value: T) -> SendCase<'_, T> {
        SendCase::new(self, value)
    }

    /// What a dump says of who waits to send.
    #[inline(always)]
    fn awaited(&self) -> WaitsFor<'_> {
        WaitsFor::object(&*self.channel, |channel| Blocker::Send {
            receivers: channel.lock().receivers,
        })
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        self.channel.lock().len()
    }

    /// Whether no values are in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit; `None` without a bound.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.channel.lock().capacity()).filter(|&capacity| capacity != usize::MAX)
    }

    /// Whether all receivers are gone.
    pub fn is_disconnected(&self) -> bool {
        self.channel.lock().receivers == 0
    }
}

impl<T> Receiver<T> {
    /// Receives, and waits while the channel is empty.
    ///
    /// # Errors
    ///
    /// The channel is empty and all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let (tx, rx) = crore::sync::channel::bounded(1);
    /// tx.send(7).unwrap();
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(7)); // what was sent still comes
    /// assert!(rx.recv().is_err());
    /// ```
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        if waits_freely() {
            wait(self.recv_async(), self.awaited())
        } else {
            self.recv_on_thread()
        }
    }

    #[inline(never)]
    fn recv_on_thread(&self) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(TryRecvError::Empty) => block_on(self.recv_async()),
            done => done.map_err(|_| RecvError),
        }
    }

    /// Receives if there is a value, or a sender that waits.
    ///
    /// # Errors
    ///
    /// The channel is empty, and perhaps all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use crore::sync::channel::{TryRecvError, bounded};
    /// let (tx, rx) = bounded::<u32>(1);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// drop(tx);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut wakes = WakeList::new();
        let received = self.channel.lock().recv(None, &mut wakes);
        received.map_err(|stop| match stop {
            Stop::Disconnected => TryRecvError::Disconnected,
            _ => TryRecvError::Empty,
        })
    }

    /// Receives, and waits for at most `timeout` while the channel is empty.
    ///
    /// # Errors
    ///
    /// The time is up, or the channel is empty and all senders are gone.
    ///
    /// ```
    /// # use crore::sync::channel::{bounded, RecvTimeoutError};
    /// let (_tx, rx) = bounded::<u32>(1);
    /// let late = rx.recv_timeout(std::time::Duration::from_millis(1));
    /// assert_eq!(late, Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match self.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {}
        }
        let mut future = self.recv_async();
        let deadline = Instant::now().checked_add(timeout);
        if let Some(done) = waiting(self.awaited(), || block_on_deadline(&mut future, deadline)) {
            return done.map_err(|RecvError| RecvTimeoutError::Disconnected);
        }
        match future.withdraw(true) {
            Want::Got(value) => Ok(value),
            Want::Closed => Err(RecvTimeoutError::Disconnected),
            Want::Waiting => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Receives as a future, which waits while the channel is empty.
    ///
    /// ```
    /// crore::run(|| {
    ///     let (tx, rx) = crore::sync::channel::bounded(1);
    ///     let receiver = crore::spawn_future(async move { rx.recv_async().await });
    ///     tx.send(7).unwrap();
    ///     assert_eq!(receiver.join().unwrap(), Ok(7));
    /// }).unwrap();
    /// ```
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture::new(self)
    }

    /// Receiving, as a case for [`select`].
    ///
    /// ```
    /// use crore::sync::channel::{bounded, select};
    /// let ((tx, rx), (_other, never)) = (bounded(1), bounded::<u32>(1));
    /// tx.send(7).unwrap();
    /// let (mut one, mut two) = (rx.case(), never.case());
    /// assert_eq!(select(&mut [&mut one, &mut two]), 0);
    /// assert_eq!(one.take(), Some(Ok(7)));
    /// ```
    pub fn case(&self) -> RecvCase<'_, T> {
        RecvCase::new(self)
    }

    /// The values as they come, until all senders are gone.
    ///
    /// ```
    /// let (tx, rx) = crore::sync::channel::unbounded();
    /// (0..3).for_each(|i| tx.send(i).unwrap());
    /// drop(tx); // or it would wait for more
    /// assert_eq!(rx.iter().sum::<i32>(), 3);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// The values that are there, without waiting.
    ///
    /// ```
    /// let (tx, rx) = crore::sync::channel::unbounded();
    /// (0..3).for_each(|i| tx.send(i).unwrap());
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]); // does not wait for more
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }

    /// What a dump says of who waits to receive.
    #[inline(always)]
    fn awaited(&self) -> WaitsFor<'_> {
        WaitsFor::object(&*self.channel, |channel| Blocker::Receive {
            senders: channel.lock().senders,
        })
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        self.channel.lock().len()
    }

    /// Whether no values are in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit; `None` without a bound.
    pub fn capacity(&self) -> Option<usize> {
        Some(self.channel.lock().capacity()).filter(|&capacity| capacity != usize::MAX)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.lock().senders += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.lock().receivers += 1;
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = WakeList::new();
        let mut state = self.channel.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.close_wants(&mut wakes);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut wakes = WakeList::new();
        let _values;
        let mut state = self.channel.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            _values = state.close_offers(&mut wakes);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Disconnected(_) => "Disconnected(..)",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "timed out waiting for room in a channel",
            Self::Disconnected(_) => "sending on a channel without receivers",
        })
    }
}

impl<T> std::error::Error for SendTimeoutError<T> {}
