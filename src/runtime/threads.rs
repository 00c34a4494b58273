//! Worker threads: starting them, running their workers to the end.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle as Thread};

use crate::hook;
use crate::sched::{Config, Worker, Workers};
use crate::stack::overflow;
use crate::sys::cpu;
use crate::sys::report::{abort_on_unwind, die, report};
use crate::sys::signal_mask::quietly;
use crate::task::JoinRef;

/// Runs the worker of this thread until the runtime stops.
pub(crate) fn run_to_end(worker: &Worker, main: Option<&JoinRef>) {
    hook::worker_begins();
    if let Err(error) = worker.run(main) {
        die(format_args!("a worker's reactor failed: {error}"));
    }
}

/// The threads of all workers but the first. Dropping it stops and joins them.
pub(crate) struct WorkerThreads<'a> {
    workers: &'a Workers,
    threads: Vec<Thread<()>>,
    /// One for each thread, which runs nothing before it receives: if one can't be
    /// started, none of the work that waits has begun.
    go: Vec<mpsc::Sender<()>>,
}

impl<'a> WorkerThreads<'a> {
    /// Starts the threads; each is a worker when this returns.
    pub(crate) fn start(workers: &'a Arc<Workers>, config: &Config) -> io::Result<Self> {
        let mut all = Self {
            workers,
            threads: Vec::new(),
            go: Vec::new(),
        };
        let (ready, started) = mpsc::channel();
        let count = workers.handles().len();
        for position in 1..count {
            let (workers, config, ready) = (Arc::clone(workers), config.clone(), ready.clone());
            let (go, wait) = mpsc::channel();
            let builder = thread::Builder::new().name(format!("crore-{position}"));
            let body = move || work(workers, position, &config, ready, wait);
            let thread = quietly(|| builder.spawn(body));
            let thread = thread.map_err(|error| no_thread(position, count, error))?;
            all.threads.push(thread);
            all.go.push(go);
        }
        drop(ready);
        for _ in 1..count {
            let ended = |_| io::Error::other("the thread of a worker ended while it started");
            started.recv().map_err(ended)??;
        }
        for go in all.go.drain(..) {
            go.send(()).expect("a thread that is ready waits");
        }
        Ok(all)
    }
}

impl Drop for WorkerThreads<'_> {
    fn drop(&mut self) {
        self.workers.stop();
        self.go.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                // Its guard has aborted the process if coroutines were alive.
                report(format_args!("a worker thread panicked while it started"));
            }
        }
    }
}

#[cold]
fn no_thread(position: usize, count: usize, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot start the thread of worker {} of {count}: {error}; raise the limit of threads \
             (ulimit -u) or of memory, or ask for fewer workers",
            position + 1,
        ),
    )
}

/// The life of a worker's thread.
fn work(
    workers: Arc<Workers>,
    position: usize,
    config: &Config,
    ready: mpsc::Sender<io::Result<()>>,
    go: mpsc::Receiver<()>,
) {
    let set_up = || {
        let signals = overflow::ensure_alt_stack()?;
        let pinned = config.pin.then(|| cpu::pin(position)).transpose()?;
        let worker = Worker::new(workers, position, config)?;
        io::Result::Ok((worker, (signals, pinned)))
    };
    let worker = set_up();
    // If the receiver is gone, another worker could not be started.
    let (result, worker) = match worker {
        Ok(worker) => (Ok(()), Some(worker)),
        Err(error) => (Err(error), None),
    };
    let _ = ready.send(result);
    // These live while their worker does.
    let (Some((worker, _thread)), Ok(())) = (worker, go.recv()) else {
        return;
    };
    worker.enter(|| {
        abort_on_unwind(SCHEDULER, || run_to_end(&worker, None));
    });
}

/// What unwound if a worker did, past live coroutines.
pub(crate) const SCHEDULER: &str = "the scheduler itself panicked";
