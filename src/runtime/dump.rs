//! Task dumps: every worker is asked for its coroutines.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::block_on::block_on_deadline;
use crate::runtime::handle::Handle;
use crate::runtime::listing::Dump;
use crate::sched::{
    Detail, Message, QuiescenceWaiter, TaskInfo, TaskSnapshot, Workers, tasks_seen,
};

/// How long a worker has to answer [`Handle::dump`].
const ANSWER: Duration = Duration::from_secs(1);

impl Handle {
    /// All coroutines that have a place on a worker, at some moment of this
    /// call; empty while the runtime does not run. Spawned ones that no worker
    /// has taken yet are not listed.
    ///
    /// A worker answers between two coroutines. One that does not within a second, since
    /// a coroutine does not give it back, is interrupted by a signal (`SIGURG`): of the
    /// one that runs there is a backtrace then, of the others no more than which they are
    /// and their state. It is left out if the program has that signal for itself.
    ///
    /// Of each that is parked it says what for, how long, and (of the first
    /// thousand on each worker) where in its code. The last takes the worker
    /// some ten microseconds for each, during which it runs no coroutine.
    ///
    /// [`Dump`] says it in words, or in JSON ([`Dump::to_json`]).
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     crore::Builder::new().name("idler".into()).spawn(crore::park)?;
    ///     crore::yield_now();
    ///     let all = crore::Handle::current().unwrap().dump();
    ///     let idler = all.iter().find(|info| info.name() == Some("idler")).unwrap();
    ///     assert_eq!(idler.state(), crore::CoroutineState::Parked);
    ///     println!("{idler}"); // coroutine 'idler' (id 1:1:0), spawned at …, parked
    ///     Ok::<(), std::io::Error>(())
    /// })??;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump(&self) -> Dump {
        let begun = Instant::now();
        let tasks = self.snapshot(Detail::Waits);
        Dump::new(tasks, begun.elapsed(), self.stack_use())
    }

    /// The tasks of all workers that answer in time; none while they do not run.
    pub(super) fn snapshot(&self, detail: Detail) -> Vec<TaskInfo> {
        let Some(run) = self.workers().run() else {
            return Vec::new();
        };
        let snapshot = TaskSnapshot::new();
        self.workers().broadcast(|| Message::Snapshot {
            run,
            request: snapshot.request(detail),
        });
        let answered = Answered {
            workers: self.workers(),
            run,
            end: self.workers().quiescence_waiter(),
            snapshot: &snapshot,
        };
        let _ = block_on_deadline(&answered, Instant::now().checked_add(ANSWER));
        let (mut tasks, answered) = snapshot.take();
        let workers = self.workers().handles().iter();
        for silent in workers.filter(|handle| !answered.contains(&handle.index())) {
            if self.workers().is_run(run) {
                tasks.append(&mut tasks_seen(silent));
            }
        }
        tasks
    }
}

/// Ready when all workers have answered, or the run that was asked has ended.
struct Answered<'a> {
    workers: &'a Workers,
    run: u64,
    /// Woken at the end of the run.
    end: QuiescenceWaiter<'a>,
    snapshot: &'a TaskSnapshot,
}

impl Future for &Answered<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.end.set_waker(context.waker().clone());
        if !self.workers.is_run(self.run) || self.snapshot.is_complete(context.waker().clone()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
