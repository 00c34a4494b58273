//! [`Semaphore`]: permits, strictly first come, first served.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{Blocker, OwnedObject, WaitsFor, waiting};
use crate::shim::{Lock, const_fn};

/// A counting semaphore.
///
/// Acquiring parks the coroutine it is called in, or the thread outside of
/// one; [`acquire_async`](Self::acquire_async) is a future.
///
/// **Fairness**: strictly first in, first out. A waiter for many permits holds
/// up those behind it, also where fewer permits would do for them.
///
/// **Dropping** a waiting future, or unwinding out of a wait when a coroutine
/// is cancelled, leaves the queue and gives back what had been granted.
///
/// There is no poisoning: permits guard no value.
///
/// # Examples
///
/// ```
/// use crore::sync::Semaphore;
/// static CONNECTIONS: Semaphore = Semaphore::new(2);
///
/// let first = CONNECTIONS.acquire(1).unwrap();
/// let second = CONNECTIONS.acquire(1).unwrap();
/// assert!(CONNECTIONS.try_acquire(1).is_err());
/// drop(first);
/// assert!(CONNECTIONS.try_acquire(1).is_ok());
/// ```
pub struct Semaphore {
    state: Lock<SemaphoreState>,
}

struct SemaphoreState {
    permits: usize,
    closed: bool,
    waiters: Waiters<PermitWaiter>,
}

/// What a waiter wants, or has got.
#[derive(Clone, Copy)]
enum PermitWaiter {
    Wants(usize),
    Granted,
    Refused,
}

/// The semaphore is closed.
///
/// ```
/// let semaphore = crore::sync::Semaphore::new(1);
/// semaphore.close();
/// let error: crore::sync::AcquireError = semaphore.acquire(1).unwrap_err();
/// println!("{error}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError(());

/// Why there were no permits at once, or in time.
///
/// ```
/// use crore::sync::{Semaphore, TryAcquireError};
/// let semaphore = Semaphore::new(0);
/// assert!(matches!(semaphore.try_acquire(1), Err(TryAcquireError::NoPermits)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// Too few permits are there, or others wait for them.
    NoPermits,
    /// The semaphore is closed.
    Closed,
}

impl Semaphore {
    /// The most permits that a semaphore can hold.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_fn! {
        /// Makes one with `permits` permits.
        ///
        /// # Panics
        ///
        /// With more than [`MAX_PERMITS`](Self::MAX_PERMITS).
        pub const fn new(permits: usize) -> Self {
            assert!(permits <= Self::MAX_PERMITS, "a semaphore holds at most MAX_PERMITS permits");
            Self { state: Lock::new(SemaphoreState { permits, closed: false, waiters: Waiters::new() }) }
        }
    }

    /// Waits for `n` permits. More than will ever be there are waited for
    /// until the semaphore is closed.
    ///
    /// # Errors
    ///
    /// The semaphore is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = crore::sync::Semaphore::new(2);
    /// let permit = semaphore.acquire(2).unwrap();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// drop(permit);
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    pub fn acquire(&self, n: usize) -> Result<Permit<'_>, AcquireError> {
        self.take_marked(n, None)
            .map(|()| Permit { semaphore: self, n })
    }

    /// Takes `n` permits if they are there and nobody waits.
    ///
    /// # Errors
    ///
    /// See [`TryAcquireError`].
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = crore::sync::Semaphore::new(1);
    /// let _permit = semaphore.try_acquire(1).unwrap();
    /// assert!(semaphore.try_acquire(1).is_err());
    /// ```
    pub fn try_acquire(&self, n: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.try_take(n).map(|()| Permit { semaphore: self, n })
    }

    /// Waits for `n` permits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// See [`TryAcquireError`].
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = crore::sync::Semaphore::new(0);
    /// assert!(semaphore.acquire_timeout(1, std::time::Duration::from_millis(1)).is_err());
    /// ```
    pub fn acquire_timeout(
        &self,
        n: usize,
        timeout: Duration,
    ) -> Result<Permit<'_>, TryAcquireError> {
        let deadline = Instant::now().checked_add(timeout);
        self.take_deadline(n, deadline)
            .map(|()| Permit { semaphore: self, n })
    }

    /// Waits for `n` permits as a future.
    ///
    /// ```
    /// let semaphore = crore::sync::Semaphore::new(1);
    /// crore::run(|| {
    ///     crore::block_on(async {
    ///         let _permit = semaphore.acquire_async(1).await.unwrap();
    ///         assert_eq!(semaphore.available_permits(), 0);
    ///     })
    /// }).unwrap();
    /// ```
    pub fn acquire_async(&self, n: usize) -> Acquire<'_> {
        Acquire { wait: self.wait(n) }
    }

    /// How many permits are there now.
    pub fn available_permits(&self) -> usize {
        self.state.lock().permits
    }

    /// Adds `n` permits, and lets those in for whom they suffice.
    ///
    /// # Panics
    ///
    /// When there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = crore::sync::Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.acquire(2).unwrap().count(), 2);
    /// ```
    pub fn add_permits(&self, n: usize) {
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        let sum = state
            .permits
            .checked_add(n)
            .filter(|&sum| sum <= Self::MAX_PERMITS);
        let Some(sum) = sum else {
            drop(state);
            panic!("a semaphore holds at most MAX_PERMITS permits");
        };
        state.permits = sum;
        state.grant(&mut wakes);
    }

    /// Refuses all who wait and all who will ask. Permits that are out stay
    /// valid.
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(crore::sync::Semaphore::new(0));
    /// let other = std::sync::Arc::clone(&semaphore);
    /// crore::run(|| {
    ///     let waiting = crore::spawn(move || other.acquire(1).is_err());
    ///     crore::yield_now();
    ///     semaphore.close();
    ///     assert!(waiting.join().unwrap());
    /// }).unwrap();
    /// ```
    pub fn close(&self) {
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        state.closed = true;
        while let Some(waiter) = state.waiters.take_first(&mut wakes) {
            *waiter = PermitWaiter::Refused;
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// [`acquire`](Self::acquire) without the permit object.
    pub(super) fn take(&self, n: usize) -> Result<(), AcquireError> {
        match self.try_take(n) {
            Ok(()) => Ok(()),
            Err(TryAcquireError::Closed) => Err(AcquireError(())),
            Err(TryAcquireError::NoPermits) => block_on(self.wait(n)),
        }
    }

    /// [`take`](Self::take), and a dump sees what is waited for; by whose reference, if
    /// that is the waiter's own.
    pub(super) fn take_marked(
        &self,
        n: usize,
        owner: Option<&Arc<Self>>,
    ) -> Result<(), AcquireError> {
        match self.try_take(n) {
            Ok(()) => return Ok(()),
            Err(TryAcquireError::Closed) => return Err(AcquireError(())),
            Err(TryAcquireError::NoPermits) => {}
        }
        let semaphore = self;
        let wait = PermitWait {
            semaphore,
            n,
            owner,
        };
        let awaited = WaitsFor::object(&wait, PermitWait::blocker);
        waiting(awaited, || block_on(self.wait(n)))
    }

    /// [`acquire_timeout`](Self::acquire_timeout) without the permit object.
    pub(super) fn take_deadline(
        &self,
        n: usize,
        deadline: Option<Instant>,
    ) -> Result<(), TryAcquireError> {
        match self.try_take(n) {
            Err(TryAcquireError::NoPermits) => {}
            done => return done,
        }
        match block_on_deadline(self.wait(n), deadline) {
            Some(done) => done.map_err(|_| TryAcquireError::Closed),
            None => Err(TryAcquireError::NoPermits),
        }
    }

    /// [`try_acquire`](Self::try_acquire) without the permit object.
    pub(super) fn try_take(&self, n: usize) -> Result<(), TryAcquireError> {
        self.state.lock().try_take(n)
    }

    /// [`acquire_async`](Self::acquire_async) without the permit object.
    pub(super) fn wait(&self, n: usize) -> PermitFuture<'_> {
        PermitFuture {
            semaphore: self,
            n,
            key: None,
        }
    }
}

/// A wait for permits, as a dump sees it.
struct PermitWait<'a> {
    semaphore: &'a Semaphore,
    n: usize,
    owner: Option<&'a Arc<Semaphore>>,
}

impl PermitWait<'_> {
    fn blocker(&self) -> Blocker {
        Blocker::Permits {
            wanted: self.n,
            free: self.semaphore.state.lock().permits,
            owned: self.owner.map(|owner| OwnedObject {
                address: Arc::as_ptr(owner).addr(),
                references: Arc::strong_count(owner) + Arc::weak_count(owner),
            }),
        }
    }
}

impl SemaphoreState {
    fn try_take(&mut self, n: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            return Err(TryAcquireError::Closed);
        }
        if n > self.permits || !self.waiters.is_empty() {
            return Err(TryAcquireError::NoPermits);
        }
        self.permits -= n;
        Ok(())
    }

    /// Serves the queue from the front, as far as the permits go.
    fn grant(&mut self, wakes: &mut WakeList) {
        while let Some(&PermitWaiter::Wants(n)) = self.waiters.first() {
            if n > self.permits {
                break;
            }
            let Some(waiter) = self.waiters.take_first(wakes) else {
                break;
            };
            self.permits -= n;
            *waiter = PermitWaiter::Granted;
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`]; dropping gives them back.
///
/// ```
/// use crore::sync::{Permit, Semaphore};
/// let semaphore = Semaphore::new(3);
/// let permit: Permit<'_> = semaphore.acquire(2).unwrap();
/// assert_eq!(permit.count(), 2);
/// permit.forget(); // they do not come back
/// assert_eq!(semaphore.available_permits(), 1);
/// ```
///
/// It can't outlive its semaphore; [`acquire_owned`](Semaphore::acquire_owned) gives one
/// that keeps it.
///
/// ```compile_fail,E0597
/// let permit = {
///     let semaphore = crore::sync::Semaphore::new(1);
///     semaphore.acquire(1).unwrap()
/// };
/// drop(permit);
/// ```
#[must_use = "dropping the permit gives it back at once"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    n: usize,
}

impl Permit<'_> {
    /// Keeps the permits: they never come back.
    pub fn forget(mut self) {
        self.n = 0;
    }

    /// How many permits these are.
    pub fn count(&self) -> usize {
        self.n
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.n > 0 {
            self.semaphore.add_permits(self.n);
        }
    }
}

/// Waits for permits; the output owns them.
pub(super) struct PermitFuture<'a> {
    semaphore: &'a Semaphore,
    n: usize,
    key: Option<WaiterKey>,
}

impl Future for PermitFuture<'_> {
    type Output = Result<(), AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let semaphore = self.semaphore;
        let waker = cx.waker().clone();
        let _old;
        let mut state = semaphore.state.lock();
        let Some(key) = self.key else {
            return match state.try_take(self.n) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TryAcquireError::Closed) => Poll::Ready(Err(AcquireError(()))),
                Err(TryAcquireError::NoPermits) => {
                    self.key = Some(
                        state
                            .waiters
                            .enqueue(PermitWaiter::Wants(self.n), Some(waker)),
                    );
                    Poll::Pending
                }
            };
        };
        let done = match *state.waiters.payload(key) {
            PermitWaiter::Wants(_) => {
                _old = state.waiters.set_waker(key, waker);
                return Poll::Pending;
            }
            PermitWaiter::Granted => Ok(()),
            PermitWaiter::Refused => Err(AcquireError(())),
        };
        let _ = state.waiters.remove(key);
        self.key = None;
        Poll::Ready(done)
    }
}

impl Drop for PermitFuture<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut wakes = WakeList::new();
        let removed;
        let mut state = self.semaphore.state.lock();
        removed = state.waiters.remove(key);
        if matches!(removed.payload, PermitWaiter::Granted) {
            state.permits += self.n;
        }
        // Also when it only waited: it may have held up those behind it.
        state.grant(&mut wakes);
    }
}

/// The future of [`Semaphore::acquire_async`].
///
/// ```
/// let semaphore = crore::sync::Semaphore::new(1);
/// let acquire: crore::sync::Acquire<'_> = semaphore.acquire_async(1);
/// let count = crore::run(|| crore::block_on(async { acquire.await.unwrap().count() })).unwrap();
/// assert_eq!(count, 1);
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire<'a> {
    wait: PermitFuture<'a>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permit<'a>, AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.wait).poll(cx));
        let PermitFuture { semaphore, n, .. } = self.wait;
        Poll::Ready(done.map(|()| Permit { semaphore, n }))
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("permits", &self.wait.n)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("acquiring permits of a closed semaphore")
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPermits => "the semaphore has too few free permits",
            Self::Closed => "acquiring permits of a closed semaphore",
        })
    }
}

impl std::error::Error for AcquireError {}
impl std::error::Error for TryAcquireError {}
