//! Graceful shutdown: ends all coroutines of a runtime in good order.
//!
//! Lives here: waiting until few enough are alive, and cancelling them all. Does
//! not live here: which there are (`dump.rs`), how one is cancelled
//! (`sched/cancel.rs`), and that the end of the main coroutine cancels all
//! others (`sched/run.rs`).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::block_on::block_on_deadline;
use crate::runtime::handle::Handle;
use crate::runtime::info::CoroutineInfo;
use crate::runtime::run::Runtime;
use crate::sched::{CurrentTask, Detail, Message, QuiescenceWaiter, Worker, Workers};

/// A [`Handle::shutdown`] has given up: these still run.
///
/// `{}` lists them, with what each waits for and since when; `{:#}` adds where
/// each is in its code, which resolves symbols and takes its time.
///
/// ```
/// use std::time::Duration;
/// crore::run(|| {
///     let stubborn = crore::spawn(|| {
///         while !crore::is_cancelled() {
///             crore::yield_now();
///         }
///     });
///     match crore::Handle::current().unwrap().shutdown(Duration::from_millis(1)) {
///         Ok(()) => println!("all have ended"),
///         Err(still) => eprintln!("{still:#}"), // who, where, since when
///     }
///     drop(stubborn);
/// }).unwrap();
/// ```
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
            if let Some(trace) = info.backtrace().filter(|_| f.alternate()) {
                write!(f, "\n{trace}")?;
            }
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
    ///
    /// ```
    /// assert!(crore::Handle::current().is_none()); // a plain thread
    /// assert!(crore::run(|| crore::Handle::current().is_some()).unwrap());
    /// ```
    pub fn current() -> Option<Self> {
        Worker::current().map(Self::of)
    }

    /// Ends all coroutines but the one that calls this: gives them `grace` to
    /// end on their own ([daemons](crate::Builder::daemon) are not waited for), then
    /// cancels them, and waits for `grace` again.
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
    /// Who still runs after both times, and where: see [`Handle::dump`]. They
    /// go on; the runtime is as before.
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
    ///     handle.shutdown(Duration::from_secs(10)).unwrap();
    ///     client.join().unwrap_err().is_cancelled()
    /// })?;
    /// assert!(cancelled);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, grace: Duration) -> Result<(), StillRunning> {
        let Some(run) = self.workers().run() else {
            return Ok(());
        };
        let me = Worker::current()
            .filter(|worker| worker.is_of(self.workers()))
            .and_then(|_| CurrentTask::running())
            .map(CurrentTask::identity);
        let spared = u64::from(me.is_some());
        let me_in = |who: Who| match who {
            Who::All => spared,
            Who::ButDaemons => spared - u64::from(me.is_some() && is_daemon()),
        };
        let end = |who| self.empty_out(run, who, me_in(who), grace);
        // Daemons do not end on their own.
        if end(Who::ButDaemons) && !self.is_crowded(run, Who::All, spared) {
            return Ok(());
        }
        self.workers()
            .broadcast(|| Message::CancelAll { run, spared: me });
        if end(Who::All) {
            return Ok(());
        }
        let mut coroutines = self.dump().into_vec();
        coroutines.retain(|info| Some(info.0.identity) != me);
        let alive = self.workers().load().saturating_sub(spared);
        if alive == 0 && coroutines.is_empty() && !self.is_crowded(run, Who::All, spared) {
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
        let Some(run) = self.workers().run() else {
            return;
        };
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.empty_out(run, Who::ButDaemons, 1, grace)
        }));
    }

    /// Waits until at most `spared` of `who` are alive, or the run ends; whether that
    /// came about in time.
    fn empty_out(&self, run: u64, who: Who, spared: u64, grace: Duration) -> bool {
        let deadline = Instant::now().checked_add(grace);
        let few = Few {
            workers: self.workers(),
            waiter: self.workers().quiescence_waiter(),
            run,
            who,
            spared,
        };
        loop {
            if block_on_deadline(&few, deadline).is_none() {
                return false;
            }
            if !self.is_crowded(run, who, spared) {
                return true;
            }
        }
    }

    /// Whether the run is on and more than `spared` of `who` are alive. The sum of the
    /// counters misses a task that a worker is just taking out of a mailbox. The
    /// worker has it by the time that it answers twice.
    fn is_crowded(&self, run: u64, who: Who, spared: u64) -> bool {
        let listed = || {
            let mut all = self.snapshot(Detail::States);
            all.retain(|task| who == Who::All || !task.daemon);
            all.len() as u64
        };
        let crowded = || who.alive(self.workers()) > spared || listed() > spared;
        (0..2).any(|_| self.workers().is_run(run) && crowded())
    }
}

/// Whose ends are waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    ButDaemons,
}

impl Who {
    fn alive(self, workers: &Workers) -> u64 {
        match self {
            Self::All => workers.load(),
            Self::ButDaemons => workers.load_but_daemons(),
        }
    }
}

/// Whether the coroutine that calls this is a daemon.
fn is_daemon() -> bool {
    CurrentTask::running().is_some_and(|cx| cx.worker().is_daemon(cx.slot()))
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

/// Ready when at most so many coroutines are alive, or the run has ended.
struct Few<'a> {
    workers: &'a Arc<Workers>,
    waiter: QuiescenceWaiter<'a>,
    run: u64,
    who: Who,
    spared: u64,
}

impl Future for &Few<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.waiter.set_waker(context.waker().clone());
        if self.who.alive(self.workers) <= self.spared || !self.workers.is_run(self.run) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_cancel_all_is_for_one_run() {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let workers = Arc::clone(runtime.handle().workers());
        let parked = || {
            let one = crate::spawn(crate::park);
            crate::yield_now();
            one
        };
        let first = runtime.run(|| workers.run().expect("it runs")).unwrap();
        let order = |run| workers.broadcast(|| Message::CancelAll { run, spared: None });
        order(first); // between two runs
        runtime
            .run(|| {
                let present = workers.run().expect("it runs");
                assert_ne!(first, present);
                let one = parked();
                order(first);
                // The order has been read when a later question is answered.
                assert!(!runtime.handle().dump().is_empty());
                assert!(!crate::is_cancelled() && !one.is_finished());
                one.coroutine().unpark();
                one.join().unwrap();
                let spared = CurrentTask::running().map(CurrentTask::identity);
                let two = parked();
                let order = || Message::CancelAll {
                    run: present,
                    spared,
                };
                workers.broadcast(order);
                assert!(two.join().unwrap_err().is_cancelled());
                assert!(!crate::is_cancelled());
            })
            .unwrap();
    }
}
