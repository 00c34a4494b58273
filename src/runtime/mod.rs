//! `Runtime`: the threads that run coroutines, from outside.

pub(crate) mod info;
pub(crate) mod join_handle;
pub(crate) mod metrics;
pub(crate) mod shutdown;
pub(crate) mod spawn;
pub(crate) mod spawn_future;
mod threads;

use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::driver::Epoll;
use crate::runtime::join_handle::JoinHandle;
use crate::runtime::metrics::Metrics;
use crate::runtime::threads::{AbortOnUnwind, Crew, run_to_end};
use crate::sched::{
    Config, Plan, Pool, SharedConfig, StackPlan, Unstarted, Worker, coroutine, too_many,
};
use crate::shim::atomic::{AtomicBool, Ordering};
use crate::stack::GuardChoice;
use crate::stack::{ArenaConfig, overflow, report};
use crate::task::{Addr, JoinRef, Work};
use crate::util::report;

/// The stack of the closure that [`run`] is given: 1 MiB, of which only what
/// is touched becomes memory.
const MAIN_STACK_SIZE: usize = 1 << 20;

/// Runs `f` as a coroutine and makes the calling thread the worker that runs
/// it and all that it spawns. Returns when `f` has returned and all other
/// coroutines have ended.
///
/// # When `f` returns while others live
///
/// They are cancelled (see [`JoinHandle::cancel`]): their blocking calls fail
/// with `ECANCELED`, crore's own waits unwind them, and `run` waits until the
/// last has ended. One that ignores ten thousand such errors is abandoned with
/// a message; its memory is never reused. (If that becomes of `f`'s own coroutine
/// the process aborts: others may still use what `f` borrowed.) One that never
/// waits at all is waited for, for ever if need be. To let the others finish, join them.
///
/// One that is runnable at that moment may get one more turn before it hears
/// of it, so one that was spawned but never ran may start, or not.
///
/// # Errors
///
/// When the worker can't be set up (descriptors, address space, a nested
/// `run`, a destructor that calls it while unwinding), or when `f`'s coroutine was cancelled or got no stack.
///
/// # Panics
///
/// If `f` panics, with its payload, after all others have ended.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// crore::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let address = listener.local_addr()?;
///     # #[cfg(not(feature = "hook"))] return Ok(());
///     crore::spawn(move || {
///         let (mut peer, _) = listener.accept().unwrap(); // parks, the thread goes on
///         let mut word = [0; 5];
///         peer.read_exact(&mut word).unwrap();
///         peer.write_all(&word).unwrap();
///     });
///     let mut stream = TcpStream::connect(address)?;
///     stream.write_all(b"hello")?;
///     let mut word = [0; 5];
///     stream.read_exact(&mut word)?;
///     assert_eq!(&word, b"hello");
///     Ok::<(), std::io::Error>(())
/// })??;
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn run<F: FnOnce() -> T, T>(f: F) -> io::Result<T> {
    Runtime::builder().build()?.run(f)
}

/// A runtime with settings of its own; see [`run`] for what running means.
///
/// ```
/// let runtime = crore::Runtime::builder().workers(2).build()?;
/// let sum = runtime.run(|| {
///     let parts: Vec<_> = (0..4).map(|i| crore::spawn(move || i)).collect();
///     parts.into_iter().map(|part| part.join().unwrap()).sum::<i32>()
/// })?;
/// assert_eq!(sum, 6);
/// # std::io::Result::Ok(())
/// ```
pub struct Runtime {
    handle: Handle,
    config: Config,
    drain: Duration,
    running: AtomicBool,
}

/// Settings of a [`Runtime`].
///
/// ```
/// let runtime = crore::Runtime::builder()
///     .workers(2) // threads that run coroutines, `run`'s own included
///     .max_coroutines(10_000)
///     .build()?;
/// assert!(runtime.run(|| crore::spawn(|| true).join().unwrap())?);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct RuntimeBuilder {
    workers: usize,
    config: Config,
    drain: Duration,
}

impl RuntimeBuilder {
    /// How many kernel threads run coroutines: the one that calls
    /// [`Runtime::run`], and `workers - 1` that live as long as that call.
    /// Default: 1.
    ///
    /// A coroutine that has started stays on its thread. What [`spawn`](crate::spawn)
    /// was given and nobody has started yet is taken by any worker that has
    /// nothing else to do.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The most coroutines that may be alive at one time on each worker; one
    /// more is an error of its spawn. Default: 16 777 216, at most 268 435 456.
    /// Each costs 32 bytes of memory once used, and of address space from the
    /// start.
    ///
    /// # Examples
    ///
    /// A server that would rather let its clients wait than turn them away
    /// accepts only when there is room; the limits of the runtime are the
    /// second line. The same goes for memory: so many connections need so many
    /// stacks ([`max_stacks`](Self::max_stacks)) or saved frames
    /// ([`max_saved_bytes`](Self::max_saved_bytes)).
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use crore::sync::Semaphore;
    ///
    /// static ROOM: Semaphore = Semaphore::new(1_000);
    ///
    /// fn serve(listener: TcpListener) -> std::io::Result<()> {
    ///     loop {
    ///         let place = ROOM.acquire(1).expect("never closed"); // waits for room
    ///         let (stream, _) = listener.accept()?;
    ///         crore::spawn(move || {
    ///             let _place = place; // free again when the connection ends
    ///             drop(stream);
    ///         });
    ///     }
    /// }
    ///
    /// let runtime = crore::Runtime::builder().max_coroutines(1_100).build()?;
    /// runtime.run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ///     # let _ = serve as fn(TcpListener) -> _;
    ///     # #[cfg(feature = "hook")] {
    ///     let address = listener.local_addr().unwrap();
    ///     let server = crore::spawn(move || serve(listener));
    ///     for _ in 0..3 {
    ///         std::net::TcpStream::connect(address).unwrap();
    ///     }
    ///     server.cancel();
    ///     # }
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn max_coroutines(mut self, most: u32) -> Self {
        self.config.max_coroutines = most.clamp(1, Addr::MAX_SLOTS);
        self
    }

    /// The most stacks of each size, on each worker; with their size, the most
    /// memory that they may take. Beyond it no further coroutine starts: joining
    /// it gives an error. Default: 1 048 576.
    pub fn max_stacks(mut self, most: usize) -> Self {
        self.config.arena.max_stacks = most.max(1);
        self
    }

    /// How many unused stacks of each size keep their memory for the next
    /// coroutine; what is above goes back to the kernel. Default: 4 096.
    pub fn warm_stacks(mut self, most: usize) -> Self {
        self.config.arena.keep_warm = most;
        self
    }

    /// Makes the stacks' guard pages with `mprotect` even where the kernel has
    /// the cheaper `MADV_GUARD_INSTALL` (Linux 6.13). Each such page splits a
    /// memory mapping, so `vm.max_map_count` then limits the stacks to about
    /// half its value; code that reads `/proc/PID/maps` sees the guards.
    /// Default: only where there is no other way.
    pub fn mprotect_guards(mut self, always: bool) -> Self {
        self.config.arena.guard = if always {
            GuardChoice::Mprotect
        } else {
            GuardChoice::Auto
        };
        self
    }

    /// How many stacks the shared coroutines of a worker run on, and the bytes
    /// of each. Default: 8 of 1 MiB. See [`spawn_shared`](crate::spawn_shared).
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().shared_stacks(4, 256 << 10).build()?;
    /// let seven = runtime.run(|| {
    ///     // SAFETY: nothing outside points into its frames.
    ///     unsafe { crore::spawn_shared(|| 7) }.join().unwrap()
    /// })?;
    /// assert_eq!(seven, 7);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shared_stacks(mut self, count: u32, bytes: usize) -> Self {
        self.config.shared.stacks = count.clamp(1, 1 << 16);
        self.config.shared.bytes = bytes;
        self
    }

    /// The most bytes that the saved frames of parked shared coroutines may
    /// take. Above it no further shared coroutine starts: joining it gives an
    /// error. Those that have started may still take what they need. Default:
    /// no limit.
    pub fn max_saved_bytes(mut self, most: u64) -> Self {
        self.config.shared.max_saved_bytes = most;
        self
    }

    /// Checks the contract of [`spawn_shared`](crate::spawn_shared): each
    /// shared coroutine gets a stack of its own, which is closed while the
    /// coroutine is parked. Whoever touches it then, another coroutine or
    /// another thread, ends the process with a message that names both and the
    /// address. (A system call that is handed such an address fails with
    /// `EFAULT`.)
    ///
    /// For tests: a switch takes 10 µs then, a coroutine 8 KiB and up, and about
    /// 32 000 parked ones can be checked at a time (`vm.max_map_count`).
    /// Default: whether the environment variable `CRORE_CHECK_SHARED` is set
    /// to anything but `0`.
    pub fn check_shared(mut self, yes: bool) -> Self {
        self.config.shared.check = yes;
        self
    }

    /// Whether coroutines have [thread-locals of their
    /// own](crate::Builder::own_thread_locals), unless their builder says
    /// otherwise. The main coroutine, and those spawned with `spawn_local` and
    /// `spawn_shared`, have the thread's. Default: no.
    pub fn own_thread_locals(mut self, yes: bool) -> Self {
        self.config.own_locals = yes;
        self
    }

    /// How long the others have to end on their own when the closure of
    /// [`Runtime::run`] has returned; then they are cancelled. If it panicked
    /// they are cancelled at once. Default: not at all.
    ///
    /// # Examples
    ///
    /// A server that has stopped accepting lets its connections end:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = crore::Runtime::builder().drain(Duration::from_secs(10)).build()?;
    /// let connection = runtime.run(|| crore::spawn(|| {
    ///     crore::sleep(Duration::from_millis(5));
    ///     "said goodbye"
    /// }))?;
    /// assert_eq!(connection.join().unwrap(), "said goodbye");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn drain(mut self, grace: Duration) -> Self {
        self.drain = grace;
        self
    }

    /// Builds the runtime; nothing runs yet.
    ///
    /// # Errors
    ///
    /// When the kernel's pages are not 4 KiB, when a handler for stack
    /// overflows can't be installed, or when the process has 1 023 workers;
    /// `Unsupported` where there are no own thread-locals and they were asked
    /// for.
    pub fn build(self) -> io::Result<Runtime> {
        crate::sys::mem::check_page_size()?;
        if self.config.own_locals {
            crate::local::own_thread_locals()?;
        }
        overflow::install()?;
        report::set_describer(crate::sched::describe_running);
        Ok(Runtime {
            handle: Handle {
                pool: Arc::new(Pool::new(self.workers)?),
                max_coroutines: self.config.max_coroutines,
            },
            config: self.config,
            drain: self.drain,
            running: AtomicBool::new(false),
        })
    }
}

impl Runtime {
    /// The default settings, to be changed.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            workers: 1,
            drain: Duration::ZERO,
            config: Config {
                backend: Arc::new(Epoll),
                max_coroutines: 1 << 24,
                own_locals: false,
                arena: ArenaConfig::default(),
                shared: SharedConfig {
                    stacks: 8,
                    bytes: 1 << 20,
                    max_saved_bytes: u64::MAX,
                    check: std::env::var_os("CRORE_CHECK_SHARED")
                        .is_some_and(|value| !value.is_empty() && value != "0"),
                },
            },
        }
    }

    /// As [`run`](crate::run()), with this runtime's settings. May be called
    /// again after it has returned, on any thread, by one thread at a time.
    ///
    /// # Errors
    ///
    /// As [`run`](crate::run()); also while another thread runs it.
    #[track_caller]
    pub fn run<F: FnOnce() -> T, T>(&self, f: F) -> io::Result<T> {
        if Worker::current().is_some() {
            return Err(io::Error::other(
                "this thread already runs a crore runtime: spawn a coroutine instead of nesting run",
            ));
        }
        if thread::panicking() {
            return Err(io::Error::other(
                "this thread unwinds from a panic: coroutines can't park then, so none is started",
            ));
        }
        if self.running.swap(true, Ordering::Acquire) {
            return Err(io::Error::other("another thread runs this runtime"));
        }
        let _running = Reset(&self.running);
        self.run_here(f, Location::caller())
    }

    /// A handle for other threads.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().build()?;
    /// let handle = runtime.handle();
    /// let from_outside = std::thread::spawn(move || handle.spawn(|| 7).join().unwrap());
    /// runtime.run(|| crore::sleep(std::time::Duration::from_millis(50)))?;
    /// assert_eq!(from_outside.join().unwrap(), 7);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What the runtime has counted so far.
    pub fn metrics(&self) -> Metrics {
        self.handle.metrics()
    }

    fn run_here<F: FnOnce() -> T, T>(
        &self,
        f: F,
        site: &'static Location<'static>,
    ) -> io::Result<T> {
        let _signals = overflow::ensure_alt_stack()?;
        let pool = &self.handle.pool;
        let _run = pool.restart();
        let worker = Worker::new(Arc::clone(pool), 0, &self.config)?;
        let crew = Crew::start(pool, &self.config)?;
        let plan = Plan {
            stack: StackPlan::Dedicated(MAIN_STACK_SIZE),
            name: Some("main".into()),
            unhooked: false,
            // `f` need not be `Send`: it stays with its thread's.
            own_locals: Some(false),
            site,
        };
        let main = worker.enter(|| {
            // `f` and what it returns may borrow from our caller: from here on
            // we must not return, nor unwind, before its coroutine has ended.
            let guard = AbortOnUnwind;
            let body = || {
                let value = f();
                if !self.drain.is_zero() {
                    self.handle.drain(self.drain);
                }
                value
            };
            let main = worker.spawn_local(coroutine(body), plan)?;
            run_to_end(&worker, Some(&main));
            std::mem::forget(guard);
            io::Result::Ok(main)
        });
        drop(crew);
        drop(worker);
        // SAFETY: the worker has ended, so the main task is done, and it
        // returns `T`.
        match unsafe { main?.take::<T>() } {
            Ok(value) => Ok(value),
            Err(error) if error.is_abandoned() => never_return(),
            Err(error) => match error.try_into_panic() {
                Ok(payload) => resume_unwind(payload),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.handle.pool.close();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("config", &self.config)
            .field("metrics", &self.metrics())
            .finish()
    }
}

/// Reaches a runtime from any thread.
///
/// ```
/// crore::run(|| {
///     let handle = crore::Handle::current().unwrap();
///     let thread = std::thread::spawn(move || handle.spawn(|| 7)); // runs here, not there
///     crore::sleep(std::time::Duration::from_millis(20));
///     assert_eq!(thread.join().unwrap().join().unwrap(), 7);
/// }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    pool: Arc<Pool>,
    max_coroutines: u32,
}

impl Handle {
    /// The handle of the runtime that a worker belongs to.
    pub(crate) fn of(worker: &Worker) -> Self {
        Self {
            pool: Arc::clone(worker.pool()),
            max_coroutines: worker.max_coroutines(),
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

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
        crate::Builder::new()
            .spawn_on(self, f)
            .unwrap_or_else(|error| panic!("failed to spawn: {error}"))
    }

    /// What the runtime has counted so far; all zero once it has been dropped.
    pub fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        self.pool.counters().for_each(|counters| sum.add(counters));
        sum
    }

    /// As [`Handle::metrics`], for each worker.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().workers(2).build()?;
    /// runtime.run(|| {
    ///     let each = crore::Handle::current().unwrap().worker_metrics();
    ///     assert_eq!(each.len(), 2);
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn worker_metrics(&self) -> Vec<Metrics> {
        let one = |counters| {
            let mut one = Metrics::default();
            one.add(counters);
            one
        };
        self.pool.counters().map(one).collect()
    }

    pub(crate) fn place<W>(&self, work: W, plan: Plan) -> io::Result<JoinRef>
    where
        W: Work<Output: Send> + Send,
    {
        let room = u64::from(self.max_coroutines);
        if self
            .pool
            .remotes()
            .iter()
            .all(|remote| remote.load() >= room)
        {
            return Err(too_many(self.max_coroutines));
        }
        let (packet, join) = work.packet(None, plan.name.clone());
        // SAFETY: a new packet's task side; work and output are `Send`.
        let task = unsafe { Unstarted::new(packet.as_ptr(), plan) };
        match self.pool.place(task) {
            Ok(()) => Ok(join),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the runtime has ended",
            )),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.pool.remotes().len())
            .finish()
    }
}

/// The main coroutine's frames were forgotten. They may own scoped threads, or
/// scopes of coroutines that do, which go on with what our caller has lent.
#[cold]
fn never_return() -> ! {
    report(format_args!(
        "the main coroutine was abandoned: what it borrowed may still be in use, so run \
         can't return and the process ends"
    ));
    std::process::abort()
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
