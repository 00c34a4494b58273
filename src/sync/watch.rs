//! Watch: one value that some set and many look at; a receiver can wait for a change,
//! and sees the last one only.
//!
//! ```
//! use crore::sync::watch;
//!
//! let (tx, mut rx) = watch::channel("starting");
//! assert_eq!(*rx.borrow(), "starting");
//! tx.send("running").unwrap();
//! rx.changed().unwrap();
//! assert_eq!(*rx.borrow_and_update(), "running");
//! assert!(!rx.has_changed());
//! ```
//!
//! The value is in a [`RwLock`], and beside it, under a lock of its own, is the count of
//! the changes. It is moved on while the value is held for writing, so who holds the
//! value for reading knows which change it is of.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::channel::{Ready, ReadyCase, RecvError, RecvTimeoutError};
use super::until::{Observed, QueuePlace, Until};
use super::waiters::{Waiters, WakeList};
use super::{RwLock, RwLockReadGuard};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{Blocker, WaitsFor, waiting};
use crate::shim::Lock;

/// A value to be watched, after `tokio::sync::watch`. The receiver has seen the first one.
///
/// ```
/// let (tx, rx) = crore::sync::watch::channel(1);
/// tx.send(2).unwrap();
/// assert_eq!((*rx.borrow(), rx.has_changed()), (2, true));
/// ```
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(WatchShared {
        value: RwLock::new(value),
        state: Lock::new(WatchState {
            changes: 0,
            senders: 1,
            receivers: 1,
            waiters: Waiters::new(),
        }),
    });
    let receiver = Receiver {
        shared: Arc::clone(&shared),
        seen: 0,
    };
    (Sender { shared }, receiver)
}

/// Sets the value. Clones set the same.
///
/// ```
/// use crore::sync::watch::{self, Sender};
/// let (tx, rx) = watch::channel(1);
/// let other: Sender<u32> = tx.clone();
/// other.send(2).unwrap();
/// assert_eq!(*rx.borrow(), 2);
/// ```
pub struct Sender<T> {
    shared: Arc<WatchShared<T>>,
}

/// Looks at the value. A clone has seen what this one has.
///
/// ```
/// use crore::sync::watch::{self, Receiver};
/// let (tx, mut rx) = watch::channel(1);
/// let other: Receiver<u32> = rx.clone();
/// tx.send(2).unwrap();
/// rx.changed().unwrap();
/// assert!(!rx.has_changed() && other.has_changed());
/// ```
pub struct Receiver<T> {
    shared: Arc<WatchShared<T>>,
    /// The last change that it has seen.
    seen: u64,
}

struct WatchShared<T> {
    value: RwLock<T>,
    state: Lock<WatchState>,
}

struct WatchState {
    changes: u64,
    senders: usize,
    receivers: usize,
    waiters: Waiters<()>,
}

impl Observed for WatchState {
    fn waiters(&mut self) -> &mut Waiters<()> {
        &mut self.waiters
    }
}

/// A look at the value. Who sets it waits as long as there is one: don't keep it across
/// waits.
///
/// ```
/// let (_tx, mut rx) = crore::sync::watch::channel(7);
/// let look: crore::sync::watch::Ref<'_, i32> = rx.borrow();
/// assert_eq!(*look, 7);
/// ```
#[must_use = "a look that is not used holds up who sets the value"]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Sender<T> {
    /// Sets the value, and drops the one before. Waits for who looks at it.
    ///
    /// # Errors
    ///
    /// The value, if there is no receiver; [`send_replace`](Self::send_replace) sets it
    /// all the same.
    pub fn send(&self, value: T) -> Result<(), T> {
        if self.receiver_count() == 0 {
            return Err(value);
        }
        self.send_replace(value);
        Ok(())
    }

    /// Sets the value, and gives back the one before.
    ///
    /// ```
    /// let (tx, _) = crore::sync::watch::channel(1);
    /// assert_eq!(tx.send_replace(2), 1);
    /// assert_eq!(*tx.subscribe().borrow(), 2);
    /// ```
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|old| std::mem::swap(old, &mut value));
        value
    }

    /// Changes the value in place.
    ///
    /// # Panics
    ///
    /// As `change`; what it did until then is seen.
    ///
    /// ```
    /// let (tx, rx) = crore::sync::watch::channel(vec![1]);
    /// tx.send_modify(|all| all.push(2));
    /// assert!(rx.has_changed() && rx.borrow().len() == 2);
    /// ```
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        let mut value = self
            .shared
            .value
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let _tells = Tells(&self.shared.state);
        change(&mut value);
    }

    /// The value, as it is now.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.look()
    }

    /// A receiver that has seen the value as it is now.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.shared.state.lock();
        state.receivers += 1;
        let seen = state.changes;
        drop(state);
        Receiver {
            shared: Arc::clone(&self.shared),
            seen,
        }
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.state.lock().receivers
    }
}

/// Counts a change at the end of it, and tells those who wait; also if it panicked.
/// Dropped before the value is let go.
struct Tells<'a>(&'a Lock<WatchState>);

impl Drop for Tells<'_> {
    fn drop(&mut self) {
        let mut wakes = WakeList::new();
        let mut state = self.0.lock();
        state.changes += 1;
        state.wake_all(&mut wakes);
    }
}

impl<T> WatchShared<T> {
    fn look(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl WatchState {
    /// Whether there was a change after `seen`; `None`: it may come.
    fn changed(&mut self, seen: u64) -> Option<Result<(), RecvError>> {
        if self.changes != seen {
            Some(Ok(()))
        } else if self.senders == 0 {
            Some(Err(RecvError))
        } else {
            None
        }
    }
}

impl<T> Receiver<T> {
    /// The value, as it is now.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.look()
    }

    /// As [`borrow`](Self::borrow), and it counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let look = self.shared.look();
        self.seen = self.shared.state.lock().changes;
        look
    }

    /// Whether the value was set since it was last seen.
    pub fn has_changed(&self) -> bool {
        self.shared.state.lock().changes != self.seen
    }

    /// Waits until the value is set, if it was not since it was last seen; then it
    /// counts as seen. Parks the coroutine, or the thread outside of one.
    ///
    /// # Errors
    ///
    /// All senders are gone, and their last value was seen.
    pub fn changed(&mut self) -> Result<(), RecvError> {
        let Self { shared, seen } = self;
        waiting(awaited(&shared.state), || {
            block_on(next_change(&shared.state, seen))
        })
    }

    /// As [`changed`](Self::changed), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// `Timeout`, or `Disconnected` as [`changed`](Self::changed).
    ///
    /// ```
    /// let (_tx, mut rx) = crore::sync::watch::channel(1);
    /// assert!(rx.changed_timeout(std::time::Duration::from_millis(1)).is_err());
    /// ```
    pub fn changed_timeout(&mut self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        let deadline = Instant::now().checked_add(timeout);
        let Self { shared, seen } = self;
        let wait = || block_on_deadline(next_change(&shared.state, seen), deadline);
        match waiting(awaited(&shared.state), wait) {
            Some(changed) => changed.map_err(|RecvError| RecvTimeoutError::Disconnected),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// As [`changed`](Self::changed), as a future; dropped, it has seen nothing.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    ///
    /// ```
    /// let (tx, mut rx) = crore::sync::watch::channel(1);
    /// tx.send(2).unwrap();
    /// crore::run(|| crore::block_on(rx.changed_async())).unwrap().unwrap();
    /// ```
    pub async fn changed_async(&mut self) -> Result<(), RecvError> {
        self.wait().await
    }

    /// Waits until the value is as `wanted` says, and looks at it.
    ///
    /// # Errors
    ///
    /// All senders are gone, and it is not.
    ///
    /// ```
    /// let (tx, mut rx) = crore::sync::watch::channel(1);
    /// let counts = std::thread::spawn(move || (2..9).for_each(|n| tx.send(n).unwrap_or(())));
    /// assert_eq!(*rx.wait_for(|n| *n > 4).unwrap() > 4, true);
    /// # drop(rx);
    /// # counts.join().unwrap();
    /// ```
    pub fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, RecvError> {
        let Self { shared, seen } = self;
        loop {
            let look = shared.look();
            *seen = shared.state.lock().changes;
            if wanted(&look) {
                return Ok(look);
            }
            drop(look);
            waiting(awaited(&shared.state), || {
                block_on(next_change(&shared.state, seen))
            })?;
        }
    }

    /// A change as a case of a [`select!`](crate::select!): `changed(receiver)`.
    ///
    /// ```
    /// let (tx, mut rx) = crore::sync::watch::channel(1);
    /// tx.send(2).unwrap();
    /// crore::select! {
    ///     changed(rx) -> alive => assert!(alive.is_ok() && *rx.borrow() == 2),
    ///     cancelled() => unreachable!(),
    /// }
    /// ```
    pub fn case(&mut self) -> ReadyCase<impl Ready<Output = Result<(), RecvError>>> {
        ReadyCase::new(WatchChange {
            seen: &mut self.seen,
            place: QueuePlace::new(&self.shared.state),
        })
    }

    fn wait(&mut self) -> impl Future<Output = Result<(), RecvError>> {
        next_change(&self.shared.state, &mut self.seen)
    }
}

/// What a dump says of that wait.
fn awaited(state: &Lock<WatchState>) -> WaitsFor<'_> {
    WaitsFor::object(state, |state| Blocker::Receive {
        senders: state.lock().senders,
    })
}

/// The wait for a change after `seen`, which counts as seen then.
fn next_change<'a>(
    state: &'a Lock<WatchState>,
    seen: &'a mut u64,
) -> impl Future<Output = Result<(), RecvError>> + 'a {
    Until::new(state, |state: &mut WatchState| {
        let changed = state.changed(*seen);
        if changed.is_some() {
            *seen = state.changes;
        }
        changed
    })
}

/// A change, for [`Receiver::case`].
struct WatchChange<'a> {
    seen: &'a mut u64,
    place: QueuePlace<'a, WatchState>,
}

impl Ready for WatchChange<'_> {
    type Output = Result<(), RecvError>;

    fn is_ready(&mut self, waker: Option<&Waker>) -> bool {
        let seen = *self.seen;
        let changed = self.place.look(waker, |state| state.changed(seen));
        changed.is_some()
    }

    fn leave(&mut self) {
        self.place.leave();
    }

    fn output(&mut self) -> Self::Output {
        let seen = &mut *self.seen;
        let changed = self.place.look(None, |state| {
            let changed = state.changed(*seen);
            *seen = state.changes;
            changed
        });
        changed.unwrap_or(Ok(()))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().senders += 1;
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut wakes = WakeList::new();
        let mut state = self.shared.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.wake_all(&mut wakes);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().receivers += 1;
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.state.lock().receivers -= 1;
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
