//! Ending a runtime in good order, and seeing who is in it.
//!
//! Lives here: what a [`Handle`] can do about all coroutines at once. Does not
//! live here: how one is cancelled (`sched/cancel.rs`), and that the end of
//! the main coroutine cancels all others (`sched/run.rs`).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::future::block_on_deadline;
use crate::handle::CoroutineId;
use crate::runtime::{Handle, Runtime};
use crate::sched::{Census, Cx, Message, Person, Pool, Worker};
use crate::task::State;

/// How long a worker has to answer [`Handle::dump`].
const ANSWER: Duration = Duration::from_secs(1);

/// What a coroutine is doing.
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

/// One coroutine of [`Handle::dump`].
#[derive(Clone)]
pub struct CoroutineInfo(Person);

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
        self.0.site
    }

    /// What it was doing when its worker was asked.
    pub fn state(&self) -> CoroutineState {
        match self.0.state {
            State::Free | State::New => CoroutineState::New,
            State::Queued => CoroutineState::Runnable,
            State::Running => CoroutineState::Running,
            State::Parked => CoroutineState::Parked,
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
}

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
        let cancelled = if self.is_cancelled() {
            ", cancelled"
        } else {
            ""
        };
        write!(
            f,
            "(id {}), spawned at {}, {state}{cancelled}",
            self.id(),
            self.spawned_at()
        )
    }
}

impl fmt::Debug for CoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoroutineInfo({self})")
    }
}

/// A [`Handle::shutdown`] has given up: these still run.
#[derive(Clone, Debug)]
pub struct StillRunning {
    coroutines: Vec<CoroutineInfo>,
    alive: u64,
}

impl StillRunning {
    /// Those whose workers answered. A worker whose running coroutine never
    /// waits does not.
    pub fn coroutines(&self) -> &[CoroutineInfo] {
        &self.coroutines
    }

    /// How many there are, the caller not counted.
    pub fn alive(&self) -> u64 {
        self.alive
    }
}

impl fmt::Display for StillRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} coroutines did not end although they were cancelled",
            self.alive
        )?;
        for info in &self.coroutines {
            write!(f, "\n  {info}")?;
        }
        let silent = self.alive.saturating_sub(self.coroutines.len() as u64);
        if silent > 0 {
            write!(
                f,
                "\n  {silent} on workers whose running coroutine does not wait"
            )?;
        }
        Ok(())
    }
}

impl Error for StillRunning {}

impl From<StillRunning> for io::Error {
    fn from(error: StillRunning) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}

impl Handle {
    /// The handle of the runtime that this thread runs; `None` on a plain
    /// thread.
    pub fn current() -> Option<Self> {
        Worker::current().map(Self::of)
    }

    /// All coroutines that have a place on a worker, at some moment of this
    /// call; empty while nobody runs the runtime. Spawned ones that no worker
    /// has taken yet are not listed.
    ///
    /// A worker answers between two coroutines. One that does not within a
    /// second is left out.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     crore::Builder::new().name("idler").spawn(crore::park)?;
    ///     crore::yield_now();
    ///     let all = crore::Handle::current().unwrap().dump();
    ///     let idler = all.iter().find(|info| info.name() == Some("idler")).unwrap();
    ///     assert_eq!(idler.state(), crore::CoroutineState::Parked);
    ///     println!("{idler}"); // coroutine 'idler' (id 1:1:0), spawned at …, parked
    ///     Ok::<(), std::io::Error>(())
    /// })??;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump(&self) -> Vec<CoroutineInfo> {
        let Some(census) = Census::begin(self.pool()) else {
            return Vec::new();
        };
        let _ = block_on_deadline(&census, Instant::now().checked_add(ANSWER));
        census.people().into_iter().map(CoroutineInfo).collect()
    }

    /// Ends all coroutines but the one that calls this: gives them `grace` to
    /// end on their own, then cancels them, and waits for `grace` again.
    ///
    /// To be called from a coroutine (one that waits for a
    /// [signal](crate::signal), say) or from another thread. The main coroutine
    /// is cancelled with the others; when it ends, so does
    /// [`run`](crate::run()), with an error if it was cancelled before it
    /// returned. What is spawned meanwhile is waited for, too; to stop
    /// accepting is the program's business.
    ///
    /// # Errors
    ///
    /// Who still runs after both times. They go on; the runtime is as before.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let cancelled = crore::run(|| {
    ///     let client = crore::spawn(crore::park);
    ///     crore::yield_now();
    ///     let handle = crore::Handle::current().unwrap();
    ///     handle.shutdown(Duration::from_millis(1)).unwrap();
    ///     client.join().unwrap_err().is_cancelled()
    /// })?;
    /// assert!(cancelled);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, grace: Duration) -> Result<(), StillRunning> {
        let Some(run) = self.pool().run() else {
            return Ok(());
        };
        let me = Worker::current()
            .filter(|worker| worker.is_of(self.pool()))
            .and_then(|_| Cx::running())
            .map(Cx::identity);
        let spared = u64::from(me.is_some());
        if self.empty_out(spared, grace) {
            return Ok(());
        }
        self.pool()
            .tell_all(|| Message::CancelAll { run, spared: me });
        if self.empty_out(spared, grace) {
            return Ok(());
        }
        let mut coroutines = self.dump();
        coroutines.retain(|info| Some(info.0.identity) != me);
        let alive = self.pool().load().saturating_sub(spared);
        if alive == 0 && coroutines.is_empty() && !self.is_crowded(spared) {
            // The last ones have ended while they were counted.
            return Ok(());
        }
        Err(StillRunning {
            alive: alive.max(coroutines.len() as u64),
            coroutines,
        })
    }

    /// For the main coroutine, whose closure has returned: gives the others
    /// time to end on their own.
    pub(crate) fn drain(&self, grace: Duration) {
        // A cancellation ends it early, and must not cost main's value.
        let _ = catch_unwind(AssertUnwindSafe(|| self.empty_out(1, grace)));
    }

    /// Waits until at most `spared` are alive, or the run ends; whether that
    /// came about in time.
    fn empty_out(&self, spared: u64, grace: Duration) -> bool {
        let deadline = Instant::now().checked_add(grace);
        let few = Few {
            pool: self.pool(),
            spared,
        };
        loop {
            if block_on_deadline(&few, deadline).is_none() {
                return false;
            }
            if !self.is_crowded(spared) {
                return true;
            }
        }
    }

    /// Whether more than `spared` are alive. The sum of the counters misses
    /// whom a worker is just taking out of a mailbox. It has him by the time
    /// it answers twice.
    fn is_crowded(&self, spared: u64) -> bool {
        (0..2).any(|_| self.pool().load() > spared || self.dump().len() as u64 > spared)
    }
}

impl Runtime {
    /// As [`Handle::shutdown`], from a thread that does not run the runtime.
    ///
    /// # Errors
    ///
    /// As [`Handle::shutdown`].
    pub fn shutdown(&self, grace: Duration) -> Result<(), StillRunning> {
        self.handle().shutdown(grace)
    }
}

/// Ready when at most so many coroutines are alive, or nobody runs them.
struct Few<'a> {
    pool: &'a Arc<Pool>,
    spared: u64,
}

impl Future for &Few<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.pool.watch(context.waker().clone());
        if self.pool.load() <= self.spared || self.pool.run().is_none() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
