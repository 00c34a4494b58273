//! [`Notify`], a notification without a value: a semaphore of one permit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{WaitsFor, waiting};
use crate::shim::{Lock, const_fn};

/// Tells one or all of those who wait to go on, after `tokio::sync::Notify`.
///
/// [`notify_one`](Self::notify_one) without a waiter leaves one permit (never
/// more than one), which the next wait takes at once.
/// [`notify_waiters`](Self::notify_waiters) leaves nothing: it wakes every
/// [`Notified`] that exists, polled or not.
///
/// [`wait`](Self::wait) parks the coroutine it is called in, or the thread
/// outside of one; [`notified`](Self::notified) is a future.
///
/// **Fairness**: first in, first out. **Dropping** a future (or unwinding out
/// of a wait) that a `notify_one` had reached passes it on, to the next waiter
/// or as the permit.
///
/// # Examples
///
/// ```
/// use crore::sync::Notify;
/// static STOP: Notify = Notify::new();
///
/// let thread = std::thread::spawn(|| STOP.wait());
/// STOP.notify_one(); // before or after the thread waits: both is right
/// thread.join().unwrap();
/// ```
pub struct Notify {
    state: Lock<NotifyState>,
}

struct NotifyState {
    permit: bool,
    /// How often `notify_waiters` was called.
    rounds: usize,
    waiters: Waiters<NotifyWaiter>,
}

/// Which call has notified a waiter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NotifyWaiter {
    No,
    One,
    All,
}

impl Notify {
    const_fn! {
        /// Makes one without a permit.
        pub const fn new() -> Self {
            let waiters = Waiters::new();
            Self { state: Lock::new(NotifyState { permit: false, rounds: 0, waiters }) }
        }
    }

    /// Waits for a notification.
    pub fn wait(&self) {
        if !self.try_wait() {
            waiting(WaitsFor::notification(), || block_on(self.notified()));
        }
    }

    /// Waits for a notification for at most `timeout`; says whether it came.
    ///
    /// ```
    /// let notify = crore::sync::Notify::new();
    /// assert!(!notify.wait_timeout(std::time::Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let wait = || block_on_deadline(self.notified(), deadline);
        self.try_wait() || waiting(WaitsFor::notification(), wait).is_some() || self.try_wait()
    }

    /// Takes the permit, if it is there.
    pub fn try_wait(&self) -> bool {
        std::mem::take(&mut self.state.lock().permit)
    }

    /// Waits as a future. From now on `notify_waiters` reaches it.
    pub fn notified(&self) -> Notified<'_> {
        let rounds = self.state.lock().rounds;
        Notified {
            notify: self,
            rounds,
            key: None,
        }
    }

    /// Lets the longest waiter go on, or else the next that comes.
    ///
    /// ```
    /// let notify = crore::sync::Notify::new();
    /// notify.notify_one(); // nobody waits: the next one does not have to
    /// notify.wait();
    /// assert!(!notify.try_wait());
    /// ```
    pub fn notify_one(&self) {
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        state.notify_one(&mut wakes);
    }

    /// Lets all go on that wait now.
    ///
    /// ```
    /// use std::sync::Arc;
    /// crore::run(|| {
    ///     let notify = Arc::new(crore::sync::Notify::new());
    ///     let waiting: Vec<_> = (0..3)
    ///         .map(|_| { let notify = Arc::clone(&notify); crore::spawn(move || notify.wait()) })
    ///         .collect();
    ///     crore::yield_now(); // now all three wait
    ///     notify.notify_waiters();
    ///     waiting.into_iter().for_each(|one| one.join().unwrap());
    /// }).unwrap();
    /// ```
    pub fn notify_waiters(&self) {
        let mut wakes = WakeList::new();
        let mut state = self.state.lock();
        state.rounds = state.rounds.wrapping_add(1);
        while let Some(waiter) = state.waiters.take_first(&mut wakes) {
            *waiter = NotifyWaiter::All;
        }
    }
}

impl NotifyState {
    fn notify_one(&mut self, wakes: &mut WakeList) {
        match self.waiters.take_first(wakes) {
            Some(waiter) => *waiter = NotifyWaiter::One,
            None => self.permit = true,
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

/// The future of [`Notify::notified`].
///
/// ```
/// let notify = crore::sync::Notify::new();
/// notify.notify_one();
/// crore::run(|| crore::block_on(notify.notified())).unwrap();
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    /// `NotifyState::rounds` when it was made.
    rounds: usize,
    key: Option<WaiterKey>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let waker = cx.waker().clone();
        let _old;
        let mut state = notify.state.lock();
        let Some(key) = self.key else {
            if self.rounds != state.rounds || std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            self.key = Some(state.waiters.enqueue(NotifyWaiter::No, Some(waker)));
            return Poll::Pending;
        };
        if *state.waiters.payload(key) == NotifyWaiter::No {
            _old = state.waiters.set_waker(key, waker);
            return Poll::Pending;
        }
        let _ = state.waiters.remove(key);
        self.key = None;
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut wakes = WakeList::new();
        let removed;
        let mut state = self.notify.state.lock();
        removed = state.waiters.remove(key);
        if removed.payload == NotifyWaiter::One {
            state.notify_one(&mut wakes);
        }
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").finish_non_exhaustive()
    }
}
