//! `Runtime`: the threads that run coroutines, from outside.

use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::runtime::dump_signal::DumpOnSignal;
use crate::runtime::handle::Handle;
use crate::runtime::threads::{SCHEDULER, WorkerThreads, run_to_end};
use crate::sched::{Config, Plan, StackPlan, Watchdog, Worker, coroutine};
use crate::shim::atomic::{AtomicBool, Ordering};
use crate::stack::overflow;
use crate::sys::cpu;
use crate::sys::report::{abort_on_unwind, die};

/// The stack of the closure that [`run`] is given: 1 MiB, of which only what
/// is touched becomes memory.
const MAIN_STACK_SIZE: usize = 1 << 20;

/// Runs `f` as a coroutine and makes the calling thread the worker that runs
/// it and all that it spawns. Returns when `f` has returned and all other
/// coroutines have ended.
///
/// # When `f` returns while others live
///
/// They are cancelled (see [`JoinHandle::cancel`](crate::JoinHandle::cancel)): their blocking calls fail
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
    pub(super) handle: Handle,
    pub(super) config: Config,
    pub(super) drain: Duration,
    pub(super) dump_on: Option<i32>,
    pub(super) running: AtomicBool,
}

impl Runtime {
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
    /// let outside = std::thread::spawn(move || handle.spawn(|| 7).join().unwrap());
    /// runtime.run(|| while !outside.is_finished() { crore::yield_now() })?;
    /// assert_eq!(outside.join().unwrap(), 7);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn run_here<F: FnOnce() -> T, T>(
        &self,
        f: F,
        location: &'static Location<'static>,
    ) -> io::Result<T> {
        let _signals = overflow::ensure_alt_stack()?;
        let workers = self.handle.workers();
        let _run = workers.restart();
        let worker = Worker::new(Arc::clone(workers), 0, &self.config)?;
        let threads = WorkerThreads::start(workers, &self.config)?;
        let _watchdog = Watchdog::start(workers, &self.config);
        let dump_on = |signal| DumpOnSignal::start(self.handle(), signal);
        let _dumps = self.dump_on.map(dump_on).transpose()?;
        // After the others, which would inherit it.
        let _pinned = self.config.pin.then(|| cpu::pin(0)).transpose()?;
        let plan = Plan {
            stack: StackPlan::Dedicated(MAIN_STACK_SIZE),
            name: Some("main".into()),
            unhooked: false,
            daemon: false,
            // `f` need not be `Send`: it stays with its thread's.
            own_tls: Some(false),
            worker: None,
            thread: None,
            location,
        };
        // `f` and what it returns may borrow from our caller: from here on we must
        // not return, nor unwind, before its coroutine has ended.
        let body = || {
            let value = f();
            if !self.drain.is_zero() {
                self.handle.drain(self.drain);
            }
            value
        };
        let run = || {
            let main = worker.spawn_local(coroutine(body), plan)?;
            run_to_end(&worker, Some(&main));
            io::Result::Ok(main)
        };
        let main = worker.enter(|| abort_on_unwind(SCHEDULER, run));
        drop(threads);
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
        self.handle.workers().close();
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

/// The main coroutine's frames were forgotten. They may own scoped threads, or
/// scopes of coroutines that do, which go on with what our caller has lent.
#[cold]
fn never_return() -> ! {
    die(format_args!(
        "the main coroutine was abandoned: what it borrowed may still be in use, so run \
         can't return and the process ends"
    ))
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
