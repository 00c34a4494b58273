//! Deterministic simulation of unmodified blocking code: machines, a network that fails,
//! and a clock, in one thread, of which a seed decides all that chance decides otherwise.
//! The same seed gives the same history.
//!
//! Each machine is a closure of plain `std::net`, `std::thread::sleep`, `std::time` and
//! their like. The time jumps to what happens next, so an hour takes as long as what
//! happens in it does. After FoundationDB and TigerBeetle, who test their databases so.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use std::thread::sleep;
//! use std::time::{Duration, Instant};
//!
//! use crore::sim::Sim;
//!
//! let report = Sim::new(7)
//!     .node("server", || {
//!         let listener = TcpListener::bind("0.0.0.0:80").unwrap();
//!         for stream in listener.incoming() {
//!             let mut stream = stream.unwrap();
//!             sleep(Duration::from_secs(600)); // takes no time
//!             stream.write_all(b"hello").unwrap();
//!         }
//!     })
//!     .client("client", || {
//!         let began = Instant::now();
//!         let mut stream = TcpStream::connect("server:80").unwrap();
//!         let mut word = String::new();
//!         stream.read_to_string(&mut word).unwrap();
//!         assert_eq!(word, "hello");
//!         assert!(began.elapsed() > Duration::from_secs(600));
//!     })
//!     .run();
//! assert!(report.elapsed() > Duration::from_secs(600));
//! ```
//!
//! # What is the seed's
//!
//! | what | how |
//! |---|---|
//! | time | `clock_gettime` and its like, all timeouts and sleeps; a look at the clock takes a microsecond, so does each turn; a time of day by machine ([`set_clock`]) |
//! | who runs next | [`Schedule`]; with [`Sim::preempt`] others may run before any hooked call |
//! | threads | those of `std::thread` and C are coroutines (x86-64, glibc), and so is what [`spawn_blocking`](crate::spawn_blocking) runs |
//! | chance | `getrandom`, `getentropy`, `/dev/random`, `/dev/urandom`: `HashMap`'s seeds, identifiers, nonces |
//! | names | `gethostname` and `uname` say the machine's |
//! | the network | TCP and UDP between machines that know each other's names: latency, loss, duplicates, order, bandwidth ([`Link`]), cuts, resets |
//! | calls | reads and writes of a part, interruptions, readiness that is none, no descriptors left ([`Faults`], [`limit_descriptors`]) |
//! | disks | what a crash leaves of what was not synced ([`Sim::disks`]); errors, syncs that lose what was written, no room, short writes, slow syncs ([`Faults`], [`limit_disk`]) |
//! | machines | crash without a destructor, start again ([`crash`], [`restart`], [`Faults`]) |
//!
//! # What is not
//!
//! Files, pipes, Unix sockets and child processes are the kernel's, and what is in them takes
//! no time of the simulation's ([`Sim::disks`] forget what was not synced at a crash, and may
//! be slow). Faults of calls are for sockets of the network above and for files of those disks.
//! Epolls and `eventfd`s of a machine that crashes stay open. Statics are the process's. Threads that were there
//! before are outside: a lock that a machine shares with one, or with another machine, is
//! not simulated; a machine that crashes with it takes it along. Addresses differ
//! from run to run, and so does what is ordered by them.
//!
//! A program may also make a system call without libc, or by a function of libc's that crore
//! does not hook, or start a thread of the kernel's: that sees the real world. Such calls
//! are found and named, with their machine and a backtrace ([`Escapes`]; Linux 5.11,
//! x86-64), but for those that tell of nothing that a simulation decides: an allocator's, a
//! loader's, signal masks, what files are there and what is in them. What is not found: what threads
//! that were started outside do; `rdtsc` and the kernel's page of clocks (vDSO), which are no
//! system calls. (libc's functions that read that page, `clock_gettime`, `gettimeofday`,
//! `time`, are hooked by their names; who calls the page directly, as Go does, reads real time.)
//!
//! [`check_repeats`] finds what escapes: it runs a seed twice and shows the first event that
//! differs.
//!
//! # When a seed fails
//!
//! [`check`] says which, leaves out the faults that are not needed for it, and runs it once more
//! in the test's own process, where a debugger sees it. It prints what to set to have
//! only that run again: `CRORE_SIM_SEED=17 CRORE_SIM_FAULTS=2,5 cargo test …`. With
//! `CRORE_SIM_TRACE=1` a simulation that fails prints what happened:
//!
//! ```text
//! t=0.000005 s client #3: connect client:32768 → server:80 → Operation now in progress (os error 115)
//! t=0.001259 s server #2: accept server:80 (listening) → 0
//! t=0.002671 s client #3: connect client:32768 → server:80 → 0
//! t=1.005436 s fault: server crashes
//! ```
//!
//! (`#3` is the third coroutine of the simulation; of calls that give a descriptor the
//! result is 0.)

mod calls;
mod catching;
mod caught;
mod chance;
mod check;
mod control;
mod descriptors;
mod disk_write;
mod disks;
mod edges;
mod escapes;
mod failing;
mod failing_disks;
mod faults;
#[cfg(target_arch = "x86_64")]
mod harmless;
mod lifecycle;
mod machines;
mod net;
mod order;
mod part;
mod poller;
mod program;
mod run;
mod telling;
mod trace;
mod world;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use machines::Program;
use trace::HistoryProbe;

pub use check::{check, check_repeats};
pub use control::{
    crash, cut, elapsed, heal, limit_descriptors, limit_disk, random, restart, set_clock, set_link,
};
pub use escapes::{Escape, Escapes};
pub use faults::Faults;
pub use net::Link;
pub use order::Schedule;
#[doc(hidden)]
pub use program::__enter;

/// A simulation to be: its seed, its machines, and what may break.
///
/// ```
/// use std::time::Duration;
/// use crore::sim::{Faults, Sim};
///
/// let sleep = || std::thread::sleep(Duration::from_secs(100));
/// let report = Sim::new(1)
///     .node("one", sleep)
///     .node("two", sleep)
///     .client("test", || std::thread::sleep(Duration::from_secs(60)))
///     .faults(Faults::within(Duration::from_secs(60)).crashes(3))
///     .limit(Duration::from_secs(120))
///     .run();
/// assert!(report.elapsed() >= Duration::from_secs(60));
/// ```
#[must_use = "it is to be run"]
pub struct Sim {
    seed: u64,
    names: Vec<String>,
    programs: Vec<Program>,
    link: Link,
    faults: Faults,
    /// The faults of the plan that happen; all.
    kept: Option<Vec<usize>>,
    disks: Option<PathBuf>,
    limit: Duration,
    schedule: Schedule,
    preempts: f64,
    threads: bool,
    lines: bool,
    escapes: Escapes,
    /// For the comparison of two runs.
    probe: Option<Arc<Mutex<HistoryProbe>>>,
}

impl Sim {
    /// One without machines.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            names: Vec::new(),
            programs: Vec::new(),
            link: Link::default(),
            faults: Faults::default(),
            kept: None,
            disks: None,
            limit: Duration::from_secs(3600),
            schedule: Schedule::default(),
            preempts: 0.0,
            threads: crate::local::own_thread_locals().is_ok(),
            lines: false,
            escapes: Escapes::default(),
            probe: None,
        }
    }

    /// Adds a machine of this name that runs `program`, and again after each crash.
    /// When the program returns the machine stays, with what the program has spawned.
    ///
    /// Statics are the process's: they survive crashes, and all machines have the same.
    ///
    /// # Panics
    ///
    /// If there is one of that name.
    pub fn node(self, name: impl Into<String>, program: impl Fn() + Send + Sync + 'static) -> Self {
        self.add(name.into(), Program::Node(Arc::new(program)))
    }

    /// Adds a machine that runs `program` once, and to which no fault of the
    /// [plan](Sim::faults) happens. The simulation is over when all clients have returned.
    ///
    /// # Panics
    ///
    /// If there is a machine of that name.
    pub fn client(self, name: impl Into<String>, program: impl FnOnce() + Send + 'static) -> Self {
        let program = Mutex::new(Some(program));
        let run = move || {
            let program = program.lock().unwrap().take();
            program.expect("a client runs once")();
        };
        self.add(name.into(), Program::Client(Arc::new(run)))
    }

    fn add(mut self, name: String, program: Program) -> Self {
        assert!(!self.names.contains(&name), "there is a `{name}` already");
        self.names.push(name);
        self.programs.push(program);
        self
    }

    /// How the network between any two machines is.
    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// What breaks.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Makes what is below this directory the machines' disks, each in a directory of its
    /// name: at a crash what they have written there and not synced is undone, all of it,
    /// some, or to the middle of a write. (A new file is on the disk when it is synced, or
    /// its directory; a rename, or a removal, when the directory is.) They are not made
    /// nor removed. Syncs are `fsync`, `fdatasync`, `syncfs` and `O_DSYNC`. Writes to maps, those
    /// of `sendfile` and its like, links and directories are not noticed. What else a disk may
    /// do [`Faults`] have.
    pub fn disks(mut self, root: impl Into<PathBuf>) -> Self {
        self.disks = Some(root.into());
        self
    }

    /// How much time may pass, by its own clock: then it has failed. Default: an hour.
    pub fn limit(mut self, time: Duration) -> Self {
        self.limit = time;
        self
    }

    /// Who runs next.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// How probable it is that another coroutine runs before a call of libc's that crore
    /// hooks, waiting or not; from 0, the default, to 1.
    pub fn preempt(mut self, probability: f64) -> Self {
        self.preempts = probability;
        self
    }

    /// Keeps the [`Report::trace`].
    pub fn trace(mut self, yes: bool) -> Self {
        self.lines = yes;
        self
    }

    /// What is done about system calls that pass the hooks; the default names them. It takes
    /// Linux 5.11 and x86-64: elsewhere (and under valgrind) that is said, once.
    pub fn escapes(mut self, escapes: Escapes) -> Self {
        self.escapes = escapes;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// With the panic of a machine's program; and if the limit of time is reached, with a
    /// dump of who waits for what. Called by a coroutine.
    pub fn run(self) -> Report {
        self.run_on_a_thread()
    }
}

/// What a simulation was.
///
/// ```
/// use crore::sim::Sim;
///
/// let run = || Sim::new(3).trace(true).client("one", || drop(std::fs::read("/none"))).run();
/// let (first, second) = (run(), run());
/// assert_eq!((first.hash(), first.events()), (second.hash(), second.events()));
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    hash: u64,
    events: u64,
    elapsed: Duration,
    trace: Vec<String>,
    escapes: Vec<Escape>,
}

impl Report {
    /// A number of all that happened, in its order, with its times: another history has
    /// another, but for one in 2⁶⁴.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How long it took by its own clock.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What happened, a line each; empty unless [`Sim::trace`] was asked for.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// The places from which system calls passed the hooks.
    pub fn escapes(&self) -> &[Escape] {
        &self.escapes
    }
}
