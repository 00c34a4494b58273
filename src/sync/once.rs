//! [`OnceCell`] (std's `OnceLock`), [`Once`] and [`LazyLock`]: initialisation that is done once.
//!
//! An initialiser holds the one permit of a [`Semaphore`]. Success closes the
//! semaphore, which lets all waiters go; failure gives the permit to the next.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::Deref;

use super::semaphore::{AcquireError, Permit, Semaphore};
use crate::shim::atomic::{AtomicBool, Ordering};
use crate::shim::{UnsafeCell, const_fn};

/// A value that is set once, after [`std::sync::OnceLock`].
///
/// Waiting for another's initialisation parks the coroutine it happens in, or
/// the thread outside of one. Those who wait are served in the order in which
/// they came.
///
/// **Failure**: when an initialiser panics, returns an error, or its future is
/// dropped half-way (or its coroutine cancelled), the cell stays empty and the
/// next in the queue tries: there is no poisoning. An initialiser that asks
/// for the value of its own cell waits for ever.
///
/// # Examples
///
/// ```
/// static ANSWER: crore::sync::OnceCell<u32> = crore::sync::OnceCell::new();
/// assert_eq!(ANSWER.get(), None);
/// assert_eq!(*ANSWER.get_or_init(|| 42), 42);
/// assert_eq!(ANSWER.set(43), Err(43));
/// ```
///
/// All who have the cell share the value, so it must be [`Sync`]:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>(_: T) {}
/// shared(crore::sync::OnceCell::<std::cell::Cell<u8>>::new());
/// ```
pub struct OnceCell<T> {
    ready: AtomicBool,
    permit: Semaphore,
    /// Written once, by the holder of the permit, before `ready` is set; read
    /// by anybody afterwards.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: `&OnceCell<T>` gives `&T` (so `T: Sync`) and takes a `T` that another
// thread may drop or take (so `T: Send`).
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

impl<T> OnceCell<T> {
    const_fn! {
        /// Makes an empty cell.
        pub const fn new() -> Self {
            Self { ready: AtomicBool::new(false), permit: Semaphore::new(1), value: UnsafeCell::new(None) }
        }
    }

    /// The value, if it is there.
    ///
    /// ```
    /// let cell = crore::sync::OnceCell::new();
    /// assert_eq!(cell.get(), None);
    /// cell.set(7).unwrap();
    /// assert_eq!(cell.get(), Some(&7));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: `ready` was set after the one write, and the acquiring load
        // saw it: there is no writer while `self` is borrowed.
        self.value.with(|value| unsafe { &*value }).as_ref()
    }

    /// The value; if there is none, `init` makes it, while others wait.
    ///
    /// ```
    /// let cell = crore::sync::OnceCell::new();
    /// assert_eq!(*cell.get_or_init(|| 7), 7);
    /// assert_eq!(*cell.get_or_init(|| 8), 7); // made once
    /// ```
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(init())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The value; if there is none, `init` may make it, while others wait.
    ///
    /// # Errors
    ///
    /// What `init` returned; the cell stays empty.
    ///
    /// # Examples
    ///
    /// ```
    /// let cell = crore::sync::OnceCell::new();
    /// assert!(cell.get_or_try_init(|| "x".parse::<u32>()).is_err());
    /// assert_eq!(cell.get_or_try_init(|| "7".parse::<u32>()), Ok(&7)); // tried again
    /// ```
    pub fn get_or_try_init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        match self.permit.acquire(1) {
            Ok(permit) => Ok(self.fill(permit, init()?)),
            // Closed after the value was set.
            Err(AcquireError { .. }) => Ok(self.expect()),
        }
    }

    /// The value; if there is none, the future that `init` makes makes it,
    /// while others wait.
    ///
    /// ```
    /// # async fn connect() -> u32 { 1 }
    /// async fn connection(cell: &crore::sync::OnceCell<u32>) -> &u32 {
    ///     cell.get_or_init_async(connect).await
    /// }
    /// ```
    pub async fn get_or_init_async<F: Future<Output = T>>(&self, init: impl FnOnce() -> F) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        match self.permit.acquire_async(1).await {
            Ok(permit) => self.fill(permit, init().await),
            // Closed after the value was set.
            Err(AcquireError { .. }) => self.expect(),
        }
    }

    /// Sets the value; waits while another initialises.
    ///
    /// # Errors
    ///
    /// There is a value already; the new one comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// let cell = crore::sync::OnceCell::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// assert_eq!(cell.get(), Some(&1));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_try_init(|| value.take().ok_or(())).ok();
        value.map_or(Ok(()), Err)
    }

    /// The value, exclusively, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: `self` is borrowed exclusively.
        self.value.with_mut(|value| unsafe { &mut *value }).as_mut()
    }

    /// Takes the value out, which leaves the cell empty.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value, if it is there.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Sets the value. The permit says that nobody has and nobody else will.
    fn fill(&self, permit: Permit<'_>, value: T) -> &T {
        // SAFETY: only the holder of the one permit writes, and only once: the
        // permit is not given back after that. Nobody reads before `ready`.
        self.value.with_mut(|place| unsafe { *place = Some(value) });
        self.ready.store(true, Ordering::Release);
        permit.forget();
        self.permit.close();
        self.expect()
    }

    /// The value, after it was set.
    fn expect(&self) -> &T {
        self.get()
            .expect("the value is set before the semaphore is closed")
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Clone for OnceCell<T> {
    /// One with a copy of the value, or without one.
    fn clone(&self) -> Self {
        self.get().cloned().map_or_else(Self::new, Self::from)
    }
}

impl<T: PartialEq> PartialEq for OnceCell<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceCell<T> {}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> Self {
        let cell = Self::new();
        // The cell is empty, so this cannot fail.
        let _ = cell.set(value);
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}

/// Something to do once, after [`std::sync::Once`], but without poisoning: if
/// it panics, the next caller tries. [`call_once_force`](Self::call_once_force) says
/// to its closure that one did.
///
/// ```
/// static SETUP: crore::sync::Once = crore::sync::Once::new();
/// SETUP.call_once(|| println!("only now"));
/// SETUP.call_once(|| panic!("never"));
/// assert!(SETUP.is_completed());
/// ```
#[derive(Debug)]
pub struct Once {
    done: OnceCell<()>,
    /// One that was called has unwound. Written by the holder of the cell's permit.
    failed: AtomicBool,
}

impl Once {
    const_fn! {
        /// Makes one that is still to do.
        pub const fn new() -> Self {
            Self { done: OnceCell::new(), failed: AtomicBool::new(false) }
        }
    }

    /// Calls `f` if nothing was called before; otherwise waits until that is
    /// done.
    ///
    /// ```
    /// let once = crore::sync::Once::new();
    /// let mut calls = 0;
    /// once.call_once(|| calls += 1);
    /// once.call_once(|| unreachable!());
    /// assert_eq!(calls, 1);
    /// ```
    pub fn call_once(&self, f: impl FnOnce()) {
        self.call_once_force(|_| f());
    }

    /// As [`call_once`](Self::call_once), which goes on after a panic, too; the closure
    /// is told of it.
    ///
    /// ```
    /// let once = crore::sync::Once::new();
    /// let panics = || once.call_once(|| panic!("lost"));
    /// assert!(std::panic::catch_unwind(panics).is_err());
    /// once.call_once_force(|state| assert!(state.is_poisoned()));
    /// assert!(once.is_completed());
    /// ```
    pub fn call_once_force(&self, f: impl FnOnce(&OnceState)) {
        struct Fails<'a>(&'a AtomicBool);
        impl Drop for Fails<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        self.done.get_or_init(|| {
            let fails = Fails(&self.failed);
            let poisoned = self.failed.load(Ordering::Relaxed);
            f(&OnceState { poisoned });
            std::mem::forget(fails);
        });
    }

    /// Whether it is done.
    pub fn is_completed(&self) -> bool {
        self.done.get().is_some()
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Once::call_once_force`] knows of the calls before, after
/// [`std::sync::OnceState`].
///
/// ```
/// crore::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether one of them panicked, or was unwound by a cancellation.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

/// A value that is made when it is first used, after [`std::sync::LazyLock`].
/// If making it panics, so does every later use.
///
/// ```
/// use crore::sync::LazyLock;
/// static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| (0..3).collect());
/// assert_eq!(*TABLE, [0, 1, 2]);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    cell: OnceCell<T>,
    /// Taken by the first initialiser, which holds the cell's permit then.
    init: UnsafeCell<Option<F>>,
}

// SAFETY: `init` is reached by the holder of the cell's one permit only, which
// moves it out and calls it there (`F: Send`); the rest is the cell's.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    const_fn! {
        /// Makes a value that `init` will make.
        pub const fn new(init: F) -> Self {
            Self { cell: OnceCell::new(), init: UnsafeCell::new(Some(init)) }
        }
    }

    /// The value, made now if it was not yet; waits while another makes it.
    ///
    /// ```
    /// use crore::sync::LazyLock;
    /// static TABLE: LazyLock<Vec<u32>> = LazyLock::new(|| (0..100).collect());
    /// LazyLock::force(&TABLE); // now, rather than at the first use
    /// assert_eq!(TABLE[7], 7);
    /// ```
    pub fn force(this: &Self) -> &T {
        this.cell.get_or_init(|| {
            // SAFETY: called by the holder of the cell's permit alone.
            let init = this.init.with_mut(|init| unsafe { &mut *init }.take());
            init.expect("a LazyLock whose initialiser panicked has no value")()
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    /// One that will make the default value.
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LazyLock").field(&self.cell.get()).finish()
    }
}
