//! `JoinSet`: a group of coroutines that are joined in the order in which they end.
//!
//! Each member's handle has a waker that puts the member's number on one queue, once:
//! joining the next looks at that, never at those that still run.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::block_on::{block_on, block_on_deadline};
use crate::runtime::join_handle::JoinHandle;
use crate::shim::Lock;
use crate::task::JoinError;

/// A group of coroutines: joins the first that ends, all of them, or cancels the rest.
///
/// The members' results come in the order in which they end; each costs the same,
/// however many there are. Dropping the set cancels those that still run, and does not
/// wait for them; [`detach_all`](Self::detach_all) lets them go on.
///
/// For coroutines that borrow from their parent there is [`scope`](crate::scope()).
///
/// ```
/// use std::time::Duration;
///
/// let first = crore::run(|| {
///     let mut mirrors = crore::JoinSet::new();
///     for (name, delay) in [("far", 3600), ("near", 0)] {
///         mirrors.spawn(move || {
///             crore::sleep(Duration::from_secs(delay));
///             name
///         });
///     }
///     mirrors.join_next().unwrap().unwrap() // the others are cancelled
/// })?;
/// assert_eq!(first, "near");
/// # std::io::Result::Ok(())
/// ```
pub struct JoinSet<T> {
    members: Slab<JoinHandle<T>>,
    ends: Arc<EndQueue>,
}

/// The members that have ended, and whoever waits for the next.
struct EndQueue(Lock<Ends>);

#[derive(Default)]
struct Ends {
    /// Each member once: it stays in its place until it is taken from here.
    ended: VecDeque<usize>,
    waiter: Option<Waker>,
}

struct MemberWaker {
    ends: Arc<EndQueue>,
    member: usize,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        self.ends.push(self.member);
    }
}

impl EndQueue {
    fn new() -> Arc<Self> {
        Arc::new(Self(Lock::new(Ends::default())))
    }

    fn push(&self, member: usize) {
        let waiter = {
            let mut ends = self.0.lock();
            ends.ended.push_back(member);
            ends.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// The next member that has ended; else the waker is left here.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let waker = cx.waker().clone();
        let _old;
        let mut ends = self.0.lock();
        if let Some(member) = ends.ended.pop_front() {
            return Poll::Ready(member);
        }
        _old = ends.waiter.replace(waker);
        Poll::Pending
    }

    fn pop(&self) -> Option<usize> {
        self.0.lock().ended.pop_front()
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self {
            members: Slab::new(),
            ends: EndQueue::new(),
        }
    }

    /// Spawns a coroutine into the set; see [`spawn`](crate::spawn()).
    ///
    /// # Panics
    ///
    /// As [`spawn`](crate::spawn()).
    #[track_caller]
    pub fn spawn<F>(&mut self, f: F)
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.insert(crate::runtime::spawn::spawn(f));
    }

    /// Takes a coroutine into the set that was spawned in another way: by a
    /// [`Builder`](crate::Builder), on a shared stack, as a future.
    ///
    /// # Panics
    ///
    /// If the handle's result was taken, by polling it as a future to its end.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     set.insert(crore::spawn_local(|| 1));
    ///     set.insert(crore::Builder::new().name("two".into()).spawn(|| 2)?);
    ///     let sum: i32 = set.join_all().into_iter().map(Result::unwrap).sum();
    ///     assert_eq!(sum, 3);
    ///     std::io::Result::Ok(())
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn insert(&mut self, mut handle: JoinHandle<T>) {
        let place = self.members.vacant_entry();
        let member = place.key();
        let waker = Waker::from(Arc::new(MemberWaker {
            ends: Arc::clone(&self.ends),
            member,
        }));
        // One that has ended before the waker is there wakes nobody.
        let has_ended = handle.has_ended_or_wakes(&waker);
        place.insert(handle);
        if has_ended {
            self.ends.push(member);
        }
    }

    /// How many there are that were not joined.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all were joined.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Waits for the next that ends: parks the calling coroutine, or blocks the calling
    /// thread. `None`: the set is empty.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`]; unwinds when the calling coroutine is cancelled, or a
    /// [`timeout`](crate::timeout()) around this ends, and the set stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     set.spawn(|| panic!("lost"));
    ///     assert!(set.join_next().unwrap().unwrap_err().is_panic());
    ///     assert!(set.join_next().is_none());
    /// }).unwrap();
    /// ```
    pub fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        if let Some(result) = self.try_join_next() {
            return Some(result);
        }
        if self.is_empty() {
            return None;
        }
        let member = block_on(poll_fn(|cx| self.ends.poll(cx)));
        Some(self.take(member))
    }

    /// As [`JoinSet::join_next`], for at most `timeout`: `None` as well when that is over.
    ///
    /// # Panics
    ///
    /// As [`JoinSet::join_next`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     set.spawn(crore::park);
    ///     assert!(set.join_next_timeout(Duration::from_millis(1)).is_none());
    ///     assert_eq!(set.len(), 1);
    /// }).unwrap();
    /// ```
    pub fn join_next_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        let deadline = Instant::now().checked_add(timeout);
        if let Some(result) = self.try_join_next() {
            return Some(result);
        }
        if self.is_empty() {
            return None;
        }
        let member = block_on_deadline(poll_fn(|cx| self.ends.poll(cx)), deadline)?;
        Some(self.take(member))
    }

    /// One that has ended already, if there is one.
    ///
    /// ```
    /// crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     set.spawn(|| 5);
    ///     assert!(set.try_join_next().is_none()); // it has not begun
    ///     crore::yield_now();
    ///     assert_eq!(set.try_join_next().unwrap().unwrap(), 5);
    /// }).unwrap();
    /// ```
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let member = self.ends.pop()?;
        Some(self.take(member))
    }

    /// Waits for all; the results are in the order in which they ended.
    ///
    /// # Panics
    ///
    /// As [`JoinSet::join_next`], and the rest is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// let squares = crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     (0..10_u32).for_each(|i| set.spawn(move || i * i));
    ///     set.join_all()
    /// })?;
    /// assert_eq!(squares.into_iter().map(Result::unwrap).sum::<u32>(), 285);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn join_all(mut self) -> Vec<Result<T, JoinError>> {
        let mut results = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next() {
            results.push(result);
        }
        results
    }

    /// Cancels all that still run (see [`JoinHandle::cancel`]). They stay in the set, to
    /// be joined.
    ///
    /// ```
    /// crore::run(|| {
    ///     let mut set = crore::JoinSet::new();
    ///     (0..3).for_each(|_| set.spawn(crore::park));
    ///     crore::yield_now();
    ///     set.cancel_all();
    ///     assert!(set.join_all().into_iter().all(|one| one.unwrap_err().is_cancelled()));
    /// }).unwrap();
    /// ```
    pub fn cancel_all(&self) {
        for (_, handle) in &self.members {
            handle.cancel();
        }
    }

    /// Empties the set, and lets all go on that still run.
    ///
    /// ```
    /// crore::run(|| {
    ///     let (sender, receiver) = crore::sync::channel::unbounded();
    ///     let mut set = crore::JoinSet::new();
    ///     set.spawn(move || sender.send(5).unwrap());
    ///     set.detach_all();
    ///     assert!(set.is_empty());
    ///     assert_eq!(receiver.recv(), Ok(5));
    /// }).unwrap();
    /// ```
    pub fn detach_all(&mut self) {
        // Those that end from now on tell a queue that nobody reads.
        self.ends = EndQueue::new();
        self.members.clear();
    }

    /// The result of one that has ended.
    fn take(&mut self, member: usize) -> Result<T, JoinError> {
        let mut handle = self.members.remove(member);
        let mut cx = Context::from_waker(Waker::noop());
        match Future::poll(Pin::new(&mut handle), &mut cx) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("a member is on the queue when it has ended"),
        }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}
