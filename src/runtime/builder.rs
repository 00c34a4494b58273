//! `RuntimeBuilder`: the settings of a runtime.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::Epoll;
use crate::local::own_thread_locals;
use crate::runtime::handle::Handle;
use crate::runtime::run::Runtime;
use crate::sched::{Config, SharedConfig, Workers, describe_running};
use crate::shim::atomic::AtomicBool;
use crate::stack::{ArenaConfig, GuardChoice, overflow, report};
use crate::sys::mem::check_page_size;
use crate::task::Addr;

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
    /// was given and no worker has started yet is taken by any worker that has
    /// nothing else to do.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// What the workers wait with, if not the kernel's event queue.
    #[cfg(test)]
    pub(crate) fn backend(mut self, backend: Arc<dyn crate::driver::Backend>) -> Self {
        self.config.backend = backend;
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
    /// shared coroutine gets a stack of its own, which is inaccessible while the
    /// coroutine is parked. Another coroutine or another thread that touches it
    /// then ends the process with a message that names both and the address. (A system call that is handed such an address fails with
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
        self.config.own_tls = yes;
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
        check_page_size()?;
        if self.config.own_tls {
            own_thread_locals()?;
        }
        overflow::install()?;
        report::set_describer(describe_running);
        Ok(Runtime {
            handle: Handle::new(Workers::new(self.workers)?, self.config.max_coroutines),
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
                own_tls: false,
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
}
