//! `RuntimeBuilder`: the settings of a runtime.

use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::driver::Epoll;
use crate::hook::{self, Status};
use crate::local::own_thread_locals;
use crate::runtime::handle::Handle;
use crate::runtime::run::Runtime;
use crate::sched::{
    Config, SharedConfig, ThreadsPlan, Workers, describe_running, label_of_spawned,
};
use crate::shim::atomic::AtomicBool;
use crate::stack::{ArenaConfig, GuardChoice, overflow, report};
use crate::sys::mem::check_page_size;
use crate::sys::report::write_stderr;
use crate::sys::signal_mask::keep_quiet;
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
    dump_on: Option<i32>,
}

impl RuntimeBuilder {
    /// How many kernel threads run coroutines: the one that calls
    /// [`Runtime::run`], and `workers - 1` that live as long as that call.
    /// Default: 1.
    ///
    /// What [`spawn`](crate::spawn) is given goes to the spawner's worker, or to one
    /// that has fewer coroutines; as long as no worker has started it, any that has
    /// nothing else to do takes it. A coroutine that has started stays on its thread.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Whether each worker's thread stays on one processor: the first worker's on the
    /// first that the thread which calls [`Runtime::run`] may use, and so on, going
    /// round. That thread may use all of them again when `run` returns. Threads that
    /// coroutines start inherit their worker's processor, as they do any mask. It pays
    /// where the machine is the server's own; beside other work the kernel places
    /// better. Default: no.
    ///
    /// Where coroutines run is another matter: [`Builder::worker`](crate::Builder::worker).
    ///
    /// # Errors
    ///
    /// `run` fails, and nothing has run, with what the kernel says to
    /// `sched_setaffinity`: where a filter of system calls forbids it, or the processor
    /// is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().workers(2).pin_workers(true).build()?;
    /// let usable = || std::thread::available_parallelism().unwrap().get();
    /// assert_eq!(runtime.run(usable)?, 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn pin_workers(mut self, yes: bool) -> Self {
        self.config.pin = yes;
        self
    }

    /// What the workers wait with, if not the kernel's event queue.
    #[cfg(any(feature = "sim", all(test, not(loom))))]
    pub(crate) fn backend(mut self, backend: Arc<dyn crate::driver::Backend>) -> Self {
        self.config.backend = backend;
        self
    }

    /// The most coroutines that may be alive at one time on each worker, with those that
    /// wait for it. What any worker may run goes to one that has room; that there is none,
    /// or none on the [chosen](crate::Builder::worker) one, is an error of the spawn. Default: 16 777 216, at most 268 435 456.
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

    /// How many unused stacks of each size keep their memory for the next coroutines,
    /// however long there are none. What is above keeps it, too, as long as it is needed
    /// now and then, so that a burst finds what the last one left; when nobody has
    /// needed it for two to four seconds it goes back to the kernel, a little at a time.
    /// Default: 4 096.
    pub fn warm_stacks(mut self, most: usize) -> Self {
        self.config.arena.keep_warm = most;
        self
    }

    /// Bytes of the guard below each stack, in whole pages, one at least and 1 GiB at
    /// most; as `pthread_attr_setguardsize` does for threads. (It may get a page more.)
    /// A coroutine that runs into it has used up its stack, which ends the process with
    /// a message. It takes address space, and no memory.
    ///
    /// Code in Rust can't step over the smallest guard; C that was compiled without
    /// `-fstack-clash-protection` can, with a frame that is larger than the guard, and
    /// then writes into another coroutine's stack. Default: 64 KiB.
    ///
    /// ```
    /// // For a C library with buffers of a megabyte in its frames.
    /// let runtime = crore::Runtime::builder().guard_size(1 << 20).build()?;
    /// assert_eq!(runtime.run(|| crore::spawn(|| 7).join().unwrap())?, 7);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn guard_size(mut self, bytes: usize) -> Self {
        self.config.arena.guard_bytes = bytes.clamp(1, 1 << 30);
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
    /// error. Those that have started may still take what they need (it is less for those
    /// that wait than for those that could run, whose frames are copied as they are).
    /// Default: no limit.
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

    /// Reports a coroutine that holds its worker for longer than `limit`, which should
    /// be some milliseconds at least: a line on standard error says which one, for how
    /// long, the system call that it waits in, if it does, and where in its code it is.
    /// At most one a second is written; [`Metrics::holds`](crate::Metrics::holds) counts
    /// them all. `None`: no report.
    ///
    /// What counts is the processor time that the worker uses without a switch, and the
    /// time that it waits in the kernel, not what a busy machine takes from it. So a
    /// report means what it says: a computation that should go to
    /// [`spawn_blocking`](crate::spawn_blocking) or [yield](crate::yield_now), or a call
    /// that blocks, as inside [`unhooked`](crate::unhooked).
    ///
    /// A thread of its own looks at the workers eight times in each `limit`, unless all
    /// of them sleep; coroutines pay nothing. To see where the coroutine is it sends
    /// `SIGURG` to the worker's thread. If the program has a handler for that, there is
    /// no backtrace; and calls that are not restarted after a signal (`nanosleep`) may
    /// fail with `EINTR` in a coroutine that is reported. Without crore's feature
    /// `symbols` the backtrace has addresses instead of names.
    ///
    /// Default: what the environment variable `CRORE_WATCHDOG` says in milliseconds (`0`
    /// for none); where it is not set, 40 ms with debug assertions, else none. The idea
    /// is that of Go's `sysmon` and of Tokio's blocking detectors.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let limit = Duration::from_millis(10);
    /// let runtime = crore::Runtime::builder().watchdog(Some(limit)).build()?;
    /// runtime.run(|| {
    ///     let begun = Instant::now();
    ///     while crore::Handle::current().unwrap().metrics().holds == 0 {
    ///         // Computes, and never yields.
    ///         assert!(begun.elapsed() < Duration::from_secs(60));
    ///     }
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn watchdog(mut self, limit: Option<Duration>) -> Self {
        self.config.watchdog = limit.map(|limit| limit.max(Duration::from_millis(1)));
        self
    }

    /// Measures how much of their own stacks coroutines use, by the place where they are
    /// spawned: for [`Handle::stack_use`](crate::Handle::stack_use). No stack keeps its
    /// memory for the next then, and none gives any back while its coroutine waits, so
    /// a spawn costs some microseconds more. Default: no.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().measure_stacks(true).build()?;
    /// runtime.run(|| crore::spawn(|| println!("hello")).join().unwrap())?;
    /// for place in runtime.handle().stack_use() {
    ///     println!("{place}"); // src/main.rs:2:18: 1 of 64 KiB each, …
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn measure_stacks(mut self, yes: bool) -> Self {
        self.config.arena.measured = yes;
        self
    }

    /// Writes a [dump](crate::Handle::dump) to standard error whenever this signal comes
    /// while the runtime runs, as Go and Java do on `SIGQUIT` (Ctrl-\\): of all coroutines,
    /// also of a worker that one of them does not give back. The program goes on.
    ///
    /// A thread of its own waits for the signal, as [`signal::wait`](crate::signal::wait)
    /// does: a handler that the program has is called after it, the default is not. If
    /// several runtimes of a process run, each writes its own. [`Runtime::run`] fails with
    /// the errors of that function.
    ///
    /// ```no_run
    /// let builder = crore::Runtime::builder().dump_on_signal(crore::signal::SIGQUIT);
    /// builder.build()?.run(|| {
    ///     // … the server
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn dump_on_signal(mut self, signal: i32) -> Self {
        self.dump_on = Some(signal);
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

    /// Whether a thread that a coroutine starts is a coroutine: `std::thread::spawn` and
    /// `pthread_create` of any crate or library, with [thread-locals of its
    /// own](crate::Builder::own_thread_locals), so that to code it is a thread: joined,
    /// detached, named and ended as one. Default: no.
    ///
    /// It pays for many threads that mostly wait. Two that compute share a worker, one
    /// after the other, and one that waits for another by spinning without a system call
    /// keeps its worker from everybody else.
    ///
    /// Threads stay the kernel's where they are started by plain threads, inside
    /// [`unhooked`](crate::unhooked()), or with a stack of the program's;
    /// [`keep_real`](Self::keep_real) names others. Affinity and priority are hints, which
    /// are not taken; `gettid` is a number that the kernel does not know. A thread that has not ended when the
    /// closure of [`Runtime::run`] returns is cancelled, as any coroutine. That closure itself
    /// keeps its caller's thread-locals, so `std::thread::park` in it, and with it std's
    /// channels and scopes, stop its worker: what uses them is a thread, too, as here.
    ///
    /// ```
    /// if crore::local::own_thread_locals().is_err() {
    ///     return Ok(()); // not here
    /// }
    /// # #[cfg(not(feature = "futex"))] return Ok(());
    /// let runtime = crore::Runtime::builder().threads_as_coroutines(true).build()?;
    /// let sum: u32 = runtime.run(|| {
    ///     let main = std::thread::spawn(|| {
    ///         let threads: Vec<_> = (0..1_000).map(|i| std::thread::spawn(move || i)).collect();
    ///         threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    ///     });
    ///     main.join().unwrap()
    /// })?;
    /// assert_eq!(sum, 499_500);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn threads_as_coroutines(mut self, yes: bool) -> Self {
        self.config.threads.enabled = yes;
        self
    }

    /// Bytes of the stack of a [thread that is a coroutine](Self::threads_as_coroutines),
    /// if whoever starts it does not say how many it wants. Default: as libc's
    /// (`ulimit -s`, mostly 8 MiB), of which only what is touched becomes memory.
    ///
    /// ```
    /// let builder = crore::Runtime::builder().threads_as_coroutines(true);
    /// let _ = builder.thread_stack_size(256 << 10);
    /// ```
    pub fn thread_stack_size(mut self, bytes: usize) -> Self {
        self.config.threads.stack = Some(bytes);
        self
    }

    /// Which threads stay the kernel's although
    /// [others are coroutines](Self::threads_as_coroutines): those whose start routine,
    /// the address of a function, `keep` is true of. It is called in the coroutine that
    /// starts the thread, and must not panic.
    ///
    /// ```
    /// extern "C" fn spins() {}
    /// let spins = spins as *const () as usize;
    /// let builder = crore::Runtime::builder().threads_as_coroutines(true);
    /// let _ = builder.keep_real(move |start| start.addr() == spins);
    /// ```
    pub fn keep_real(
        mut self,
        keep: impl Fn(*const std::ffi::c_void) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.threads.keep_real = Some(Arc::new(keep));
        self
    }

    /// `learn` is told of each thread that the watchdog finds in a system call of its own that
    /// waits for others: the pattern by which `crore run --real` keeps it the kernel's.
    #[doc(hidden)]
    pub fn __learn_real(mut self, learn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.config.threads.learn = Some(Arc::new(learn));
        self
    }

    /// How long the others have to end on their own when the closure of
    /// [`Runtime::run`] has returned; then they are cancelled. It is over when the last
    /// has ended, [daemons](crate::Builder::daemon) not counted. If the closure panicked
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
    /// The first one of a process puts a panic hook before the one that there is: a
    /// coroutine that panics is named on standard error, since the message that follows
    /// names its worker's thread.
    ///
    /// # Errors
    ///
    /// When the kernel's pages are not 4 KiB, when a handler for stack
    /// overflows can't be installed, or when the process has 1 023 workers;
    /// `Unsupported` where there are no own thread-locals and they, or [threads as
    /// coroutines](Self::threads_as_coroutines), were asked for, and where calls of libc [do not reach](crate::hook::Status::NotBound) the
    /// hooks: in a library that was loaded at run time, and is not linked for it.
    pub fn build(self) -> io::Result<Runtime> {
        check_page_size()?;
        if let why @ Status::NotBound { .. } = hook::status() {
            let text = format!("{why}; or build crore without its feature `hook`");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        #[cfg(feature = "hook")]
        hook::report_interposers();
        if self.config.own_tls || self.config.threads.enabled {
            own_thread_locals()?;
        }
        if self.config.threads.enabled && !cfg!(feature = "futex") {
            let text = "threads can be coroutines only with crore's feature `futex`";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if self.config.threads.enabled {
            keep_quiet();
        }
        overflow::install()?;
        name_panics();
        report::set_describer(describe_running);
        Ok(Runtime {
            handle: Handle::new(Workers::new(self.workers, self.config.max_coroutines)?),
            config: self.config,
            drain: self.drain,
            dump_on: self.dump_on,
            running: AtomicBool::new(false),
        })
    }
}

/// Has panics of coroutines say which one it is: to the thread's name, which comes next,
/// it is the worker.
fn name_panics() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(who) = label_of_spawned() {
                write_stderr(format!("crore: {who}, panics:\n").as_bytes());
            }
            before(info);
        }));
    });
}

/// What the environment says; where it says nothing, 40 ms in debug builds: a
/// computation of 50 ms is seen then.
fn default_watchdog() -> Option<Duration> {
    let said = std::env::var("CRORE_WATCHDOG").ok();
    let unsaid = if cfg!(debug_assertions) { 40 } else { 0 };
    let millis = said.and_then(|text| text.parse().ok()).unwrap_or(unsaid);
    (millis > 0).then(|| Duration::from_millis(millis))
}

impl Runtime {
    /// The default settings, to be changed.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            workers: 1,
            drain: Duration::ZERO,
            dump_on: None,
            config: Config {
                backend: Arc::new(Epoll),
                max_coroutines: 1 << 24,
                pin: false,
                own_tls: false,
                threads: ThreadsPlan::default(),
                watchdog: default_watchdog(),
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
