//! `CoroutineInfo`: what can be said of a coroutine, and how it is put in words.

use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::driver::{self, Condition};
use crate::runtime::join_handle::CoroutineId;
use crate::sched::{Blocker, TaskInfo};
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
    /// It runs: the one that asked, or one that does not give its worker back.
    Running,
    /// It waits for something: a descriptor, a time, a lock, another coroutine.
    Parked,
}

impl CoroutineState {
    pub(super) const ALL: [Self; 4] = [Self::Running, Self::Runnable, Self::New, Self::Parked];
}

impl fmt::Display for CoroutineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "not started",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Parked => "parked",
        })
    }
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
    /// Urgent data of this descriptor, an error, or an end, and no data: a `poll` for
    /// these.
    Exception(RawFd),
    /// This moment, give or take 0.1 ms: a sleep, or a time limit.
    Time(Instant),
    /// A lock, and who holds it if that is known: it is of this crate's, or one of C's that
    /// a coroutine with thread-locals of its own holds.
    Lock(Option<CoroutineId>),
    /// Another coroutine to end, which it joins.
    End(Option<CoroutineId>),
    /// A value of a channel of [`crore::sync`](crate::sync).
    Receive {
        /// How many ends that send there are: one at least, but nobody knows where they lie,
        /// and who waits may have them itself.
        senders: usize,
    },
    /// Room in a [`channel`](crate::sync::channel).
    Send {
        /// How many ends that receive there are.
        receivers: usize,
    },
    /// Permits of a [`Semaphore`](crate::sync::Semaphore).
    Permits {
        /// How many it waits for.
        wanted: usize,
        /// How many there are.
        free: usize,
    },
    /// A notification, of a [`Notify`](crate::sync::Notify) or a
    /// [`Condvar`](crate::sync::Condvar).
    Notification,
}

impl Awaited {
    /// Whether something outside of the runtime brings it.
    pub(super) fn comes_from_outside(self) -> bool {
        match self {
            Self::Readable(_) | Self::Writable(_) | Self::Exception(_) | Self::Time(_) => true,
            Self::Lock(_) | Self::End(_) | Self::Receive { .. } | Self::Send { .. } => false,
            Self::Permits { .. } | Self::Notification => false,
        }
    }

    pub(super) fn time(self) -> Option<Instant> {
        match self {
            Self::Time(at) => Some(at),
            _ => None,
        }
    }

    pub(super) fn of(awaited: driver::WaitTarget) -> Self {
        match awaited {
            driver::WaitTarget::Descriptor(fd, condition) => match condition {
                Condition::Read | Condition::PollRead => Self::Readable(fd),
                Condition::Write | Condition::PollWrite => Self::Writable(fd),
                Condition::Exception => Self::Exception(fd),
            },
            driver::WaitTarget::Time(at) => Self::Time(at),
        }
    }

    /// `by`: who that is.
    pub(super) fn of_blocker(blocker: Blocker, by: Option<CoroutineId>) -> Self {
        match blocker {
            Blocker::Holder(_) | Blocker::Number(_) => Self::Lock(by),
            Blocker::End(_) => Self::End(by),
            Blocker::Receive { senders } => Self::Receive { senders },
            Blocker::Send { receivers } => Self::Send { receivers },
            Blocker::Permits { wanted, free, .. } => Self::Permits { wanted, free },
            Blocker::Notification => Self::Notification,
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readable(fd) => write!(f, "to read fd {fd}"),
            Self::Writable(fd) => write!(f, "to write fd {fd}"),
            Self::Exception(fd) => write!(f, "for urgent data or an error of fd {fd}"),
            Self::Time(at) => {
                let left = at.saturating_duration_since(Instant::now());
                write!(f, "for a time {:.1} s ahead", left.as_secs_f64())
            }
            Self::Lock(Some(holder)) => write!(f, "for a lock that {holder} holds"),
            Self::Lock(None) => write!(f, "for a lock"),
            Self::End(Some(other)) => write!(f, "for {other} to end"),
            Self::End(None) => write!(f, "for another to end"),
            Self::Receive { senders } => {
                write!(f, "to receive from a channel that {senders} can send to")
            }
            Self::Send { receivers } => {
                write!(f, "to send to a channel that {receivers} can receive from")
            }
            Self::Permits { wanted, free } => {
                write!(f, "for {wanted} permits of a semaphore that has {free}")
            }
            Self::Notification => write!(f, "to be notified"),
        }
    }
}

/// The first few, and how many more there are.
pub(super) fn write_awaited(
    f: &mut fmt::Formatter<'_>,
    mut all: impl Iterator<Item = Awaited>,
) -> fmt::Result {
    for (i, awaited) in all.by_ref().take(NAMED).enumerate() {
        write!(f, "{}{awaited}", [", ", " or "][usize::from(i > 0)])?;
    }
    match all.count() {
        0 => Ok(()),
        more => write!(f, " or {more} more"),
    }
}

/// One coroutine of [`Handle::dump`](crate::Handle::dump).
///
/// ```
/// crore::run(|| {
///     let sleeper = crore::Builder::new().name("sleeper".into()).spawn(crore::park).unwrap();
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
            TaskState::Queued | TaskState::Woken => CoroutineState::Runnable,
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

    /// How many bytes of memory its frames take, if it is parked. Of a stack of its own
    /// those are whole pages; it may have touched more, which is given back
    /// when it has been parked for some seconds. Nothing of futures, which have no stack,
    /// where it waits on another stack, in a generator, and of shared stacks in check mode.
    pub fn frame_bytes(&self) -> usize {
        self.0.frame_bytes
    }

    /// What it waits for, if it is parked: descriptors, times, a lock of this crate's
    /// ([`Mutex`](crate::sync::Mutex), [`RwLock`](crate::sync::RwLock)) or of C's, a join, a
    /// channel, a semaphore, a notification. Nothing for one that waits to be unparked, in
    /// a `select`, or for a lock or a channel of std's; nor is it known of futures what
    /// they wait for of all that.
    pub fn awaits(&self) -> impl Iterator<Item = Awaited> + '_ {
        let known = self.0.awaits.iter().copied().map(Awaited::of);
        let by = self.0.blocked_by.map(CoroutineId::of);
        let blocker = self.0.blocker.map(|one| Awaited::of_blocker(one, by));
        known.chain(blocker)
    }

    /// How long it has been parked, to within 0.1 s. Not known of one on a
    /// shared stack unless it waits for a descriptor.
    pub fn parked_for(&self) -> Option<Duration> {
        self.0.parked_for
    }

    /// Where in its code it is parked, from its wait down to what it was spawned with.
    /// Of one that runs, where its worker was interrupted.
    ///
    /// Not known of futures, which have no stack, of those that have less than
    /// 24 KiB of it left, and of those beyond the first thousand on a worker.
    pub fn backtrace(&self) -> Option<impl fmt::Display + '_> {
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
        write!(
            f,
            "(id {}), spawned at {}, {}",
            self.id(),
            self.spawned_at(),
            self.state()
        )?;
        if let Some(time) = self.parked_for() {
            write!(f, " for {:.1} s", time.as_secs_f64())?;
        }
        write_awaited(f, self.awaits())?;
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
