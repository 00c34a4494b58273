//! [`Mutex`]: a value for one at a time. The waiting is in `raw_mutex`.

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::poison::{self, Flag, Watch};
use super::raw_mutex::{RawLock, RawMutex};
use crate::block_on::block_on_deadline;
use crate::shim::const_fn;

/// A mutual exclusion lock, after [`std::sync::Mutex`].
///
/// It may be shared by coroutines of any worker, plain threads and futures.
/// [`lock`](Self::lock) parks the coroutine it is called in; outside a
/// coroutine it parks the thread. [`lock_async`](Self::lock_async) is a future.
///
/// **Fairness**: waiters are served first come, first served, but a lock that
/// is open may be taken by whoever asks while the next waiter is on its way.
/// A waiter that was overtaken so gets the lock handed over next time.
///
/// **Dropping** a waiting future, or unwinding out of [`lock`](Self::lock)
/// when a coroutine is cancelled, gives up the place in the queue and passes
/// the lock on if it had been handed over already.
///
/// **Poisoning** is as in `std`: when a guard is dropped by a panic that began
/// while it was held, the value may be half changed, and later locks return
/// [`PoisonError`], which still contains the guard. A cancellation and a deadline
/// that unwind a coroutine do not poison: they come out of waits only, where code
/// that handles errors returns, too.
///
/// The guard is [`Send`] where `T` is, unlike `std`'s: no kernel object binds
/// the lock to a thread, and futures take their guards with them.
///
/// # Examples
///
/// ```
/// use crore::sync::Mutex;
/// static HITS: Mutex<u64> = Mutex::new(0);
///
/// let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| *HITS.lock().unwrap() += 1)).collect();
/// threads.into_iter().for_each(|t| t.join().unwrap());
/// assert_eq!(*HITS.lock().unwrap(), 4);
/// ```
///
/// A value that must not leave its thread cannot be shared by a mutex:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(crore::sync::Mutex::new(std::rc::Rc::new(0)));
/// ```
pub struct Mutex<T: ?Sized> {
    pub(super) raw: RawMutex,
    pub(super) poison: Flag,
    pub(super) value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, of which there is one at
// a time (`RawMutex`): threads hand the value to each other.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owning the mutex is owning the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    const_fn! {
        /// Makes an open mutex around `value`.
        pub const fn new(value: T) -> Self {
            Self { raw: RawMutex::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
        }
    }

    /// Takes the value out.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] with the value, if a holder panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = crore::sync::Mutex::new(7);
    /// *mutex.lock().unwrap() += 1;
    /// assert_eq!(mutex.into_inner().unwrap(), 8);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock. Parks the coroutine, or the thread outside of one.
    ///
    /// A coroutine that locks twice waits for itself, for ever.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] with the guard, if a holder panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// let count = Arc::new(crore::sync::Mutex::new(0));
    /// crore::run(|| {
    ///     for _ in 0..10 {
    ///         let count = Arc::clone(&count);
    ///         crore::spawn(move || *count.lock().unwrap() += 1);
    ///     }
    /// }).unwrap(); // returns when all have ended
    /// assert_eq!(*count.lock().unwrap(), 10);
    /// ```
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock_blocking();
        self.guard()
    }

    /// Takes the lock if it is open.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if it is held, [`TryLockError::Poisoned`]
    /// with the guard if a holder panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = crore::sync::Mutex::new(0);
    /// let guard = mutex.lock().unwrap();
    /// assert!(mutex.try_lock().is_err());
    /// drop(guard);
    /// assert!(mutex.try_lock().is_ok());
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.try_lock() {
            Ok(self.guard()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Waits for the lock for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{sync::TryLockError, time::Duration};
    /// let mutex = crore::sync::Mutex::new(1);
    /// let guard = mutex.lock().unwrap();
    /// let second = mutex.try_lock_for(Duration::from_millis(1));
    /// assert!(matches!(second, Err(TryLockError::WouldBlock)));
    /// ```
    pub fn try_lock_for(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        let deadline = Instant::now().checked_add(timeout);
        if self.raw.try_lock() || block_on_deadline(self.raw.lock(), deadline).is_some() {
            return Ok(self.guard()?);
        }
        Err(TryLockError::WouldBlock)
    }

    /// Waits for the lock as a future.
    ///
    /// # Examples
    ///
    /// ```
    /// async fn add(sum: &crore::sync::Mutex<u64>, n: u64) {
    ///     *sum.lock_async().await.unwrap() += n;
    /// }
    /// ```
    pub fn lock_async(&self) -> LockFuture<'_, T> {
        LockFuture {
            mutex: self,
            raw: self.raw.lock(),
        }
    }

    /// Whether a holder panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Declares the value to be in order again.
    ///
    /// ```
    /// let mutex = std::sync::Arc::new(crore::sync::Mutex::new(0));
    /// let other = std::sync::Arc::clone(&mutex);
    /// crore::run(|| {
    ///     let holder = crore::spawn(move || {
    ///         let _guard = other.lock().unwrap();
    ///         panic!("half changed");
    ///     });
    ///     assert!(holder.join().is_err() && mutex.is_poisoned());
    ///     mutex.clear_poison();
    ///     assert!(mutex.lock().is_ok());
    /// }).unwrap();
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: nobody else can have the mutex.
    ///
    /// # Errors
    ///
    /// [`PoisonError`] with the value, if a holder panicked.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }

    /// Makes the guard. The caller has just taken the raw lock for it.
    #[inline]
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.wrap(MutexGuard {
            mutex: self,
            watch: Watch::start(),
        })
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        poison::fmt(f, "Mutex", self.try_lock(), self.is_poisoned())
    }
}

/// Access to the value of a [`Mutex`]; dropping it opens the mutex.
///
/// ```
/// use crore::sync::{Mutex, MutexGuard};
/// let mutex = Mutex::new(vec![1]);
/// let mut guard: MutexGuard<'_, Vec<i32>> = mutex.lock().unwrap();
/// guard.push(2);
/// drop(guard); // unlocks
/// assert_eq!(mutex.into_inner().unwrap(), [1, 2]);
/// ```
#[must_use = "dropping the guard opens the mutex at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    watch: Watch,
}

// SAFETY: a shared guard gives a shared reference to the value only. (`Send`
// follows from `&Mutex<T>: Send`, which asks for `T: Send`.)
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Where to lock again: for the condition variable.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value;
        // the reference lives no longer than the guard.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.done(self.watch);
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The future of [`Mutex::lock_async`].
///
/// ```
/// use crore::sync::{LockFuture, Mutex};
/// let mutex = Mutex::new(7);
/// let future: LockFuture<'_, i32> = mutex.lock_async();
/// let value = crore::run(|| crore::block_on(async { *future.await.unwrap() })).unwrap();
/// assert_eq!(value, 7);
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct LockFuture<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    raw: RawLock<'a>,
}

impl<'a, T: ?Sized> Future for LockFuture<'a, T> {
    type Output = Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(Pin::new(&mut self.raw).poll(cx));
        Poll::Ready(self.mutex.guard())
    }
}

impl<T: ?Sized> fmt::Debug for LockFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFuture").finish_non_exhaustive()
    }
}
