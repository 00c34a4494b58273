//! `Runtime`: the threads that run coroutines, from outside.

use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};
use std::process::abort;

use crate::handle::JoinHandle;
use crate::sched::{
    Config, Message, Plan, Remote, SharedConfig, Spawned, StackPlan, Worker, too_many,
};
use crate::shim::{AtomicBool, Ordering};
use crate::stack::arena::ArenaConfig;
use crate::stack::overflow;
use crate::task::{self, JoinError, JoinRef, PacketRef};

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
/// a message; its memory is never reused. One that never waits at all is
/// waited for, for ever if need be. To let the others finish, join them.
///
/// # Errors
///
/// When the worker can't be set up (descriptors, address space, a nested
/// `run`), or when `f`'s coroutine was cancelled or got no stack.
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
pub struct Runtime {
    handle: Handle,
    config: Config,
    running: AtomicBool,
}

/// Settings of a [`Runtime`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct RuntimeBuilder {
    config: Config,
}

impl RuntimeBuilder {
    /// The most coroutines that may be alive at one time; one more is an error
    /// of its spawn. Default: 16 777 216, at most 134 217 728. Each costs 32
    /// bytes of memory once used, and of address space from the start.
    pub fn max_coroutines(mut self, most: u32) -> Self {
        self.config.max_coroutines = most.clamp(1, task::Slots::MOST);
        self
    }

    /// The most stacks of each size. Default: 1 048 576.
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

    /// How many stacks the shared coroutines of a worker run on, and the bytes
    /// of each. Default: 8 of 1 MiB. See [`spawn_shared`](crate::spawn_shared).
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

    /// Builds the runtime; nothing runs yet.
    ///
    /// # Errors
    ///
    /// When the kernel's pages are not 4 KiB, when a handler for stack
    /// overflows can't be installed, or when the process has 1 023 runtimes.
    pub fn build(self) -> io::Result<Runtime> {
        crate::sys::mem::check_page_size()?;
        overflow::install()?;
        overflow::set_describer(crate::sched::describe_running);
        Ok(Runtime {
            handle: Handle {
                remote: Remote::claim()?,
                max_coroutines: self.config.max_coroutines,
            },
            config: self.config,
            running: AtomicBool::new(false),
        })
    }
}

impl Runtime {
    /// The default settings, to be changed.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            config: Config {
                max_coroutines: 1 << 24,
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
        if self.running.swap(true, Ordering::Acquire) {
            return Err(io::Error::other("another thread runs this runtime"));
        }
        let _running = Reset(&self.running);
        self.run_here(f, Location::caller())
    }

    /// A handle for other threads.
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
        let worker = Worker::new(self.handle.remote, &self.config)?;
        let plan = Plan {
            stack: StackPlan::Dedicated(MAIN_STACK_SIZE),
            name: Some("main".into()),
            site,
        };
        let main = worker.enter(|| {
            // `f` and what it returns may borrow from our caller: from here on
            // we must not return, nor unwind, before its coroutine has ended.
            let guard = AbortOnUnwind;
            let main = worker.spawn(f, plan)?;
            if let Err(error) = worker.run(&main) {
                eprintln!("crore: the worker's reactor failed: {error}");
                abort();
            }
            std::mem::forget(guard);
            io::Result::Ok(main)
        });
        self.handle.remote.detach(worker.next_generation());
        drop(worker);
        // SAFETY: `run` returned, so the main task is done, and it returns `T`.
        match unsafe { main?.take::<T>() } {
            Ok(value) => Ok(value),
            Err(error) => Err(error
                .try_into_panic()
                .map_or_else(io::Error::from, |payload| resume_unwind(payload))),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for message in self.handle.remote.release() {
            if let Message::Spawn(Spawned { packet, .. }) = message {
                // SAFETY: nobody ran it: the task's side is in the message,
                // the closure in the packet.
                unsafe {
                    let packet = PacketRef::from_slot(packet).expect("a spawn has a packet");
                    packet.cancel_unstarted(JoinError::cancelled());
                }
            }
        }
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
#[derive(Clone)]
pub struct Handle {
    remote: &'static Remote,
    max_coroutines: u32,
}

impl Handle {
    /// Spawns a coroutine on the runtime. It starts when the runtime runs.
    ///
    /// If the runtime is dropped first, so is the closure, and joining gives
    /// an error that [is "cancelled"](JoinError::is_cancelled).
    ///
    /// # Panics
    ///
    /// When the runtime has ended, or has as many coroutines as it may;
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

    /// What the runtime has counted so far.
    pub fn metrics(&self) -> Metrics {
        let counters = &self.remote.counters;
        Metrics {
            spawned: counters.spawned.get(),
            ended: counters.ended.get(),
            abandoned: counters.abandoned.get(),
            resumed: counters.resumed.get(),
            turns: counters.turns.get(),
            frame_saves: counters.saves.get(),
            frame_restores: counters.restores.get(),
            frame_hits: counters.hits.get(),
            largest_frame: counters.largest_frame.get(),
            saved_bytes: counters.saved_bytes.get(),
            saved_bytes_peak: counters.saved_bytes_peak.get(),
            saved_bytes_held: counters.saved_bytes_held.get(),
        }
    }

    pub(crate) fn post_spawn<F, T>(&self, f: F, plan: Plan) -> io::Result<JoinRef>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let mut join = None;
        self.remote.post_spawn(self.max_coroutines, |addr| {
            let (packet, handle) = task::allocate(f, addr, plan.name.clone());
            join = Some(handle);
            Spawned {
                packet: packet.as_ptr(),
                plan,
            }
        })?;
        join.ok_or_else(|| too_many(self.max_coroutines))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("worker", &self.remote.index())
            .finish()
    }
}

/// What a runtime has counted. The `saved_bytes` are as of the worker's last
/// look at the kernel's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that have ended, in whatever way.
    pub ended: u64,
    /// Those among them that ignored their cancellation and were abandoned.
    pub abandoned: u64,
    /// Times that a coroutine was resumed (or started).
    pub resumed: u64,
    /// Times that a worker asked the kernel for events.
    pub turns: u64,
    /// Shared stacks: times that a coroutine's frames were copied out.
    pub frame_saves: u64,
    /// Shared stacks: times that they were copied back.
    pub frame_restores: u64,
    /// Shared stacks: resumes that found the frames still in place.
    pub frame_hits: u64,
    /// Shared stacks: bytes of the largest frames that were copied out.
    pub largest_frame: u64,
    /// Shared stacks: bytes of frames that are copied out now.
    pub saved_bytes: u64,
    /// Shared stacks: the most that this has been.
    pub saved_bytes_peak: u64,
    /// Shared stacks: memory that the pool of saved frames holds.
    pub saved_bytes_held: u64,
}

struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Ends the process if the scheduler unwinds past live coroutines.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("crore: the scheduler itself panicked; this is a bug in crore");
            abort();
        }
    }
}
