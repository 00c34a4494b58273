//! `Handle`: reaches a runtime from any thread.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sched::{InjectedTask, Plan, Worker, Workers};
use crate::task::{JoinRef, Work};

/// Reaches a runtime from any thread.
///
/// ```
/// crore::run(|| {
///     let handle = crore::Handle::current().unwrap();
///     let thread = std::thread::spawn(move || handle.spawn(|| 7)); // runs here, not there
///     while !thread.is_finished() { crore::yield_now() }
///     assert_eq!(thread.join().unwrap().join().unwrap(), 7);
/// }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    workers: Arc<Workers>,
}

impl Handle {
    pub(super) fn new(workers: Workers) -> Self {
        Self {
            workers: Arc::new(workers),
        }
    }

    /// The handle of the runtime that a worker belongs to.
    pub(crate) fn of(worker: &Worker) -> Self {
        Self {
            workers: Arc::clone(worker.workers()),
        }
    }

    pub(crate) fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Injects a task on whichever worker.
    pub(super) fn inject<W>(&self, work: W, plan: Plan) -> io::Result<JoinRef>
    where
        W: Work<Output: Send> + Send,
    {
        let position = self.workers.place(plan.worker, None)?;
        let (task, join) = InjectedTask::new(work, plan);
        match self.workers.inject(position, task) {
            Ok(()) => Ok(join),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the runtime has ended",
            )),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.workers.handles().len())
            .finish()
    }
}
