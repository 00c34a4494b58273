//! Futures as tasks: no stack of their own, polled by a worker.

use std::future::Future;
use std::io;

use crate::runtime::handle::Handle;
use crate::runtime::join_handle::JoinHandle;
use crate::runtime::spawn_builder::Builder;
use crate::task::PolledFuture;

/// Spawns a future on this thread's runtime: a worker polls it, on the
/// worker's own stack, whenever it is woken. It costs one allocation, and no
/// stack. With several workers, any of them may take it; the one that has
/// polled it once keeps it.
///
/// For async code beside coroutines. Each poll must be short, as with every
/// executor: all coroutines of the worker wait meanwhile. There is **no
/// coroutine inside**: [`try_current`](crate::try_current) is `None`, hooked system calls block the
/// worker's thread as if there were no hooks, as [`sleep`](crate::sleep) does,
/// and what would have to park (`join`, [`block_on`](crate::block_on()), a
/// contended lock) panics. Inside, `.await` the handles, channels and locks of
/// this crate; or [`spawn`](crate::spawn()) a coroutine for what blocks and await
/// that.
///
/// A panic in a poll ends the future, and the handle gives it; the runtime
/// goes on. When it is cancelled, or the runtime's main coroutine ends, the
/// future is dropped (a worker does it soon).
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
///
/// # Examples
///
/// ```
/// let sum = crore::run(|| {
///     let (sender, receiver) = crore::sync::channel::bounded(1);
///     let adder = crore::spawn_future(async move {
///         let mut sum = 0;
///         while let Ok(number) = receiver.recv_async().await {
///             sum += number;
///         }
///         sum
///     });
///     (1..=4).for_each(|number| sender.send(number).unwrap());
///     drop(sender);
///     adder.join().unwrap()
/// })?;
/// assert_eq!(sum, 10);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn spawn_future<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    Builder::new()
        .spawn_future(future)
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}

/// As [`spawn_future`], for futures that must stay on this thread.
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// crore::run(|| {
///     let count = Rc::new(Cell::new(0));
///     let future = { let count = Rc::clone(&count); async move { count.set(1) } };
///     crore::spawn_future_local(future).join().unwrap();
///     assert_eq!(count.get(), 1);
/// }).unwrap();
/// ```
#[track_caller]
pub fn spawn_future_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    Builder::new()
        .spawn_future_local(future)
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}

impl Handle {
    /// Spawns a future on the runtime, from any thread: [`Handle::spawn`] for
    /// futures, with what [`spawn_future`] says about them.
    ///
    /// # Panics
    ///
    /// As [`Handle::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().build()?;
    /// let future = runtime.handle().spawn_future(async { 7 });
    /// runtime.run(|| ())?;
    /// assert_eq!(future.join().unwrap(), 7);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Builder::new()
            .spawn_future_on(self, future)
            .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
    }
}

/// Futures. Of the builder's settings only the name has a meaning for them.
impl Builder {
    /// As [`spawn_future`].
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let named = crore::Builder::new().name("polled".into()).spawn_future(async { 7 }).unwrap();
    ///     assert_eq!(named.join().unwrap(), 7);
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_future<F>(self, future: F) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let worker = self.here()?;
        let plan = self.plan();
        Ok(JoinHandle::new(worker.spawn(PolledFuture(future), plan)?))
    }

    /// As [`spawn_future_local`].
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_future_local<F>(self, future: F) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future<Output: 'static> + 'static,
    {
        let (plan, worker) = self.local()?;
        Ok(JoinHandle::new(
            worker.spawn_local(PolledFuture(future), plan)?,
        ))
    }

    /// As [`Builder::spawn_on`], for futures.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn_on`].
    #[track_caller]
    pub fn spawn_future_on<F>(
        self,
        runtime: &Handle,
        future: F,
    ) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.check()?;
        let plan = self.plan();
        Ok(JoinHandle::new(runtime.inject(PolledFuture(future), plan)?))
    }
}
