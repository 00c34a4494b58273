//! `CoroutineInfo`: what can be said of a coroutine, and how it is put in words.

use std::backtrace::Backtrace;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::driver::{self, Direction};
use crate::runtime::join_handle::CoroutineId;
use crate::sched::TaskInfo;
use crate::task::TaskState;

/// Descriptors that are named in words; a `poll` may wait for thousands.
const NAMED: usize = 4;

/// What a coroutine is doing.
///
/// ```
/// use crore::{CoroutineState, Runtime};
/// let runtime = Runtime::builder().build()?;
/// runtime.run(|| {
///     let waiting = crore::spawn(crore::park);
///     crore::yield_now();
///     let dump = crore::Handle::current().unwrap().dump();
///     assert!(dump.iter().any(|one| one.state() == CoroutineState::Parked));
///     waiting.coroutine().unpark();
/// })?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CoroutineState {
    /// It has never run.
    New,
    /// It waits for its turn.
    Runnable,
    /// It runs: the one that asked.
    Running,
    /// It waits for something: a descriptor, a time, a lock, another coroutine.
    Parked,
}

/// One thing that a parked coroutine waits for.
///
/// ```
/// crore::run(|| {
///     let waiting = crore::spawn(|| crore::sleep(std::time::Duration::from_millis(50)));
///     crore::yield_now();
///     for one in crore::Handle::current().unwrap().dump() {
///         for what in one.awaits() {
///             println!("{} waits {what}", one.id()); // "to read fd 7", "for a timer", …
///         }
///     }
///     waiting.join().unwrap();
/// }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// This descriptor to be readable, or to have a connection to accept.
    Readable(RawFd),
    /// This descriptor to be writable, or to be connected.
    Writable(RawFd),
    /// This moment, give or take 0.1 ms: a sleep, or a time limit.
    Time(Instant),
}

impl Awaited {
    fn of(awaited: driver::WaitTarget) -> Self {
        match awaited {
            driver::WaitTarget::Descriptor(fd, Direction::Read) => Self::Readable(fd),
            driver::WaitTarget::Descriptor(fd, Direction::Write) => Self::Writable(fd),
            driver::WaitTarget::Time(at) => Self::Time(at),
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readable(fd) => write!(f, "to read fd {fd}"),
            Self::Writable(fd) => write!(f, "to write fd {fd}"),
            Self::Time(at) => {
                let left = at.saturating_duration_since(Instant::now());
                write!(f, "for a time {:.1} s ahead", left.as_secs_f64())
            }
        }
    }
}

/// One coroutine of [`Handle::dump`](crate::Handle::dump).
///
/// ```
/// crore::run(|| {
///     let sleeper = crore::Builder::new().name("sleeper").spawn(crore::park).unwrap();
///     crore::yield_now();
///     let dump = crore::Handle::current().unwrap().dump();
///     let info = dump.iter().find(|one| one.name() == Some("sleeper")).unwrap();
///     assert_eq!(info.id(), sleeper.coroutine().id());
///     println!("{info:#}"); // with a backtrace, if it has a stack
///     sleeper.coroutine().unpark();
/// }).unwrap();
/// ```
#[derive(Clone)]
pub struct CoroutineInfo(pub(crate) TaskInfo);

impl CoroutineInfo {
    /// Its id, by which it can be unparked and cancelled.
    pub fn id(&self) -> CoroutineId {
        CoroutineId::of(self.0.identity)
    }

    /// The name that its [`Builder`](crate::Builder) gave it.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.location
    }

    /// What it was doing when its worker was asked.
    pub fn state(&self) -> CoroutineState {
        match self.0.state {
            TaskState::Free | TaskState::New => CoroutineState::New,
            TaskState::Queued => CoroutineState::Runnable,
            TaskState::Running => CoroutineState::Running,
            TaskState::Parked => CoroutineState::Parked,
        }
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled
    }

    /// Whether it has a [shared stack](crate::spawn_shared).
    pub fn is_shared(&self) -> bool {
        self.0.shared
    }

    /// The descriptors and times that it waits for, if it is parked. Nothing
    /// for one that waits for others: to be unparked, for a lock, a channel, a
    /// join.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> + '_ {
        self.0.awaits.iter().copied().map(Awaited::of)
    }

    /// How long it has been parked, to within 0.1 s. Not known of one on a
    /// shared stack unless it waits for a descriptor.
    pub fn parked_for(&self) -> Option<Duration> {
        self.0.parked_for
    }

    /// Where in its code it is parked, from its wait down to what it was
    /// spawned with, and on to the worker that was asked.
    ///
    /// Not known of futures, which have no stack, of those that have less than
    /// 24 KiB of it left, and of those beyond the first thousand on a worker.
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.0.backtrace.as_deref()
    }
}

/// Without the backtrace.
impl fmt::Display for CoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine ")?;
        if let Some(name) = self.name() {
            write!(f, "'{name}' ")?;
        }
        let state = match self.state() {
            CoroutineState::New => "not started",
            CoroutineState::Runnable => "runnable",
            CoroutineState::Running => "running",
            CoroutineState::Parked => "parked",
        };
        write!(
            f,
            "(id {}), spawned at {}, {state}",
            self.id(),
            self.spawned_at()
        )?;
        if let Some(time) = self.parked_for() {
            write!(f, " for {:.1} s", time.as_secs_f64())?;
        }
        for (i, awaited) in self.awaits().take(NAMED).enumerate() {
            write!(f, "{}{awaited}", [", ", " or "][usize::from(i > 0)])?;
        }
        if let more @ 1.. = self.0.awaits.len().saturating_sub(NAMED) {
            write!(f, " or {more} more")?;
        }
        if self.is_cancelled() {
            write!(f, ", cancelled")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoroutineInfo({self})")
    }
}
