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
use std::thread;
use std::time::{Duration, Instant};

use crate::shim::{Arc, Lock, Parker};
use crate::sys::fork::PerProcess;
use crate::sys::signal_mask::quietly;
use crate::util::no_park::NoPark;

/// How long a thread waits for work before it leaves.
const PATIENCE: Duration = Duration::from_secs(10);

static MOST: AtomicUsize = AtomicUsize::new(64);

/// Whose work a job is. Closures of users may wait for each other, and for coroutines
/// that wait for a hook: so the work of hooks has threads of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Users,
    /// Waits for nobody, the disk and the resolver aside.
    #[cfg(feature = "hook")]
    Hooks,
    /// Waits for another process, thread or device: there is no limit to these threads,
    /// or those that wait would keep those that they wait for from beginning.
    #[cfg(feature = "hook")]
    Waits,
}

/// The pools of this process; those that were a parent's are left alone.
static POOLS: [PerProcess<HelperPool>; 3] = [const { PerProcess::new() }; 3];

impl Pool {
    fn threads(self) -> &'static HelperPool {
        POOLS[self as usize].get()
    }

    /// The most threads that it may have.
    fn most(self) -> usize {
        match self.is_bounded() {
            true => MOST.load(Ordering::Relaxed),
            false => usize::MAX,
        }
    }

    /// Whether jobs wait for each other's threads.
    fn is_bounded(self) -> bool {
        #[cfg(feature = "hook")]
        return self != Self::Waits;
        #[cfg(not(feature = "hook"))]
        true
    }
}

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
    POOLS.iter().map(|pool| pool.get().0.lock().threads).sum()
}

/// How much work waits in line for a helper thread now: where it grows, the
/// [limit](set_max_threads) is too low, or what they do too slow.
///
/// ```
/// assert_eq!(crore::blocking::queued(), 0);
/// ```
pub fn queued() -> usize {
    POOLS
        .iter()
        .map(|pool| pool.get().0.lock().jobs.len())
        .sum()
}

/// Whether a helper thread has something to do, whose end may wake a coroutine.
pub(crate) fn any_busy() -> bool {
    POOLS.iter().any(|pool| {
        let queue = pool.get().0.lock();
        queue.threads > queue.idle.len() || !queue.jobs.is_empty()
    })
}

struct HelperPool(Lock<JobQueue>);

#[derive(Default)]
struct JobQueue {
    jobs: VecDeque<Job>,
    /// Those that wait, latest last. One that is taken off must be unparked.
    idle: Vec<Arc<Parker>>,
    threads: usize,
}

/// Jobs for which there is no thread, and none could be started.
pub(super) struct NoThread {
    pub(super) error: io::Error,
    pub(super) jobs: Vec<Job>,
}

impl Default for HelperPool {
    fn default() -> Self {
        Self(Lock::new(JobQueue::default()))
    }
}

/// Has a thread do a job, or puts it in line. Neither waits, so a coroutine does not
/// park in it.
///
/// # Errors
///
/// No thread could be started, and there is none that would do the job later: it is
/// given back, with those that were in line for that thread.
pub(super) fn submit(job: Job, pool: Pool) -> Result<(), NoThread> {
    match pool.threads().put(job, pool.most()) {
        Some(job) => start(pool, job),
        None => Ok(()),
    }
}

/// Starts a thread, with its first job.
fn start(pool: Pool, job: Job) -> Result<(), NoThread> {
    let first = Arc::new(Lock::new(Some(job)));
    let theirs = Arc::clone(&first);
    // It is to be a real thread, whatever the runtime makes of others.
    let no_park = NoPark::enter();
    let builder = thread::Builder::new().name("crore-blocking".into());
    let started = quietly(|| {
        builder.spawn(move || {
            let first = theirs.lock().take();
            pool.threads().serve(first, || pool.most());
        })
    });
    drop(no_park);
    let Err(error) = started else { return Ok(()) };
    let Some(job) = first.lock().take() else {
        return Ok(());
    };
    let mut queue = pool.threads().0.lock();
    queue.threads -= 1;
    if queue.idle.is_empty() && (queue.threads == 0 || !pool.is_bounded()) {
        let left = match queue.threads {
            0 => std::mem::take(&mut queue.jobs),
            // Those are theirs who wait.
            _ => VecDeque::new(),
        };
        drop(queue);
        let jobs = left.into_iter().chain([job]).collect();
        let text = format!("no helper thread could be started: {error}");
        let error = io::Error::new(error.kind(), text);
        return Err(NoThread { error, jobs });
    }
    // Those that there are do it.
    let idle = queue.put(job);
    drop(queue);
    idle.inspect(|idle| idle.unpark());
    Ok(())
}

impl HelperPool {
    /// Has an idle thread do the job, or puts it in line, unless there are to be more
    /// threads: then it comes back for a new one, which is counted.
    fn put(&self, job: Job, most: usize) -> Option<Job> {
        let mut queue = self.0.lock();
        if queue.idle.is_empty() && queue.threads < most {
            queue.threads += 1;
            return Some(job);
        }
        let idle = queue.put(job);
        drop(queue);
        idle.inspect(|idle| idle.unpark());
        None
    }

    /// The life of a thread.
    fn serve(&self, first: Option<Job>, most: impl Fn() -> usize) {
        let us = Arc::new(Parker::new());
        let mut next = first;
        while let Some(job) = next.take().or_else(|| self.next(&us, &most)) {
            // A job keeps its own panic; what is left is a destructor's.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                std::mem::forget(payload);
            }
        }
    }

    /// The next job, or `None` when there was none for long.
    fn next(&self, us: &Arc<Parker>, most: impl Fn() -> usize) -> Option<Job> {
        let end = Instant::now() + PATIENCE;
        let mut patient = true;
        loop {
            {
                let mut queue = self.0.lock();
                if let Some(job) = queue.jobs.pop_front() {
                    queue.forget(us);
                    return Some(job);
                }
                if !patient || queue.threads > most() {
                    queue.forget(us);
                    queue.threads -= 1;
                    return None;
                }
                if !queue.idle.iter().any(|idle| Arc::ptr_eq(idle, us)) {
                    queue.idle.push(Arc::clone(us));
                }
            }
            patient = us.park(Some(end));
        }
    }
}

impl JobQueue {
    /// Puts a job in line, and says whom to wake for it.
    fn put(&mut self, job: Job) -> Option<Arc<Parker>> {
        self.jobs.push_back(job);
        self.idle.pop()
    }

    /// The thread does not wait any more.
    fn forget(&mut self, us: &Arc<Parker>) {
        self.idle.retain(|idle| !Arc::ptr_eq(idle, us));
    }
}

/// Models of the line: no job is left in it when the last thread leaves. In models a
/// thread's patience ends when the others have had a turn.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread::{self, JoinHandle};

    #[derive(Default)]
    struct Bed {
        pool: HelperPool,
        done: AtomicUsize,
    }

    /// As [`submit`], where there is to be one thread at most.
    fn submit(bed: &Arc<Bed>) -> Option<JoinHandle<()>> {
        let (here, there) = (Arc::clone(bed), Arc::clone(bed));
        let job = move || {
            here.done.fetch_add(1, Ordering::Relaxed);
        };
        let job = bed.pool.put(Box::new(job), 1)?;
        Some(thread::spawn(move || there.pool.serve(Some(job), || 1)))
    }

    fn assert_all_done(bed: &Bed, jobs: usize) {
        let queue = bed.pool.0.lock();
        assert!(queue.jobs.is_empty(), "left in line");
        assert_eq!((queue.threads, queue.idle.len()), (0, 0));
        assert_eq!(bed.done.load(Ordering::Relaxed), jobs);
    }

    #[test]
    fn loom_a_job_against_a_thread_that_leaves() {
        loom::model(|| {
            let bed = Arc::new(Bed::default());
            let threads = [(); 3].map(|()| submit(&bed));
            let threads = threads.into_iter().flatten();
            threads.for_each(|thread| thread.join().unwrap());
            assert_all_done(&bed, 3);
        });
    }

    #[test]
    fn loom_two_that_bring_jobs() {
        loom::model(|| {
            let bed = Arc::new(Bed::default());
            let theirs = Arc::clone(&bed);
            let other = thread::spawn(move || submit(&theirs));
            let ours = submit(&bed);
            let threads = ours.into_iter().chain(other.join().unwrap());
            threads.for_each(|thread| thread.join().unwrap());
            assert_all_done(&bed, 2);
        });
    }
}
