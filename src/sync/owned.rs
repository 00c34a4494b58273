//! Guards and permits that own their lock, by its reference count: for what outlives
//! the scope that has the lock, a task or a field.
//!
//! Each is the [`Arc`] and what the guard that borrows has beside its reference.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LockResult, TryLockError, TryLockResult};

use super::poison::Watch;
use super::rwlock::{ALL, held};
use super::{AcquireError, Mutex, RwLock, Semaphore, TryAcquireError};

/// The guard of [`Mutex::lock_owned`].
///
/// ```
/// use std::sync::Arc;
/// use crore::sync::{Mutex, OwnedMutexGuard};
///
/// let mutex = Arc::new(Mutex::new(1));
/// let mut guard: OwnedMutexGuard<i32> = Arc::clone(&mutex).lock_owned().unwrap();
/// std::thread::spawn(move || *guard += 1).join().unwrap(); // dropped there
/// assert_eq!(*mutex.lock().unwrap(), 2);
/// ```
#[must_use = "dropping the guard opens the mutex at once"]
pub struct OwnedMutexGuard<T: ?Sized> {
    mutex: Arc<Mutex<T>>,
    watch: Watch,
}

impl<T: ?Sized> Mutex<T> {
    /// As [`lock`](Self::lock), with a guard that keeps the mutex.
    ///
    /// # Errors
    ///
    /// [`PoisonError`](super::PoisonError) with the guard, if a holder panicked.
    ///
    /// ```
    /// use std::sync::Arc;
    /// let mutex = Arc::new(crore::sync::Mutex::new(7));
    /// assert_eq!(*mutex.lock_owned().unwrap(), 7);
    /// ```
    pub fn lock_owned(self: Arc<Self>) -> LockResult<OwnedMutexGuard<T>> {
        self.raw.lock_blocking();
        OwnedMutexGuard::new(self)
    }

    /// As [`try_lock`](Self::try_lock), with a guard that keeps the mutex.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    ///
    /// ```
    /// use std::sync::Arc;
    /// let mutex = Arc::new(crore::sync::Mutex::new(7));
    /// let held = Arc::clone(&mutex).try_lock_owned().unwrap();
    /// assert!(Arc::clone(&mutex).try_lock_owned().is_err());
    /// drop(held);
    /// ```
    pub fn try_lock_owned(self: Arc<Self>) -> TryLockResult<OwnedMutexGuard<T>> {
        if self.raw.try_lock() {
            Ok(OwnedMutexGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// As [`lock_owned`](Self::lock_owned), as a future.
    ///
    /// # Errors
    ///
    /// As [`lock_owned`](Self::lock_owned).
    ///
    /// ```
    /// use std::sync::Arc;
    /// let mutex = Arc::new(crore::sync::Mutex::new(7));
    /// let value = crore::run(|| crore::block_on(async { *mutex.lock_owned_async().await.unwrap() }));
    /// assert_eq!(value.unwrap(), 7);
    /// ```
    pub async fn lock_owned_async(self: Arc<Self>) -> LockResult<OwnedMutexGuard<T>> {
        self.raw.lock().await;
        OwnedMutexGuard::new(self)
    }
}

// SAFETY: a shared guard gives a shared reference to the value only. (`Send` follows
// from that of the `Arc`, which asks for `T: Send`.)
unsafe impl<T: ?Sized + Send + Sync> Sync for OwnedMutexGuard<T> {}

impl<T: ?Sized> OwnedMutexGuard<T> {
    /// The caller holds the lock.
    fn new(mutex: Arc<Mutex<T>>) -> LockResult<Self> {
        let watch = Watch::start();
        let guard = Self { mutex, watch };
        if guard.mutex.is_poisoned() {
            return Err(super::PoisonError::new(guard));
        }
        Ok(guard)
    }
}

impl<T: ?Sized> Deref for OwnedMutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nobody else reaches the value; the
        // reference lives no longer than the guard, which keeps the mutex.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for OwnedMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for OwnedMutexGuard<T> {
    fn drop(&mut self) {
        self.mutex.poison.done(self.watch);
        self.mutex.raw.unlock();
    }
}

/// The guard of [`RwLock::read_owned`].
///
/// ```
/// use std::sync::Arc;
/// use crore::sync::{OwnedRwLockReadGuard, RwLock};
///
/// let lock = Arc::new(RwLock::new(1));
/// let reader: OwnedRwLockReadGuard<i32> = Arc::clone(&lock).read_owned().unwrap();
/// assert!(lock.try_write().is_err() && lock.try_read().is_ok());
/// assert_eq!(*reader, 1);
/// ```
#[must_use = "dropping the guard gives the lock back at once"]
pub struct OwnedRwLockReadGuard<T: ?Sized>(Arc<RwLock<T>>);

/// The guard of [`RwLock::write_owned`].
///
/// ```
/// use std::sync::Arc;
/// use crore::sync::{OwnedRwLockWriteGuard, RwLock};
///
/// let lock = Arc::new(RwLock::new(1));
/// let mut writer: OwnedRwLockWriteGuard<i32> = Arc::clone(&lock).write_owned().unwrap();
/// *writer += 1;
/// assert!(lock.try_read().is_err());
/// drop(writer);
/// assert_eq!(*lock.read().unwrap(), 2);
/// ```
#[must_use = "dropping the guard gives the lock back at once"]
pub struct OwnedRwLockWriteGuard<T: ?Sized> {
    lock: Arc<RwLock<T>>,
    watch: Watch,
}

impl<T: ?Sized> RwLock<T> {
    /// As [`read`](Self::read), with a guard that keeps the lock.
    ///
    /// # Errors
    ///
    /// [`PoisonError`](super::PoisonError) with the guard, if a writer panicked.
    pub fn read_owned(self: Arc<Self>) -> LockResult<OwnedRwLockReadGuard<T>> {
        self.take_blocking(1);
        let poisoned = self.is_poisoned();
        wrap(OwnedRwLockReadGuard(self), poisoned)
    }

    /// As [`write`](Self::write), with a guard that keeps the lock.
    ///
    /// # Errors
    ///
    /// As [`read_owned`](Self::read_owned).
    pub fn write_owned(self: Arc<Self>) -> LockResult<OwnedRwLockWriteGuard<T>> {
        self.take_blocking(ALL);
        self.writer.takes();
        let (poisoned, watch) = (self.is_poisoned(), Watch::start());
        wrap(OwnedRwLockWriteGuard { lock: self, watch }, poisoned)
    }

    /// As [`read_owned`](Self::read_owned), as a future.
    ///
    /// # Errors
    ///
    /// As [`read_owned`](Self::read_owned).
    pub async fn read_owned_async(self: Arc<Self>) -> LockResult<OwnedRwLockReadGuard<T>> {
        held(self.permits.wait(1).await);
        let poisoned = self.is_poisoned();
        wrap(OwnedRwLockReadGuard(self), poisoned)
    }

    /// As [`write_owned`](Self::write_owned), as a future.
    ///
    /// # Errors
    ///
    /// As [`read_owned`](Self::read_owned).
    pub async fn write_owned_async(self: Arc<Self>) -> LockResult<OwnedRwLockWriteGuard<T>> {
        held(self.permits.wait(ALL).await);
        self.writer.takes();
        let (poisoned, watch) = (self.is_poisoned(), Watch::start());
        wrap(OwnedRwLockWriteGuard { lock: self, watch }, poisoned)
    }
}

fn wrap<G>(guard: G, poisoned: bool) -> LockResult<G> {
    if poisoned {
        Err(super::PoisonError::new(guard))
    } else {
        Ok(guard)
    }
}

impl<T: ?Sized> Deref for OwnedRwLockReadGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds a permit, so there is no writer, and keeps the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T: ?Sized> Drop for OwnedRwLockReadGuard<T> {
    fn drop(&mut self) {
        self.0.permits.add_permits(1);
    }
}

impl<T: ?Sized> Deref for OwnedRwLockWriteGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds all permits, so nobody else has access, and keeps the
        // lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for OwnedRwLockWriteGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for OwnedRwLockWriteGuard<T> {
    fn drop(&mut self) {
        self.lock.poison.done(self.watch);
        self.lock.writer.leaves();
        self.lock.permits.add_permits(ALL);
    }
}

/// Permits that keep their semaphore; dropping gives them back.
///
/// ```
/// use std::sync::Arc;
/// use crore::sync::{OwnedPermit, Semaphore};
///
/// let places = Arc::new(Semaphore::new(2));
/// let place: OwnedPermit = Arc::clone(&places).acquire_owned(1).unwrap();
/// assert_eq!((place.count(), places.available_permits()), (1, 1));
/// drop(place);
/// assert_eq!(places.available_permits(), 2);
/// ```
#[derive(Debug)]
#[must_use = "dropping the permit gives it back at once"]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    n: usize,
}

impl Semaphore {
    /// As [`acquire`](Self::acquire), with a permit that keeps the semaphore.
    ///
    /// # Errors
    ///
    /// The semaphore is closed.
    ///
    /// # Examples
    ///
    /// A permit for each connection, which ends with it:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use crore::sync::Semaphore;
    ///
    /// crore::run(|| {
    ///     let places = Arc::new(Semaphore::new(2));
    ///     for _ in 0..10 {
    ///         let place = Arc::clone(&places).acquire_owned(1).unwrap();
    ///         crore::spawn(move || drop(place));
    ///     }
    /// }).unwrap();
    /// ```
    pub fn acquire_owned(self: Arc<Self>, n: usize) -> Result<OwnedPermit, AcquireError> {
        self.take_marked(n, Some(&self))?;
        Ok(OwnedPermit { semaphore: self, n })
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that keeps the semaphore.
    ///
    /// # Errors
    ///
    /// See [`TryAcquireError`].
    pub fn try_acquire_owned(self: Arc<Self>, n: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.try_take(n)?;
        Ok(OwnedPermit { semaphore: self, n })
    }

    /// As [`acquire_owned`](Self::acquire_owned), as a future.
    ///
    /// # Errors
    ///
    /// The semaphore is closed.
    pub async fn acquire_owned_async(
        self: Arc<Self>,
        n: usize,
    ) -> Result<OwnedPermit, AcquireError> {
        self.wait(n).await?;
        Ok(OwnedPermit { semaphore: self, n })
    }
}

impl OwnedPermit {
    /// Keeps the permits: they never come back.
    pub fn forget(mut self) {
        self.n = 0;
    }

    /// How many permits these are.
    pub fn count(&self) -> usize {
        self.n
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if self.n > 0 {
            self.semaphore.add_permits(self.n);
        }
    }
}

macro_rules! debug_as_value {
    ($($guard:ident),*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}

debug_as_value!(OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard);
