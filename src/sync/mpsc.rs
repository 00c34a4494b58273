//! std's names for [`channel`](super::channel): what is written for [`std::sync::mpsc`]
//! runs with these channels, which do more: receivers can be cloned and shared, there
//! is [`select`](super::channel::select()), and every wait has a future.
//!
//! ```
//! use crore::sync::mpsc;
//!
//! let (tx, rx) = mpsc::channel();
//! let producer = std::thread::spawn(move || (0..3).for_each(|i| tx.send(i).unwrap()));
//! assert_eq!(rx.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
//! # producer.join().unwrap();
//! ```

pub use super::channel::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, Sender, Sender as SyncSender,
    TryIter, TryRecvError, TrySendError,
};

/// [`unbounded`](super::channel::unbounded), after [`std::sync::mpsc::channel`].
///
/// ```
/// let (tx, rx) = crore::sync::mpsc::channel();
/// tx.send(7).unwrap(); // never waits
/// assert_eq!(rx.recv(), Ok(7));
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    super::channel::unbounded()
}

/// [`bounded`](super::channel::bounded), after [`std::sync::mpsc::sync_channel`]: with
/// 0 a sender waits until its value is taken.
///
/// ```
/// let (tx, rx) = crore::sync::mpsc::sync_channel(1);
/// tx.send(7).unwrap();
/// assert!(tx.try_send(8).is_err()); // full
/// assert_eq!(rx.recv(), Ok(7));
/// ```
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    super::channel::bounded(bound)
}
