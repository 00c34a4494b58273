//! [`Barrier`]: holds up `n` waiters until all have come.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::block_on::{block_on, block_on_deadline};
use crate::shim::{Lock, const_fn};

/// Holds up those who come until there are `n` of them, after
/// [`std::sync::Barrier`]; then it can be used again.
///
/// [`wait`](Self::wait) parks the coroutine it is called in, or the thread
/// outside of one. All are woken together, in the order in which they came.
///
/// **Dropping** a waiting future, or unwinding out of a wait when a coroutine
/// is cancelled, takes back that it had come: the others wait for one more.
///
/// # Examples
///
/// ```
/// static BARRIER: crore::sync::Barrier = crore::sync::Barrier::new(3);
/// let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(|| BARRIER.wait())).collect();
/// let results = threads.into_iter().map(|t| t.join().unwrap());
/// assert_eq!(results.filter(|r| r.is_leader()).count(), 1);
/// ```
pub struct Barrier {
    n: usize,
    /// The payload: whether the barrier has opened for the waiter.
    state: Lock<BarrierState>,
}

struct BarrierState {
    arrived: usize,
    waiters: Waiters<bool>,
}

/// Whether it was this wait that opened the barrier.
///
/// ```
/// let barrier = crore::sync::Barrier::new(1);
/// assert!(barrier.wait().is_leader()); // one of each round is
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for exactly one of the `n`: the last to come.
    pub fn is_leader(self) -> bool {
        self.0
    }
}

impl Barrier {
    const_fn! {
        /// Makes a barrier for `n`; 0 is as good as 1.
        pub const fn new(n: usize) -> Self {
            Self { n, state: Lock::new(BarrierState { arrived: 0, waiters: Waiters::new() }) }
        }
    }

    /// Waits until `n` have come.
    ///
    /// ```
    /// use std::sync::Arc;
    /// crore::run(|| {
    ///     let barrier = Arc::new(crore::sync::Barrier::new(2));
    ///     let other = { let barrier = Arc::clone(&barrier); crore::spawn(move || barrier.wait().is_leader()) };
    ///     let leader = barrier.wait().is_leader();
    ///     assert!(leader != other.join().unwrap());
    /// }).unwrap();
    /// ```
    pub fn wait(&self) -> BarrierWaitResult {
        block_on(self.wait_async())
    }

    /// As [`Barrier::wait`], for at most `timeout`; `None` when that is over, and it has
    /// not come then: the others wait for one more.
    ///
    /// ```
    /// use std::time::Duration;
    /// let barrier = crore::sync::Barrier::new(2);
    /// assert!(barrier.wait_timeout(Duration::from_millis(1)).is_none());
    /// crore::run(|| {
    ///     let barrier = std::sync::Arc::new(barrier);
    ///     let other = { let barrier = barrier.clone(); crore::spawn(move || barrier.wait()) };
    ///     assert!(barrier.wait_timeout(Duration::from_secs(60)).is_some());
    ///     other.join().unwrap();
    /// }).unwrap();
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Option<BarrierWaitResult> {
        let deadline = Instant::now().checked_add(timeout);
        let mut wait = self.wait_async();
        let opened = block_on_deadline(&mut wait, deadline);
        // It may have opened at the last moment; then the others have counted on us.
        opened.or_else(|| wait.withdraw())
    }

    /// Waits as a future; it has come when it is first polled.
    ///
    /// ```
    /// crore::run(|| {
    ///     let barrier = crore::sync::Barrier::new(1);
    ///     assert!(crore::block_on(barrier.wait_async()).is_leader());
    /// }).unwrap();
    /// ```
    pub fn wait_async(&self) -> BarrierWait<'_> {
        BarrierWait {
            barrier: self,
            key: None,
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("n", &self.n)
            .finish_non_exhaustive()
    }
}

/// The future of [`Barrier::wait_async`].
///
/// ```
/// use crore::sync::{Barrier, BarrierWait};
/// let barrier = Barrier::new(1);
/// let wait: BarrierWait<'_> = barrier.wait_async();
/// assert!(crore::run(|| crore::block_on(wait)).unwrap().is_leader());
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct BarrierWait<'a> {
    barrier: &'a Barrier,
    key: Option<WaiterKey>,
}

impl Future for BarrierWait<'_> {
    type Output = BarrierWaitResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BarrierWaitResult> {
        let barrier = self.barrier;
        let waker = cx.waker().clone();
        let _old;
        let mut wakes = WakeList::new();
        let mut state = barrier.state.lock();
        if let Some(key) = self.key {
            if !*state.waiters.payload(key) {
                _old = state.waiters.set_waker(key, waker);
                return Poll::Pending;
            }
            let _ = state.waiters.remove(key);
            self.key = None;
            return Poll::Ready(BarrierWaitResult(false));
        }
        state.arrived += 1;
        if state.arrived < barrier.n {
            self.key = Some(state.waiters.enqueue(false, Some(waker)));
            return Poll::Pending;
        }
        state.arrived = 0;
        while let Some(open) = state.waiters.take_first(&mut wakes) {
            *open = true;
        }
        Poll::Ready(BarrierWaitResult(true))
    }
}

impl BarrierWait<'_> {
    /// Takes back that it has come, unless the barrier has opened for it.
    fn withdraw(&mut self) -> Option<BarrierWaitResult> {
        let key = self.key.take()?;
        let removed;
        let mut state = self.barrier.state.lock();
        removed = state.waiters.remove(key);
        if removed.payload {
            return Some(BarrierWaitResult(false));
        }
        state.arrived -= 1;
        None
    }
}

impl Drop for BarrierWait<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl fmt::Debug for BarrierWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWait").finish_non_exhaustive()
    }
}
