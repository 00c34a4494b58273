//! The plain spawning functions.

use crate::runtime::handle::Handle;
use crate::runtime::join_handle::JoinHandle;
use crate::runtime::spawn_builder::Builder;

impl Handle {
    /// Spawns a coroutine on the runtime. It starts when the runtime runs.
    ///
    /// If the runtime is dropped first, so is the closure, and joining gives an
    /// error that [is "cancelled"](crate::JoinError::is_cancelled).
    ///
    /// # Panics
    ///
    /// When the runtime has ended, and when every worker has as many coroutines as it may;
    /// [`Builder::spawn_on`](crate::Builder::spawn_on) returns an error instead.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().build()?;
    /// let handle = runtime.handle();
    /// let outside = std::thread::spawn(move || handle.spawn(|| 3).join().unwrap());
    /// runtime.run(|| while !outside.is_finished() { crore::yield_now() })?;
    /// assert_eq!(outside.join().unwrap(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Builder::new()
            .spawn_on(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
    }
}

/// Spawns a coroutine on this thread's runtime, after [`std::thread::spawn`].
///
/// It first runs when this one parks, yields or ends, or on another worker if
/// the runtime has several and one is idle. Once started it stays there.
///
/// # Panics
///
/// Outside a runtime, and when every worker has as many coroutines as it may.
/// [`Builder::spawn`] returns an error instead.
///
/// # Examples
///
/// ```
/// let sum = crore::run(|| {
///     let parts: Vec<_> = (0..10u64).map(|i| crore::spawn(move || i * i)).collect();
///     parts.into_iter().map(|part| part.join().unwrap()).sum::<u64>()
/// })?;
/// assert_eq!(sum, 285);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new()
        .spawn(f)
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}

/// As [`spawn`], on one of the runtime's workers, counted from 0.
///
/// # Panics
///
/// As [`spawn`]; when there is no such worker, and when it has as many coroutines as it
/// may. [`Builder::worker`] has errors instead.
///
/// # Examples
///
/// A listener for each worker, so that all accept and no connection changes its thread:
///
/// ```
/// # use std::net::{TcpListener, TcpStream};
/// fn serve(listener: TcpListener, worker: usize) {
///     while let Ok((stream, _)) = listener.accept() {
///         crore::spawn_on(worker, move || drop(stream));
///     }
/// }
///
/// let runtime = crore::Runtime::builder().workers(2).build()?;
/// runtime.run(|| {
///     let listeners = crore::io::bind_per_worker("127.0.0.1:0")?;
///     # let address = listeners[0].local_addr()?;
///     # #[cfg(not(feature = "hook"))] return Ok(()); // `accept` would block the thread
///     for (worker, listener) in listeners.into_iter().enumerate() {
///         crore::spawn_on(worker, move || serve(listener, worker));
///     }
///     # TcpStream::connect(address)?;
///     std::io::Result::Ok(())
/// })?
/// # ;std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn spawn_on<F, T>(worker: usize, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new()
        .worker(worker)
        .spawn(f)
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}

/// As [`spawn`], for closures and results that must stay on this thread.
///
/// # Panics
///
/// As [`spawn`]; and inside a coroutine with [thread-locals of its
/// own](Builder::own_thread_locals).
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// crore::run(|| {
///     let count = Rc::new(Cell::new(0));
///     let theirs = Rc::clone(&count);
///     crore::spawn_local(move || theirs.set(7)).join().unwrap();
///     assert_eq!(count.get(), 7);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    Builder::new()
        .spawn_local(f)
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}

/// Spawns a coroutine that shares its stack with others: while it is parked,
/// only the bytes that it uses are kept, and others run where it ran. This is
/// how ten million coroutines fit in one machine.
///
/// The idea is that of Tencent's libco and of libaco, with the difference that
/// frames are copied only when another coroutine must run on the same stack.
///
/// # Panics
///
/// As [`spawn`].
///
/// # Safety
///
/// While this coroutine is parked (in any wait: a hooked system call, `sleep`,
/// `yield_now`, `park`, `join`, a lock, a channel), the memory of its frames
/// belongs to somebody else. So, while it is parked, **nobody else uses a
/// pointer or reference to its local variables**:
///
/// - no other coroutine and no other thread, however it got the pointer (a
///   reference handed over through a channel, a thread-local, `transmute`);
/// - not the kernel: no asynchronous I/O into a buffer on the stack (hooked
///   blocking calls are fine: the data is moved after the coroutine is back);
/// - no scoped threads or coroutines that borrow its locals;
/// - no library that links a node on the waiter's stack into a list of its
///   own, as channels of capacity zero, intrusive wait queues and some
///   condition variables do;
/// - no future that is pinned on the stack and registers its own address
///   (`pin!` and a self-made executor); [`block_on`](crate::block_on()) pins on the heap here.
///
/// Fine are: sockets and files and their hooked calls; values that are moved
/// (messages, results); boxes, vectors, strings and reference counts, whose
/// contents are on the heap; references to what lies outside of any
/// coroutine's frames; everything of this crate.
///
/// Set the environment variable `CRORE_CHECK_SHARED=1` to have the contract
/// checked: each shared coroutine then gets memory of its own, which is
/// inaccessible while it is parked, and code that touches it is named.
///
/// # Examples
///
/// ```
/// crore::run(|| {
///     let waiting: Vec<_> = (0..1000u64)
///         .map(|i| {
///             // SAFETY: the closure owns its number and hands out no
///             // reference to anything on its stack.
///             unsafe { crore::spawn_shared(move || { crore::park(); i }) }
///         })
///         .collect();
///     crore::yield_now(); // all of them run, and park
///     waiting.iter().for_each(|handle| handle.coroutine().unpark());
///     let sum: u64 = waiting.into_iter().map(|handle| handle.join().unwrap()).sum();
///     assert_eq!(sum, 499_500);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub unsafe fn spawn_shared<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    // SAFETY: the caller keeps the contract.
    unsafe { Builder::new().spawn_shared(f) }
        .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
}
