//! `Builder`: how one coroutine is spawned.

use std::io;
use std::panic::Location;
use std::sync::Arc;

use crate::runtime::handle::Handle;
use crate::runtime::join_handle::JoinHandle;
use crate::sched::{CurrentTask, Plan, StackPlan, Worker, coroutine, shared_coroutine};

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
///         .name("greeter".into())
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
    daemon: bool,
    own_tls: Option<bool>,
    worker: Option<usize>,
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
            daemon: false,
            own_tls: None,
            worker: None,
        }
    }

    /// Names the coroutine, for [`Coroutine::name`](crate::Coroutine::name) and
    /// for messages about it.
    ///
    /// ```
    /// use crore as thread;
    /// # crore::run(|| {
    /// let named = thread::Builder::new().name("worker".into()).spawn(|| ())?;
    /// assert_eq!(named.thread().name(), Some("worker"));
    /// # std::io::Result::Ok(())
    /// # })??;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn name(mut self, name: String) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The size of the coroutine's stack in bytes, rounded up to whole pages
    /// and to 32 KiB at least (40 KiB on processors whose registers take 12 KiB of a
    /// signal handler's stack). What is not touched costs address space only.
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

    /// Whether nobody waits for the coroutine's end: a [drain](crate::RuntimeBuilder::drain)
    /// and the first grace of a [shutdown](crate::Handle::shutdown) are over when only
    /// daemons are left, which are cancelled then. For what serves the others and never
    /// ends by itself: acceptors, metrics, timers. Default: no.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let begun = Instant::now();
    /// let runtime = crore::Runtime::builder().drain(Duration::from_secs(3600)).build()?;
    /// runtime.run(|| {
    ///     crore::Builder::new().daemon(true).spawn(|| loop {
    ///         crore::sleep(Duration::from_secs(60)); // counts something, say
    ///     })?;
    ///     crore::spawn(|| crore::sleep(Duration::from_millis(5))); // this one is waited for
    ///     std::io::Result::Ok(())
    /// })??;
    /// assert!(begun.elapsed() < Duration::from_secs(3600));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn daemon(mut self, yes: bool) -> Self {
        self.daemon = yes;
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

    /// The worker that is to run the coroutine, counted from 0: the thread that
    /// calls [`Runtime::run`](crate::Runtime::run) is the first. Default: any, by
    /// how many coroutines each has.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().workers(2).build()?;
    /// runtime.run(|| {
    ///     let second = crore::Builder::new().worker(1).spawn(|| std::thread::current().id())?;
    ///     assert_ne!(second.join().unwrap(), std::thread::current().id());
    ///     assert!(crore::Builder::new().worker(2).spawn(|| ()).is_err()); // there is none
    ///     std::io::Result::Ok(())
    /// })?
    /// # ;std::io::Result::Ok(())
    /// ```
    pub fn worker(mut self, position: usize) -> Self {
        self.worker = Some(position);
        self
    }

    /// Spawns a coroutine on this thread's runtime. With several workers, any
    /// of them may run it, unless one was [chosen](Self::worker).
    ///
    /// # Errors
    ///
    /// `Unsupported` where there are no [own thread-locals](Self::own_thread_locals)
    /// and they were asked for;
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) when the [chosen](Self::worker)
    /// worker, or every one, has as many coroutines as it
    /// [may](crate::RuntimeBuilder::max_coroutines); `NotConnected` outside
    /// a runtime; `InvalidInput` for a stack size over 1 GiB and for a worker that
    /// there is not. That no memory
    /// is left for a stack shows only when the coroutine first runs: then the
    /// [`JoinError`](crate::JoinError) says so.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let deep = crore::Builder::new().name("deep".into()).stack_size(1 << 20).spawn(|| 7)?;
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
        let worker = self.here()?;
        Ok(JoinHandle::new(worker.spawn(coroutine(f), self.plan())?))
    }

    /// As [`Builder::spawn`], for what borrows, after
    /// [`std::thread::Builder::spawn_unchecked`]. [`scope`](crate::scope()) does the
    /// same safely.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`].
    ///
    /// # Safety
    ///
    /// - What the closure and its result borrow outlives the coroutine: join it first,
    ///   also when the spawner unwinds. A coroutine that is cancelled and ignores it is
    ///   abandoned in the end; it never ends then, although joining it returns.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let text = String::from("lent");
    ///     // SAFETY: joined before `text` ends, and nothing unwinds in between.
    ///     let length = unsafe { crore::Builder::new().spawn_unchecked(|| text.len()) };
    ///     assert_eq!(length.unwrap().join().unwrap(), 4);
    /// }).unwrap();
    /// ```
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let worker = self.here()?;
        Ok(JoinHandle::new(worker.spawn(coroutine(f), self.plan())?))
    }

    /// As [`Builder::spawn`], for what must stay on this thread.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`]. `InvalidInput` with another [worker](Self::worker)
    /// than this, with [own thread-locals](Self::own_thread_locals), and inside a coroutine that has
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
    /// The contract of [`spawn_shared`](crate::spawn_shared()).
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
    /// let named = crore::Builder::new().name("guest".into()).spawn_on(&handle, || 7)?; // waits for `run`
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
        self.check()?;
        Ok(JoinHandle::new(runtime.inject(coroutine(f), self.plan())?))
    }

    /// This thread's worker, for a spawn on it.
    pub(crate) fn here(&self) -> io::Result<&'static Worker> {
        self.check()?;
        let worker = Worker::current().ok_or_else(outside)?;
        if let Some(position) = self.worker {
            worker.workers().check(position)?;
        }
        Ok(worker)
    }

    /// The plan and the worker of what is not `Send`: it stays on this thread, and with
    /// the thread's own thread-locals.
    #[track_caller]
    pub(crate) fn local(self) -> io::Result<(Plan, &'static Worker)> {
        if self.own_tls == Some(true)
            || CurrentTask::running().is_some_and(CurrentTask::has_own_tls)
        {
            return Err(not_send());
        }
        let worker = self.here()?;
        if self.worker.is_some_and(|other| other != worker.position()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "what may not be Send stays on the worker that spawns it; spawn what goes to \
                 another one with spawn",
            ));
        }
        let own_tls = Some(false);
        let plan = self.plan();
        Ok((Plan { own_tls, ..plan }, worker))
    }

    /// Whether it can be done at all.
    #[inline]
    pub(crate) fn check(&self) -> io::Result<()> {
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
        Ok(())
    }

    /// The plan of a spawn by the caller, after [`Builder::check`].
    #[inline]
    #[track_caller]
    pub(crate) fn plan(self) -> Plan {
        Plan {
            stack: StackPlan::Dedicated(self.stack_size),
            name: self.name,
            unhooked: self.unhooked,
            daemon: self.daemon,
            own_tls: self.own_tls,
            worker: self.worker,
            thread: None,
            location: Location::caller(),
        }
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
