//! Broadcast: every receiver gets every value, and who is too slow is told how many it
//! has missed.
//!
//! ```
//! use crore::sync::broadcast::{self, RecvError};
//!
//! let (tx, mut slow) = broadcast::channel(2);
//! let mut quick = tx.subscribe();
//! for n in 0..4 {
//!     tx.send(n).unwrap(); // never waits
//!     assert_eq!(quick.recv(), Ok(n));
//! }
//! assert_eq!(slow.recv(), Err(RecvError::Lagged(2)));
//! assert_eq!(slow.recv(), Ok(2));
//! ```
//!
//! One buffer is kept for all, of values behind reference counts: they are cloned and
//! dropped outside the lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Ready, ReadyCase};
use super::until::{Observed, QueuePlace, Until};
use super::waiters::{Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{Blocker, WaitsFor, waiting};
use crate::shim::{self, Lock};

/// A channel whose receivers get each of its values, after `tokio::sync::broadcast`. The
/// last `capacity` values are kept for those who have not had them yet.
///
/// # Panics
///
/// With a capacity of 0.
///
/// ```
/// let (tx, mut rx) = crore::sync::broadcast::channel(16);
/// tx.send("news").unwrap();
/// assert_eq!(rx.recv(), Ok("news"));
/// ```
pub fn channel<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast keeps one value at least");
    let shared = shim::Arc::new(Lock::new(BroadcastState {
        values: VecDeque::new(),
        capacity,
        sent: 0,
        senders: 1,
        receivers: 1,
        waiters: Waiters::new(),
    }));
    let receiver = Receiver {
        shared: shared.clone(),
        next: 0,
    };
    (Sender { shared }, receiver)
}

/// Sends to all receivers. Clones send to the same.
///
/// ```
/// use crore::sync::broadcast::{self, Sender};
/// let (tx, _rx) = broadcast::channel(1);
/// let other: Sender<u32> = tx.clone();
/// assert_eq!(other.send(7), Ok(1)); // one receiver
/// ```
pub struct Sender<T> {
    shared: shim::Arc<Lock<BroadcastState<T>>>,
}

/// Receives what was sent since it was made. A clone begins where this one is.
///
/// ```
/// use crore::sync::broadcast::{self, Receiver};
/// let (tx, mut rx) = broadcast::channel(1);
/// tx.send(7).unwrap();
/// let mut other: Receiver<u32> = rx.clone();
/// assert_eq!((rx.recv(), other.recv()), (Ok(7), Ok(7)));
/// ```
pub struct Receiver<T> {
    shared: shim::Arc<Lock<BroadcastState<T>>>,
    /// The number of the value that it gets next.
    next: u64,
}

struct BroadcastState<T> {
    /// The last values; the newest has the number `sent - 1`.
    values: VecDeque<Arc<T>>,
    capacity: usize,
    sent: u64,
    senders: usize,
    receivers: usize,
    waiters: Waiters<()>,
}

impl<T> Observed for BroadcastState<T> {
    fn waiters(&mut self) -> &mut Waiters<()> {
        &mut self.waiters
    }
}

/// Why there is no value.
///
/// ```
/// use crore::sync::broadcast::{self, RecvError};
/// let (tx, mut rx) = broadcast::channel::<u32>(1);
/// drop(tx);
/// assert_eq!(rx.recv(), Err(RecvError::Closed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// All senders are gone, and what they have sent was received.
    Closed,
    /// So many values were sent, and are not kept any more. The next one is the oldest
    /// that is.
    Lagged(u64),
}

/// Why there is no value now, or in time.
///
/// ```
/// use crore::sync::broadcast::{self, TryRecvError};
/// let (_tx, mut rx) = broadcast::channel::<u32>(1);
/// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// None yet.
    Empty,
    /// As [`RecvError::Closed`].
    Closed,
    /// As [`RecvError::Lagged`].
    Lagged(u64),
}

impl<T: Clone> Sender<T> {
    /// Sends to all receivers, of which it says the number. Never waits.
    ///
    /// # Errors
    ///
    /// The value, if there is no receiver.
    pub fn send(&self, value: T) -> Result<usize, T> {
        let mut wakes = WakeList::new();
        let _oldest;
        let value = Arc::new(value);
        let mut state = self.shared.lock();
        if state.receivers == 0 {
            drop(state);
            return Err(Arc::into_inner(value).expect("nobody else has it"));
        }
        _oldest = if state.values.len() == state.capacity {
            state.values.pop_front()
        } else {
            None
        };
        state.values.push_back(value);
        state.sent += 1;
        state.wake_all(&mut wakes);
        Ok(state.receivers)
    }

    /// A receiver of what is sent from now on.
    ///
    /// ```
    /// let (tx, _) = crore::sync::broadcast::channel(4);
    /// assert!(tx.send(1).is_err()); // nobody receives
    /// let mut rx = tx.subscribe();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.recv(), Ok(2));
    /// ```
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.lock();
        state.receivers += 1;
        let next = state.sent;
        drop(state);
        Receiver {
            shared: self.shared.clone(),
            next,
        }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.lock().receivers
    }
}

impl<T> BroadcastState<T> {
    /// The value with the number `next`, which is counted on.
    fn take(&self, next: &mut u64) -> Result<Arc<T>, TryRecvError> {
        let oldest = self.sent - self.values.len() as u64;
        let at = *next;
        if at < oldest {
            *next = oldest;
            return Err(TryRecvError::Lagged(oldest - at));
        }
        match self.values.get((at - oldest) as usize) {
            Some(value) => {
                *next = at + 1;
                Ok(Arc::clone(value))
            }
            None if self.senders == 0 => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// `None` if there is none yet.
fn found<T>(taken: Result<Arc<T>, TryRecvError>) -> Option<Result<Arc<T>, RecvError>> {
    match taken {
        Ok(value) => Some(Ok(value)),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
        Err(TryRecvError::Lagged(n)) => Some(Err(RecvError::Lagged(n))),
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits for the next value. Parks the coroutine, or the thread outside of one.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        match self.try_recv() {
            Err(TryRecvError::Empty) => {
                let Self { shared, next } = self;
                let value = waiting(awaited(shared), || block_on(next_value(shared, next)));
                value.map(Arc::unwrap_or_clone)
            }
            Ok(value) => Ok(value),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
            Err(TryRecvError::Lagged(n)) => Err(RecvError::Lagged(n)),
        }
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let taken = self.shared.lock().take(&mut self.next);
        taken.map(Arc::unwrap_or_clone)
    }

    /// As [`recv`](Self::recv), for at most `timeout`: then it is `Empty`.
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    ///
    /// ```
    /// let (_tx, mut rx) = crore::sync::broadcast::channel::<u32>(1);
    /// assert!(rx.recv_timeout(std::time::Duration::from_millis(1)).is_err());
    /// ```
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, TryRecvError> {
        let deadline = Instant::now().checked_add(timeout);
        match self.try_recv() {
            Err(TryRecvError::Empty) => {}
            other => return other,
        }
        let Self { shared, next } = self;
        let wait = || block_on_deadline(next_value(shared, next), deadline);
        match waiting(awaited(shared), wait) {
            None => self.try_recv(),
            Some(Ok(value)) => Ok(Arc::unwrap_or_clone(value)),
            Some(Err(RecvError::Closed)) => Err(TryRecvError::Closed),
            Some(Err(RecvError::Lagged(n))) => Err(TryRecvError::Lagged(n)),
        }
    }

    /// As [`recv`](Self::recv), as a future; dropped, it has taken nothing.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    ///
    /// ```
    /// let (tx, mut rx) = crore::sync::broadcast::channel(1);
    /// tx.send(7).unwrap();
    /// assert_eq!(crore::run(|| crore::block_on(rx.recv_async())).unwrap(), Ok(7));
    /// ```
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        let value = next_value(&self.shared, &mut self.next).await;
        value.map(Arc::unwrap_or_clone)
    }

    /// Receiving as a case of a [`select!`](crate::select!).
    ///
    /// ```
    /// use std::time::Duration;
    /// let (tx, mut rx) = crore::sync::broadcast::channel(1);
    /// tx.send(7).unwrap();
    /// let got = crore::select! {
    ///     recv(rx) -> value => value,
    ///     after(Duration::from_secs(3600)) => unreachable!(),
    /// };
    /// assert_eq!(got, Ok(7));
    /// ```
    pub fn case(&mut self) -> ReadyCase<impl Ready<Output = Result<T, RecvError>>> {
        ReadyCase::new(Next {
            next: &mut self.next,
            place: QueuePlace::new(&self.shared),
        })
    }
}

/// The wait for the value of the number `next`, or for one behind it.
fn next_value<'a, T: Clone>(
    state: &'a Lock<BroadcastState<T>>,
    next: &'a mut u64,
) -> impl Future<Output = Result<Arc<T>, RecvError>> + 'a {
    Until::new(state, |state: &mut BroadcastState<T>| {
        found(state.take(next))
    })
}

/// What a dump says of that wait.
fn awaited<T>(state: &Lock<BroadcastState<T>>) -> WaitsFor<'_> {
    WaitsFor::object(state, |state| Blocker::Receive {
        senders: state.lock().senders,
    })
}

/// The next value of a receiver, for [`Receiver::case`].
struct Next<'a, T> {
    next: &'a mut u64,
    place: QueuePlace<'a, BroadcastState<T>>,
}

impl<T: Clone> Ready for Next<'_, T> {
    type Output = Result<T, RecvError>;

    fn is_ready(&mut self, waker: Option<&std::task::Waker>) -> bool {
        // Looked at, and not counted on: another case may win.
        let mut next = *self.next;
        let found = self.place.look(waker, |state| found(state.take(&mut next)));
        found.is_some()
    }

    fn leave(&mut self) {
        self.place.leave();
    }

    fn output(&mut self) -> Self::Output {
        let next = &mut *self.next;
        let taken = self.place.look(None, |state| found(state.take(next)));
        let found = taken.expect("what is there is taken by its receiver only");
        found.map(Arc::unwrap_or_clone)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = WakeList::new();
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.wake_all(&mut wakes);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.lock().receivers += 1;
        Self {
            shared: self.shared.clone(),
            next: self.next,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let _values;
        let mut state = self.shared.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            _values = std::mem::take(&mut state.values);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("receiving of a broadcast without senders"),
            Self::Lagged(n) => write!(f, "{n} values were sent and not received in time"),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was sent since the last value"),
            Self::Closed => RecvError::Closed.fmt(f),
            Self::Lagged(n) => RecvError::Lagged(*n).fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}
