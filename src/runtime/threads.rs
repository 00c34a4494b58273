//! The threads of a runtime's workers: starting them, running them to the end.

use std::io;
use std::process::abort;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle as Thread};

use crate::hook;
use crate::sched::{Config, Pool, Worker};
use crate::stack::overflow;
use crate::task::JoinRef;
use crate::util::report;

/// Runs the worker of this thread until the runtime stops.
pub(crate) fn run_to_end(worker: &Worker, main: Option<&JoinRef>) {
    hook::worker_begins();
    if let Err(error) = worker.run(main) {
        report(format_args!("a worker's reactor failed: {error}"));
        abort();
    }
}

/// The threads of all workers but the first. Dropping it stops and joins them.
pub(crate) struct Crew<'a> {
    pool: &'a Pool,
    threads: Vec<Thread<()>>,
    /// One for each thread, which runs nothing before its word: if one can't be
    /// started, none of the work that waits has begun.
    go: Vec<mpsc::Sender<()>>,
}

impl<'a> Crew<'a> {
    /// Starts the threads; each is a worker when this returns.
    pub(crate) fn start(pool: &'a Arc<Pool>, config: &Config) -> io::Result<Self> {
        let mut crew = Self {
            pool,
            threads: Vec::new(),
            go: Vec::new(),
        };
        let (ready, started) = mpsc::channel();
        let count = pool.remotes().len();
        for place in 1..count {
            let (pool, config, ready) = (Arc::clone(pool), config.clone(), ready.clone());
            let (go, wait) = mpsc::channel();
            let thread = thread::Builder::new()
                .name(format!("crore-{place}"))
                .spawn(move || work(pool, place, &config, ready, wait));
            let thread = thread.map_err(|error| no_thread(place, count, error))?;
            crew.threads.push(thread);
            crew.go.push(go);
        }
        drop(ready);
        for _ in 1..count {
            let ended = |_| io::Error::other("the thread of a worker ended while it started");
            started.recv().map_err(ended)??;
        }
        for go in crew.go.drain(..) {
            go.send(()).expect("a thread that is ready waits");
        }
        Ok(crew)
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        self.pool.stop();
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
fn no_thread(place: usize, count: usize, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot start the thread of worker {} of {count}: {error}; raise the limit of threads \
             (ulimit -u) or of memory, or ask for fewer workers",
            place + 1,
        ),
    )
}

/// The life of a worker's thread.
fn work(
    pool: Arc<Pool>,
    place: usize,
    config: &Config,
    ready: mpsc::Sender<io::Result<()>>,
    go: mpsc::Receiver<()>,
) {
    let signals = overflow::ensure_alt_stack();
    let worker = signals.and_then(|signals| Ok((Worker::new(pool, place, config)?, signals)));
    // If nobody listens any more, another worker could not be started.
    let (result, worker) = match worker {
        Ok(worker) => (Ok(()), Some(worker)),
        Err(error) => (Err(error), None),
    };
    let _ = ready.send(result);
    // It lives while its worker does.
    let (Some((worker, _signals)), Ok(())) = (worker, go.recv()) else {
        return;
    };
    worker.enter(|| {
        let guard = AbortOnUnwind;
        run_to_end(&worker, None);
        std::mem::forget(guard);
    });
}

/// Ends the process if the scheduler unwinds past live coroutines.
pub(crate) struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report(format_args!(
                "the scheduler itself panicked; this is a bug in crore"
            ));
            abort();
        }
    }
}
