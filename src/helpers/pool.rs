//! The helper pool: its threads and their job queue.
//!
//! One spinning lock guards all: it is held for a few instructions, so it may
//! be taken inside a coroutine, where a lock that sleeps might come back
//! through a hook. Idle threads park; a thread that brings a job takes one off the
//! list of the idle, the latest first, so that those at its end time out.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::shim::Lock;
use crate::sys::fork::PerProcess;

/// How long a thread waits for work before it leaves.
const PATIENCE: Duration = Duration::from_secs(10);

static MOST: AtomicUsize = AtomicUsize::new(64);

/// The pools of this process; those that were a parent's are left alone. Closures of
/// users may wait for each other, and for coroutines that wait for a hook: so the
/// work of hooks, which waits for nobody, has threads of its own.
static HOOKS: PerProcess<HelperPool> = PerProcess::new();
static USERS: PerProcess<HelperPool> = PerProcess::new();

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Sets the most helper threads that closures of [`spawn_blocking`](crate::spawn_blocking)
/// may have; at least one. The hooks' own work has as many of its own, so that
/// closures that wait can't use them up. Threads above a lowered limit leave when
/// they are idle.
///
/// ```
/// crore::blocking::set_max_threads(16);
/// ```
pub fn set_max_threads(most: usize) {
    MOST.store(most.max(1), Ordering::Relaxed);
}

/// How many helper threads there are now.
///
/// ```
/// let two = crore::run(|| crore::spawn_blocking(|| 1 + 1).join().unwrap()).unwrap();
/// assert_eq!(two, 2);
/// assert!(crore::blocking::threads() >= 1); // it waits for further work
/// ```
pub fn threads() -> usize {
    [&HOOKS, &USERS]
        .map(|pool| pool.get().0.lock().threads)
        .iter()
        .sum()
}

struct HelperPool(Lock<JobQueue>);

#[derive(Default)]
struct JobQueue {
    jobs: VecDeque<Job>,
    /// Those that wait, latest last. One that is taken off must be unparked.
    idle: Vec<Thread>,
    threads: usize,
}

/// What a job needs besides its place in the line.
enum Hand {
    Idle(Thread),
    New,
    /// All threads are busy, and there may be no more.
    Later,
}

impl Default for HelperPool {
    fn default() -> Self {
        Self(Lock::new(JobQueue::default()))
    }
}

/// Puts a job of a user, or of a hook, in line.
///
/// # Errors
///
/// No thread could be started and there is none; the job was dropped.
pub(super) fn submit(job: Job, users: bool) -> io::Result<()> {
    let pool = if users { USERS.get() } else { HOOKS.get() };
    let hand = {
        let mut queue = pool.0.lock();
        queue.jobs.push_back(job);
        match queue.idle.pop() {
            Some(thread) => Hand::Idle(thread),
            None if queue.threads < MOST.load(Ordering::Relaxed) => {
                queue.threads += 1;
                Hand::New
            }
            None => Hand::Later,
        }
    };
    // Neither waits, so a coroutine does not park in it.
    match hand {
        Hand::Idle(thread) => {
            thread.unpark();
            Ok(())
        }
        Hand::New => start(pool),
        Hand::Later => Ok(()),
    }
}

fn start(pool: &'static HelperPool) -> io::Result<()> {
    let started = thread::Builder::new()
        .name("crore-blocking".into())
        .spawn(move || pool.serve());
    let Err(error) = started else { return Ok(()) };
    let left = {
        let mut queue = pool.0.lock();
        queue.threads -= 1;
        // Those that there are do it; with none, it would never be done.
        if queue.threads > 0 {
            return Ok(());
        }
        std::mem::take(&mut queue.jobs)
    };
    drop(left);
    Err(io::Error::new(
        error.kind(),
        format!("no helper thread could be started: {error}"),
    ))
}

impl HelperPool {
    /// The life of a thread.
    fn serve(&self) {
        while let Some(job) = self.next() {
            // A job keeps its own panic; what is left is a destructor's.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                std::mem::forget(payload);
            }
        }
    }

    /// The next job, or `None` when there was none for long.
    fn next(&self) -> Option<Job> {
        let us = thread::current();
        let since = Instant::now();
        loop {
            {
                let mut queue = self.0.lock();
                if let Some(job) = queue.jobs.pop_front() {
                    queue.forget(&us);
                    return Some(job);
                }
                let spare = queue.threads > MOST.load(Ordering::Relaxed);
                if spare || since.elapsed() >= PATIENCE {
                    queue.forget(&us);
                    queue.threads -= 1;
                    return None;
                }
                if !queue.idle.iter().any(|thread| thread.id() == us.id()) {
                    queue.idle.push(us.clone());
                }
            }
            thread::park_timeout(PATIENCE.saturating_sub(since.elapsed()));
        }
    }
}

impl JobQueue {
    /// The thread does not wait any more.
    fn forget(&mut self, us: &Thread) {
        self.idle.retain(|thread| thread.id() != us.id());
    }
}
