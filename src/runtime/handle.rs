//! `Handle`: reaches a runtime from any thread.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sched::{InjectedTask, Plan, Worker, Workers, too_many};
use crate::task::{JoinRef, Work};

/// Reaches a runtime from any thread.
///
/// ```
/// crore::run(|| {
///     let handle = crore::Handle::current().unwrap();
///     let thread = std::thread::spawn(move || handle.spawn(|| 7)); // runs here, not there
///     crore::sleep(std::time::Duration::from_millis(20));
///     assert_eq!(thread.join().unwrap().join().unwrap(), 7);
/// }).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    workers: Arc<Workers>,
    max_coroutines: u32,
}

impl Handle {
    pub(super) fn new(workers: Workers, max_coroutines: u32) -> Self {
        Self {
            workers: Arc::new(workers),
            max_coroutines,
        }
    }

    /// The handle of the runtime that a worker belongs to.
    pub(crate) fn of(worker: &Worker) -> Self {
        Self {
            workers: Arc::clone(worker.workers()),
            max_coroutines: worker.max_coroutines(),
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
        let most = u64::from(self.max_coroutines);
        let mut workers = self.workers.handles().iter();
        if workers.all(|worker| worker.load() >= most) {
            return Err(too_many(self.max_coroutines));
        }
        let (task, join) = InjectedTask::new(work, plan);
        match self.workers.inject(task) {
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
