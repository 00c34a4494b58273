//! `JoinHandle` and `Coroutine`: what others hold of a coroutine.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::block_on::{block_on, block_on_deadline};
use crate::sched::{self, CurrentTask, WaitsFor, Worker, waiting};
use crate::sync::channel::{Ready, ReadyCase};
use crate::task::provisional_id::TaskRequest;
use crate::task::{Addr, Coroutine, JoinError, JoinRef};

/// Waits for a coroutine to end, after [`std::thread::JoinHandle`].
///
/// Dropping the handle detaches the coroutine, which goes on; its result
/// is lost then. The handle is also a [`Future`], for any executor.
///
/// ```
/// crore::run(|| {
///     let handle = crore::spawn(|| 6 * 7);
///     assert_eq!(handle.join().unwrap(), 42);
///     drop(crore::spawn(|| println!("detached"))); // runs all the same
/// }).unwrap();
/// ```
pub struct JoinHandle<T> {
    /// `None` once the result was taken.
    join: Option<JoinRef>,
    result: PhantomData<T>,
}

// SAFETY: a `&JoinHandle<T>` gives no access to a `T`.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// `join` must be a cell whose closure returns `T`.
    pub(crate) fn new(join: JoinRef) -> Self {
        Self {
            join: Some(join),
            result: PhantomData,
        }
    }

    /// Waits for the coroutine to end: parks the calling coroutine, or blocks
    /// the calling thread.
    ///
    /// # Errors
    ///
    /// The coroutine panicked, was cancelled, or got no stack.
    ///
    /// # Panics
    ///
    /// When a thread that runs a worker calls it outside any coroutine (from a
    /// destructor that the worker runs): nothing could ever wake it.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let failed = crore::spawn(|| panic!("lost")).join();
    ///     assert!(failed.unwrap_err().is_panic());
    /// }).unwrap();
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        if self.is_finished() {
            self.into_result()
        } else {
            let join = self.join.as_ref().expect("the result was taken");
            // SAFETY: the cell lives as long as the handle, which waits in there.
            let cell = unsafe { &*ptr::from_ref(join.header()) };
            waiting(WaitsFor::End(cell), || block_on(self))
        }
    }

    /// As [`JoinHandle::join`], for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The handle itself, when the time is over: the coroutine goes on.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     let handle = handle.join_timeout(Duration::from_millis(1)).unwrap_err(); // too early
    ///     handle.coroutine().unpark();
    ///     handle.join_timeout(Duration::from_secs(60)).unwrap().unwrap();
    /// }).unwrap();
    /// ```
    pub fn join_timeout(mut self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        if self.is_finished() {
            return Ok(self.into_result());
        }
        let deadline = Instant::now().checked_add(timeout);
        block_on_deadline(&mut self, deadline).ok_or(self)
    }

    /// Has `waker` woken once at the end; `true` if that has come already, and it is
    /// not woken.
    ///
    /// # Panics
    ///
    /// After the handle was polled to its end.
    pub(crate) fn has_ended_or_wakes(&mut self, waker: &Waker) -> bool {
        let join = self.join.as_mut();
        let join = join.expect("the result of this JoinHandle was taken already");
        join.set_waker(waker)
    }

    /// Whether the coroutine has ended, so that [`JoinHandle::join`] would
    /// return at once.
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(|| ());
    ///     assert!(!handle.is_finished()); // it has not begun
    ///     crore::yield_now();
    ///     assert!(handle.is_finished());
    /// }).unwrap();
    /// ```
    pub fn is_finished(&self) -> bool {
        self.join.as_ref().is_none_or(JoinRef::is_done)
    }

    /// Cancels the coroutine: its blocking calls, the present one and all
    /// later ones, fail with `ECANCELED`; crore's own waits unwind it. One
    /// that has not started never will. One that never waits is not disturbed.
    ///
    /// Does not wait for it to end; [`JoinHandle::join`] does.
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     crore::yield_now();
    ///     handle.cancel(); // its wait unwinds
    ///     assert!(handle.join().unwrap_err().is_cancelled());
    /// }).unwrap();
    /// ```
    pub fn cancel(&self) {
        self.coroutine().cancel();
    }

    /// The coroutine itself.
    ///
    /// # Panics
    ///
    /// After the handle was polled to its end.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     handle.coroutine().unpark();
    ///     handle.join().unwrap();
    /// }).unwrap();
    /// ```
    pub fn coroutine(&self) -> Coroutine {
        self.thread().clone()
    }

    /// The coroutine itself, as std's handle lends it.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::coroutine`].
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     handle.thread().unpark();
    ///     handle.join().unwrap();
    /// }).unwrap();
    /// ```
    pub fn thread(&self) -> &Coroutine {
        let join = self.join.as_ref().expect("the result was taken");
        join.header().coroutine()
    }

    /// As `coroutine().id()`.
    pub(crate) fn id(&self) -> CoroutineId {
        self.thread().id()
    }

    /// The end as a case of a [`select!`](crate::select!): `join(handle)`. What it gives
    /// is the result, after which there is nothing to join.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// crore::run(|| {
    ///     let mut answer = crore::spawn(|| 6 * 7);
    ///     crore::select! {
    ///         join(answer) -> result => assert_eq!(result.unwrap(), 42),
    ///         after(Duration::from_secs(3600)) => answer.cancel(),
    ///     }
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Panics
    ///
    /// The case, if the result was taken already.
    pub fn case(&mut self) -> ReadyCase<impl Ready<Output = Result<T, JoinError>>> {
        ReadyCase::new(Joining(self))
    }

    fn into_result(mut self) -> Result<T, JoinError> {
        let join = self.join.take().expect("the result was taken");
        // SAFETY: `new`'s caller promises the type; the callers check the end.
        unsafe { join.take() }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// When polled again after the end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let join = self
            .join
            .as_mut()
            .expect("a JoinHandle was polled after its end");
        if !join.set_waker(cx.waker()) {
            return Poll::Pending;
        }
        let join = self.join.take().expect("it was there a line ago");
        // SAFETY: `set_waker` said that the end has come; the type is right.
        Poll::Ready(unsafe { join.take() })
    }
}

/// The end of a coroutine, for [`JoinHandle::case`].
struct Joining<'a, T>(&'a mut JoinHandle<T>);

impl<T> Ready for Joining<'_, T> {
    type Output = Result<T, JoinError>;

    fn is_ready(&mut self, waker: Option<&Waker>) -> bool {
        match waker {
            Some(waker) => self.0.has_ended_or_wakes(waker),
            None => self.0.is_finished(),
        }
    }

    fn leave(&mut self) {
        // The waker stays with the coroutine: a wake-up too many does no harm.
    }

    fn output(&mut self) -> Result<T, JoinError> {
        let polled = Pin::new(&mut *self.0).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("an end is for good"),
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Some(join) = self.join.take() else { return };
        match Worker::current() {
            Some(worker)
                if join
                    .header()
                    .known()
                    .is_some_and(|addr| addr.worker() == worker.index()) =>
            {
                worker.detach(join)
            }
            _ => drop(join),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("JoinHandle");
        if let Some(join) = &self.join {
            out.field("id", &join.header().known().map(CoroutineId));
        }
        out.field("finished", &self.is_finished()).finish()
    }
}

/// Tells one coroutine from all others; also all that it takes to unpark it.
///
/// Eight bytes, `Copy`, valid for ever: after the coroutine has ended, what is
/// done through its id does nothing. (An id comes up again after a place has
/// been used 67 million times.)
///
/// ```
/// crore::run(|| {
///     let handle = crore::spawn(crore::park);
///     let id = handle.coroutine().id(); // `Copy`, and may outlive the coroutine
///     id.unpark();
///     handle.join().unwrap();
///     id.unpark(); // nothing happens
/// }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoroutineId(Addr);

impl CoroutineId {
    pub(crate) fn of(addr: Addr) -> Self {
        Self(addr)
    }

    /// For the C interface: the id as a number. Any number is an id, of nothing if it
    /// was never one (I4).
    #[doc(hidden)]
    pub fn __to_bits(self) -> u64 {
        self.0.to_bits()
    }

    /// For the C interface: `try_current().map(|me| me.id())`, without a look at the name.
    #[doc(hidden)]
    pub fn __of_caller() -> Option<Self> {
        CurrentTask::running().map(|cx| Self(cx.identity()))
    }

    /// See [`CoroutineId::__to_bits`].
    #[doc(hidden)]
    pub fn __from_bits(bits: u64) -> Self {
        Self(Addr::from_bits(bits))
    }

    /// As [`Coroutine::unpark`].
    pub fn unpark(self) {
        sched::request(TaskRequest::Unpark, self.0);
    }

    /// As [`Coroutine::cancel`].
    ///
    /// ```
    /// crore::run(|| {
    ///     let handle = crore::spawn(crore::park);
    ///     handle.coroutine().id().cancel();
    ///     assert!(handle.join().unwrap_err().is_cancelled());
    /// }).unwrap();
    /// ```
    pub fn cancel(self) {
        sched::request(TaskRequest::Cancel, self.0);
    }
}

impl fmt::Display for CoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoroutineId({})", self.0)
    }
}

impl Coroutine {
    /// The coroutine's id.
    pub fn id(&self) -> CoroutineId {
        CoroutineId(self.identity())
    }

    /// Makes its present or next [`park`](crate::park) return. From any
    /// thread; several calls before that count as one. What was written before
    /// is seen after the `park`.
    pub fn unpark(&self) {
        self.id().unpark();
    }

    /// Cancels it; see [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        self.id().cancel();
    }
}

/// The coroutine that calls this, after [`std::thread::current`].
///
/// # Panics
///
/// Outside a coroutine; see [`try_current`].
///
/// # Examples
///
/// ```
/// crore::run(|| {
///     let named = crore::Builder::new().name("worker".into()).spawn(|| crore::current().name().map(String::from));
///     assert_eq!(named.unwrap().join().unwrap().as_deref(), Some("worker"));
/// }).unwrap();
/// ```
pub fn current() -> Coroutine {
    try_current()
        .expect("crore::current() was called outside a coroutine; crore::run(|| …) starts one")
}

/// The coroutine that calls this; `None` outside a coroutine.
///
/// ```
/// assert!(crore::try_current().is_none()); // a plain thread
/// assert!(crore::run(|| crore::try_current().is_some()).unwrap());
/// ```
pub fn try_current() -> Option<Coroutine> {
    let cx = CurrentTask::running()?;
    let name = cx.worker().name(cx.slot());
    Some(Coroutine::new(Some(cx.identity()), name))
}
