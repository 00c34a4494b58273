//! One value, once: a [`channel()`] of which each end is used up.
//!
//! ```
//! use crore::sync::oneshot;
//!
//! let (tx, rx) = oneshot::channel();
//! let answer = std::thread::spawn(move || rx.recv().unwrap());
//! tx.send(42).unwrap();
//! assert_eq!(answer.join().unwrap(), 42);
//! ```
//!
//! To send twice is no program:
//!
//! ```compile_fail,E0382
//! let (tx, _rx) = crore::sync::oneshot::channel();
//! tx.send(1).unwrap();
//! tx.send(2).unwrap();
//! ```

use std::fmt;
use std::time::Duration;

use super::channel::{self, RecvCase, RecvError, RecvTimeoutError, TryRecvError, TrySendError};

/// A channel for one value, after `tokio::sync::oneshot`.
///
/// ```
/// let (tx, rx) = crore::sync::oneshot::channel();
/// tx.send("done").unwrap();
/// assert_eq!(rx.recv(), Ok("done"));
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = channel::bounded(1);
    (Sender(tx), Receiver(rx))
}

/// The end that sends, once. Dropped, it lets the receiver know.
///
/// ```
/// let (tx, rx) = crore::sync::oneshot::channel::<u32>();
/// drop(tx);
/// assert!(rx.recv().is_err());
/// ```
pub struct Sender<T>(channel::Sender<T>);

/// The end that receives, once.
///
/// ```
/// let (tx, rx) = crore::sync::oneshot::channel();
/// assert!(rx.try_recv().is_err()); // not yet
/// tx.send(7).unwrap();
/// assert_eq!(rx.recv(), Ok(7));
/// ```
pub struct Receiver<T>(channel::Receiver<T>);

impl<T> Sender<T> {
    /// Sends the value. Never waits.
    ///
    /// # Errors
    ///
    /// The value, if the receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        match self.0.try_send(value) {
            Ok(()) => Ok(()),
            // There is room for one, and this is it.
            Err(TrySendError::Full(value) | TrySendError::Disconnected(value)) => Err(value),
        }
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_disconnected()
    }
}

impl<T> Receiver<T> {
    /// Waits for the value. Parks the coroutine, or the thread outside of one.
    ///
    /// # Errors
    ///
    /// The sender is gone without having sent.
    pub fn recv(self) -> Result<T, RecvError> {
        self.0.recv()
    }

    /// The value, if it is there.
    ///
    /// # Errors
    ///
    /// `Empty`, and `Disconnected` if the sender is gone, or the value was taken.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    /// As [`recv`](Self::recv), for at most `timeout`; it may be tried again.
    ///
    /// # Errors
    ///
    /// `Timeout`, or `Disconnected` as [`try_recv`](Self::try_recv).
    ///
    /// ```
    /// let (_tx, rx) = crore::sync::oneshot::channel::<u32>();
    /// assert!(rx.recv_timeout(std::time::Duration::from_millis(1)).is_err());
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.0.recv_timeout(timeout)
    }

    /// As [`recv`](Self::recv), as a future.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// ```
    /// let (tx, rx) = crore::sync::oneshot::channel();
    /// tx.send(7).unwrap();
    /// assert_eq!(crore::run(|| crore::block_on(rx.recv_async())).unwrap(), Ok(7));
    /// ```
    pub async fn recv_async(self) -> Result<T, RecvError> {
        self.0.recv_async().await
    }

    /// Receiving as a case of a [`select!`](crate::select!).
    pub fn case(&self) -> RecvCase<'_, T> {
        self.0.case()
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
