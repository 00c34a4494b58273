//! `Builder`: how one coroutine is spawned; and the plain spawning functions.

use std::io;
use std::panic::Location;
use std::sync::Arc;

use crate::runtime::handle::Handle;
use crate::runtime::join_handle::JoinHandle;
use crate::sched::{Cx, Plan, StackPlan, Worker, coroutine, shared_coroutine};

/// The stack that a coroutine gets unless its builder says otherwise: 64 KiB.
///
/// A page of it (4 KiB) is memory from the first run on, the rest becomes
/// memory when it is touched. A panic that prints a backtrace needs 22 KiB.
pub const DEFAULT_STACK_SIZE: usize = 64 * 1024;

/// Spawns a coroutine with a name or a stack size of its own, after
/// [`std::thread::Builder`].
///
/// # Examples
///
/// ```
/// crore::run(|| {
///     let handle = crore::Builder::new()
///         .name("greeter")
///         .stack_size(32 * 1024)
///         .spawn(|| crore::current().name().map(str::len))?;
///     assert_eq!(handle.join().unwrap(), Some(7));
///     Ok::<(), std::io::Error>(())
/// })?
/// # ;Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_size: usize,
    unhooked: bool,
    own_tls: Option<bool>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A builder with the defaults: no name, [`DEFAULT_STACK_SIZE`].
    pub fn new() -> Self {
        Self {
            name: None,
            stack_size: DEFAULT_STACK_SIZE,
            unhooked: false,
            own_tls: None,
        }
    }

    /// Names the coroutine, for [`Coroutine::name`](crate::Coroutine::name) and
    /// for messages about it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// The size of the coroutine's stack in bytes, rounded up to whole pages
    /// and to 32 KiB at least. What is not touched costs address space only.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// Whether the coroutine's blocking calls of libc block the thread instead
    /// of parking the coroutine; crore's own waits park it all the same. For
    /// one stretch of code there is [`unhooked`](crate::unhooked()).
    ///
    /// ```
    /// crore::run(|| {
    ///     // It blocks the thread as on a thread, and every other coroutine with it.
    ///     let raw = crore::Builder::new().unhooked(true).spawn(|| std::fs::read_to_string("/proc/version"));
    ///     assert!(raw.unwrap().join().unwrap().is_ok());
    /// }).unwrap();
    /// ```
    pub fn unhooked(mut self, yes: bool) -> Self {
        self.unhooked = yes;
        self
    }

    /// Whether the coroutine has thread-locals of its own: every library takes
    /// it for a thread then. `thread_local!` and C's `_Thread_local`, errno,
    /// [`std::thread::current`], pthread keys begin anew and end with it;
    /// locks that know their owner tell it from others. What goes in and comes
    /// out is [`Send`], as with [`std::thread::spawn`].
    ///
    /// It costs a page or two more a coroutine, and a switch takes about twice as
    /// long. [`guide::kinds`](crate::guide::kinds) says when it is worth it, and
    /// what still is the thread's.
    ///
    /// Default: what the runtime's builder says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// thread_local!(static SEEN: Cell<u32> = const { Cell::new(0) });
    ///
    /// crore::run(|| {
    ///     SEEN.set(1);
    ///     if let Err(why) = crore::local::own_thread_locals() {
    ///         eprintln!("{why}");
    ///         return Ok(());
    ///     }
    ///     let other = crore::Builder::new()
    ///         .own_thread_locals(true)
    ///         .spawn(|| SEEN.replace(2))?;
    ///     assert_eq!(other.join().unwrap(), 0);
    ///     assert_eq!(SEEN.get(), 1);
    ///     Ok::<(), std::io::Error>(())
    /// })?
    /// # ;Ok::<(), std::io::Error>(())
    /// ```
    pub fn own_thread_locals(mut self, yes: bool) -> Self {
        self.own_tls = Some(yes);
        self
    }

    /// Spawns a coroutine on this thread's runtime. With several workers, any
    /// of them may run it.
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are no [own thread-locals](Self::own_thread_locals)
    /// and they were asked for;
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) when the worker has as
    /// many coroutines as it may; `NotConnected` outside
    /// a runtime; `InvalidInput` for a stack size over 1 GiB. That no memory
    /// is left for a stack shows only when the coroutine first runs: then the
    /// [`JoinError`](crate::JoinError) says so.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let deep = crore::Builder::new().name("deep").stack_size(1 << 20).spawn(|| 7)?;
    ///     assert_eq!(deep.join().unwrap(), 7);
    ///     std::io::Result::Ok(())
    /// })??;
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (plan, worker) = self.here()?;
        Ok(JoinHandle::new(worker.spawn(coroutine(f), plan)?))
    }

    /// As [`Builder::spawn`], for what must stay on this thread.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`]. `InvalidInput` with [own
    /// thread-locals](Self::own_thread_locals), and inside a coroutine that has
    /// them: what is not `Send` would get from one's thread-locals to
    /// another's.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// crore::run(|| {
    ///     let shared = Rc::new(7); // not `Send`
    ///     let local = crore::Builder::new().spawn_local({ let shared = Rc::clone(&shared); move || *shared });
    ///     assert_eq!(local.unwrap().join().unwrap(), 7);
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (plan, worker) = self.local()?;
        Ok(JoinHandle::new(worker.spawn_local(coroutine(f), plan)?))
    }

    /// As [`Builder::spawn_local`], on a stack that it shares with others. The
    /// builder's stack size is of no meaning here; see
    /// [`RuntimeBuilder::shared_stacks`](crate::RuntimeBuilder::shared_stacks).
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn_local`].
    ///
    /// # Safety
    ///
    /// The contract of [`spawn_shared`].
    #[track_caller]
    pub unsafe fn spawn_shared<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (plan, worker) = self.local()?;
        let plan = Plan {
            stack: StackPlan::Shared,
            ..plan
        };
        Ok(JoinHandle::new(
            worker.spawn_local(shared_coroutine(f), plan)?,
        ))
    }

    /// Spawns a coroutine on a runtime from any thread.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`]; `NotConnected` when the runtime has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().build()?;
    /// let handle = runtime.handle();
    /// let named = crore::Builder::new().name("guest").spawn_on(&handle, || 7)?; // waits for `run`
    /// runtime.run(|| ())?;
    /// assert_eq!(named.join().unwrap(), 7);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn spawn_on<F, T>(self, runtime: &Handle, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let plan = self.plan(Location::caller())?;
        Ok(JoinHandle::new(runtime.inject(coroutine(f), plan)?))
    }

    /// The plan of a spawn on this thread's worker, and the worker.
    #[track_caller]
    pub(crate) fn here(self) -> io::Result<(Plan, &'static Worker)> {
        let plan = self.plan(Location::caller())?;
        Ok((plan, Worker::current().ok_or_else(outside)?))
    }

    /// As [`Builder::here`], for what is not `Send`: it stays with the thread's
    /// own thread-locals.
    #[track_caller]
    pub(crate) fn local(self) -> io::Result<(Plan, &'static Worker)> {
        if self.own_tls == Some(true) || Cx::running().is_some_and(Cx::has_own_tls) {
            return Err(not_send());
        }
        let (plan, worker) = self.here()?;
        let own_tls = Some(false);
        Ok((Plan { own_tls, ..plan }, worker))
    }

    #[inline]
    pub(crate) fn plan(self, location: &'static Location<'static>) -> io::Result<Plan> {
        if self.stack_size > 1 << 30 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a stack of {} bytes was asked for; the most is 1 GiB",
                    self.stack_size
                ),
            ));
        }
        if self.own_tls == Some(true) {
            crate::local::own_thread_locals()?;
        }
        Ok(Plan {
            stack: StackPlan::Dedicated(self.stack_size),
            name: self.name,
            unhooked: self.unhooked,
            own_tls: self.own_tls,
            location,
        })
    }
}

#[cold]
fn not_send() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a coroutine with thread-locals of its own is to others as a thread: what goes there or \
         comes from there must be Send, so it is spawned with spawn, and inside it spawn_local \
         and spawn_shared can't be used",
    )
}

#[cold]
fn outside() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "this thread runs no crore runtime: start one with crore::run(|| …), or spawn from \
         outside with a runtime's Handle",
    )
}

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
/// Outside a runtime, and when the worker has as many coroutines as it may.
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
