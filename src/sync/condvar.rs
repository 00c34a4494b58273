//! [`Condvar`], the condition variable: wait, with a mutex open meanwhile, for a
//! notification.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::LockResult;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::mutex::{Mutex, MutexGuard};
use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{WaitsFor, waiting};
use crate::shim::{Lock, const_fn};

/// A condition variable for our [`Mutex`], after [`std::sync::Condvar`].
///
/// Waiting parks the coroutine it is called in, or the thread outside of one;
/// [`wait_async`](Self::wait_async) is for futures.
///
/// **Fairness**: notifications go to the waiters in the order in which they
/// came. There are no spurious wake-ups of our own making, but the condition
/// may have changed again by the time that the mutex is locked, so wait in a
/// loop or with [`wait_while`](Self::wait_while).
///
/// **Dropping** a waiting future, or unwinding out of a wait when a coroutine
/// is cancelled, leaves the queue without locking the mutex; a notification
/// that had reached it already goes on to the next waiter.
///
/// **Poisoning**: waits return the mutex's.
///
/// # Examples
///
/// ```
/// use crore::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let theirs = pair.clone();
/// let thread = std::thread::spawn(move || {
///     *theirs.0.lock().unwrap() = true;
///     theirs.1.notify_one();
/// });
/// let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # thread.join().unwrap();
/// ```
pub struct Condvar {
    /// The payload: whether the waiter was notified.
    waiters: Lock<Waiters<bool>>,
}

/// Whether a timed wait ended because its time was up.
///
/// ```
/// use crore::sync::{Condvar, Mutex};
/// let (mutex, condvar) = (Mutex::new(false), Condvar::new());
/// let guard = mutex.lock().unwrap();
/// let (_guard, result) = condvar.wait_timeout(guard, std::time::Duration::from_millis(1)).unwrap();
/// assert!(result.timed_out()); // nobody notifies
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was up before a notification came.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    const_fn! {
        /// Makes one without waiters.
        pub const fn new() -> Self {
            Self { waiters: Lock::new(Waiters::new()) }
        }
    }

    /// Opens the mutex, waits for a notification, and locks it again.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use crore::sync::{Condvar, Mutex};
    /// crore::run(|| {
    ///     let pair = Arc::new((Mutex::new(false), Condvar::new()));
    ///     let other = Arc::clone(&pair);
    ///     crore::spawn(move || {
    ///         *other.0.lock().unwrap() = true;
    ///         other.1.notify_one();
    ///     });
    ///     let mut done = pair.0.lock().unwrap();
    ///     while !*done {
    ///         done = pair.1.wait(done).unwrap(); // may wake without a reason
    ///     }
    /// }).unwrap();
    /// ```
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (wait, mutex) = self.enter(guard);
        waiting(WaitsFor::notification(), || block_on(wait));
        mutex.lock()
    }

    /// As [`wait`](Self::wait), in a future.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned; the error contains the guard.
    pub async fn wait_async<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let (wait, mutex) = self.enter(guard);
        wait.await;
        mutex.lock_async().await
    }

    /// Waits until `condition` is false of the value.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use crore::sync::{Condvar, Mutex};
    /// crore::run(|| {
    ///     let pair = Arc::new((Mutex::new(0), Condvar::new()));
    ///     let other = Arc::clone(&pair);
    ///     crore::spawn(move || {
    ///         *other.0.lock().unwrap() = 7;
    ///         other.1.notify_one();
    ///     });
    ///     let value = pair.1.wait_while(pair.0.lock().unwrap(), |value| *value == 0).unwrap();
    ///     assert_eq!(*value, 7);
    /// }).unwrap();
    /// ```
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits for a notification for at most `timeout` (locking the mutex again
    /// takes as long as it takes).
    ///
    /// # Errors
    ///
    /// The mutex is poisoned; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// # use crore::sync::{Condvar, Mutex};
    /// let (mutex, changed) = (Mutex::new(()), Condvar::new());
    /// let (_guard, result) = changed
    ///     .wait_timeout(mutex.lock().unwrap(), std::time::Duration::from_millis(1))
    ///     .unwrap();
    /// assert!(result.timed_out());
    /// ```
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = Instant::now().checked_add(timeout);
        let (guard, late) = self.wait_deadline(guard, deadline);
        with_flag(guard, late)
    }

    /// Waits for at most `timeout` until `condition` is false of the value.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned; the error contains the guard.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = Instant::now().checked_add(timeout);
        let mut late = false;
        loop {
            if !condition(&mut guard) {
                return with_flag(Ok(guard), false);
            }
            if late {
                return with_flag(Ok(guard), true);
            }
            let result;
            (result, late) = self.wait_deadline(guard, deadline);
            guard = match result {
                Ok(guard) => guard,
                Err(poisoned) => return with_flag(Err(poisoned), late),
            };
        }
    }

    /// Wakes the waiter that has waited longest, if there is one.
    pub fn notify_one(&self) {
        let mut wakes = WakeList::new();
        let mut waiters = self.waiters.lock();
        if let Some(notified) = waiters.take_first(&mut wakes) {
            *notified = true;
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        let mut wakes = WakeList::new();
        let mut waiters = self.waiters.lock();
        while let Some(notified) = waiters.take_first(&mut wakes) {
            *notified = true;
        }
    }

    /// Queues, then opens the mutex: a change of the value from here on finds
    /// the waiter in the queue.
    fn enter<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> (CondvarFuture<'_>, &'a Mutex<T>) {
        let key = self.waiters.lock().enqueue(false, None);
        (
            CondvarFuture {
                condvar: self,
                key: Some(key),
            },
            guard.mutex(),
        )
    }

    fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (LockResult<MutexGuard<'a, T>>, bool) {
        let (mut wait, mutex) = self.enter(guard);
        // A notification that came together with the deadline counts.
        let notified = waiting(WaitsFor::notification(), || {
            block_on_deadline(&mut wait, deadline)
        });
        let late = notified.is_none() && !wait.leave();
        (mutex.lock(), late)
    }
}

fn with_flag<G>(guard: LockResult<G>, late: bool) -> LockResult<(G, WaitTimeoutResult)> {
    let flag = WaitTimeoutResult(late);
    match guard {
        Ok(guard) => Ok((guard, flag)),
        Err(poisoned) => Err(std::sync::PoisonError::new((poisoned.into_inner(), flag))),
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// A place in the queue of a [`Condvar`].
struct CondvarFuture<'a> {
    condvar: &'a Condvar,
    key: Option<WaiterKey>,
}

impl CondvarFuture<'_> {
    /// Leaves the queue; says whether a notification had come.
    fn leave(&mut self) -> bool {
        let Some(key) = self.key.take() else {
            return false;
        };
        let removed = self.condvar.waiters.lock().remove(key);
        removed.payload
    }
}

impl Future for CondvarFuture<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key else {
            return Poll::Ready(());
        };
        let waker = cx.waker().clone();
        let _old;
        let mut waiters = self.condvar.waiters.lock();
        if *waiters.payload(key) {
            let _ = waiters.remove(key);
            drop(waiters);
            self.key = None;
            return Poll::Ready(());
        }
        _old = waiters.set_waker(key, waker);
        Poll::Pending
    }
}

impl Drop for CondvarFuture<'_> {
    fn drop(&mut self) {
        if self.leave() {
            self.condvar.notify_one();
        }
    }
}
