//! [`RwLock`]: a value for many readers or one writer.
//!
//! A reader holds one permit of a [`Semaphore`], a writer holds all of them.
//! The queue, its order and its drop-safety are the semaphore's.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use super::holder::LockHolder;
use super::poison::{self, Flag, Watch};
use super::semaphore::Semaphore;
use crate::sched::{contended, waiting};
use crate::shim::const_fn;

/// What a writer holds; so many readers can there be at a time.
pub(super) const ALL: usize = Semaphore::MAX_PERMITS;

/// A reader-writer lock, after [`std::sync::RwLock`].
///
/// Locking parks the coroutine it is called in, or the thread outside of one;
/// [`read_async`](Self::read_async) and [`write_async`](Self::write_async) are
/// for futures.
///
/// **Fairness**: strictly first come, first served, readers that stand next to
/// each other together. So neither writers nor readers starve; and a coroutine
/// that reads again while it reads may wait for a writer that waits for it.
///
/// **Dropping** a waiting future, or unwinding out of a wait when a coroutine
/// is cancelled, leaves the queue and lets those behind it in.
///
/// **Poisoning**: as in `std`, a panic while *writing* poisons. The guards are
/// [`Send`] where that is safe, as [`Mutex`](super::Mutex)'s.
///
/// # Examples
///
/// ```
/// let config = crore::sync::RwLock::new(1);
/// {
///     let (one, two) = (config.read().unwrap(), config.read().unwrap());
///     assert_eq!(*one + *two, 2);
///     assert!(config.try_write().is_err());
/// }
/// *config.write().unwrap() = 2;
/// ```
///
/// Readers share the value, so it must be [`Sync`]:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(crore::sync::RwLock::new(std::cell::Cell::new(0)));
/// ```
pub struct RwLock<T: ?Sized> {
    pub(super) permits: Semaphore,
    pub(super) writer: LockHolder,
    pub(super) poison: Flag,
    pub(super) value: UnsafeCell<T>,
}

// SAFETY: the value is reached through guards only: readers on several threads
// share it (`T: Sync`), a writer has it alone (`T: Send`).
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    const_fn! {
        /// Makes an open lock around `value`.
        pub const fn new(value: T) -> Self {
            Self { permits: Semaphore::new(ALL), writer: LockHolder::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
        }
    }

    /// Takes the value out.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until it may read.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// let (one, two) = (lock.read().unwrap(), lock.read().unwrap()); // together
    /// assert_eq!(*one + *two, 14);
    /// assert!(lock.try_write().is_err());
    /// ```
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.take_blocking(1);
        self.read_guard()
    }

    /// Reads if that needs no waiting.
    ///
    /// # Errors
    ///
    /// A writer holds the lock or waits for it, or has panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// let _writer = lock.write().unwrap();
    /// assert!(lock.try_read().is_err());
    /// ```
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.permits
            .try_take(1)
            .map_err(|_| TryLockError::WouldBlock)?;
        Ok(self.read_guard()?)
    }

    /// Waits for at most `timeout` until it may read.
    ///
    /// # Errors
    ///
    /// The time is up, or a writer panicked.
    pub fn try_read_for(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let deadline = Instant::now().checked_add(timeout);
        self.permits
            .take_deadline(1, deadline)
            .map_err(|_| TryLockError::WouldBlock)?;
        Ok(self.read_guard()?)
    }

    /// Waits as a future until it may read.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// let value = crore::run(|| crore::block_on(async { *lock.read_async().await.unwrap() })).unwrap();
    /// assert_eq!(value, 7);
    /// ```
    pub async fn read_async(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        held(self.permits.wait(1).await);
        self.read_guard()
    }

    /// Waits until it may write.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// *lock.write().unwrap() += 1;
    /// assert_eq!(*lock.read().unwrap(), 8);
    /// ```
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.take_blocking(ALL);
        self.write_guard()
    }

    /// Writes if that needs no waiting.
    ///
    /// # Errors
    ///
    /// The lock is held, or a writer panicked.
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        self.permits
            .try_take(ALL)
            .map_err(|_| TryLockError::WouldBlock)?;
        Ok(self.write_guard()?)
    }

    /// Waits for at most `timeout` until it may write.
    ///
    /// # Errors
    ///
    /// The time is up, or a writer panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// let _reader = lock.read().unwrap();
    /// assert!(lock.try_write_for(std::time::Duration::from_millis(1)).is_err());
    /// ```
    pub fn try_write_for(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let deadline = Instant::now().checked_add(timeout);
        self.permits
            .take_deadline(ALL, deadline)
            .map_err(|_| TryLockError::WouldBlock)?;
        Ok(self.write_guard()?)
    }

    /// Waits as a future until it may write.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// crore::run(|| crore::block_on(async { *lock.write_async().await.unwrap() += 1 })).unwrap();
    /// assert_eq!(lock.into_inner().unwrap(), 8);
    /// ```
    pub async fn write_async(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        held(self.permits.wait(ALL).await);
        self.write_guard()
    }

    /// Whether a writer panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Declares the value to be in order again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: nobody else can have the lock.
    ///
    /// # Errors
    ///
    /// A writer panicked; the error contains the value.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }

    /// Takes permits, whoever has to wait for that.
    pub(super) fn take_blocking(&self, permits: usize) {
        if self.permits.try_take(permits).is_err() {
            waiting(self.writer.awaited(), || {
                let _measured = contended();
                held(self.permits.take(permits));
            });
        }
    }

    /// The caller has just taken one permit for it.
    fn read_guard(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.poison.wrap(RwLockReadGuard { lock: self })
    }

    /// The caller has just taken all permits for it.
    fn write_guard(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.writer.takes();
        self.poison.wrap(RwLockWriteGuard {
            lock: self,
            watch: Watch::start(),
        })
    }
}

pub(super) fn held<E: fmt::Debug>(taken: Result<(), E>) {
    taken.expect("the semaphore of a lock is never closed");
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        poison::fmt(f, "RwLock", self.try_read(), self.is_poisoned())
    }
}

/// Shared access to the value of an [`RwLock`].
///
/// ```
/// use crore::sync::{RwLock, RwLockReadGuard};
/// let lock = RwLock::new(7);
/// let guard: RwLockReadGuard<'_, i32> = lock.read().unwrap();
/// assert_eq!(*guard, 7);
/// ```
#[must_use = "dropping the guard gives the lock back at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

// SAFETY: a read guard is a shared reference to the value and one permit,
// which any thread may give back; `Send` follows likewise below.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: see above; the value itself does not move, so `T: Send` is not asked.
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds a permit, so there is no writer.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.permits.add_permits(1);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Exclusive access to the value of an [`RwLock`].
///
/// ```
/// use crore::sync::{RwLock, RwLockWriteGuard};
/// let lock = RwLock::new(7);
/// let mut guard: RwLockWriteGuard<'_, i32> = lock.write().unwrap();
/// *guard += 1;
/// ```
#[must_use = "dropping the guard gives the lock back at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    watch: Watch,
}

// SAFETY: a shared write guard gives a shared reference to the value only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}
// SAFETY: the guard is exclusive access to the value, wherever it is, and the
// permits, which any thread may give back.
unsafe impl<T: ?Sized + Send> Send for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on reading without letting another writer in between.
    ///
    /// ```
    /// let lock = crore::sync::RwLock::new(7);
    /// let mut writer = lock.write().unwrap();
    /// *writer += 1;
    /// let reader = writer.downgrade(); // no other writer comes between
    /// assert_eq!((*reader, lock.try_read().is_ok()), (8, true));
    /// ```
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let lock = ManuallyDrop::new(self).lock;
        lock.writer.leaves();
        lock.permits.add_permits(ALL - 1);
        RwLockReadGuard { lock }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds all permits, so nobody else has access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.poison.done(self.watch);
        self.lock.writer.leaves();
        self.lock.permits.add_permits(ALL);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
