//! What a spawn decides: the plan of one task, the configuration of a worker,
//! and an injected task, which waits for any worker to take it.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::thread_seat::ThreadSeat;
use crate::driver::Backend;
use crate::stack::ArenaConfig;
use crate::task::{Header, JoinError, JoinRef, TaskRef, Work};
use crate::util::ignore_panic;

/// What a runtime's builder decides about each worker.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What the workers wait with.
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) max_coroutines: u32,
    pub(crate) arena: ArenaConfig,
    pub(crate) shared: SharedConfig,
    /// Each worker has a processor of its own.
    pub(crate) pin: bool,
    /// A worker that is held for longer is reported.
    pub(crate) watchdog: Option<Duration>,
    /// Whether coroutines have thread-locals of their own unless their builder
    /// says otherwise.
    pub(crate) own_tls: bool,
    pub(crate) threads: ThreadsPlan,
}

/// Which of the threads that coroutines start are coroutines, and how.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
pub(crate) struct ThreadsPlan {
    /// Whether any are.
    pub(crate) enabled: bool,
    /// Bytes of the stacks of those that do not say.
    pub(crate) stack: Option<usize>,
    /// Which start routines' threads stay the kernel's.
    pub(crate) keep_real: Option<KeepReal>,
    /// Told which threads had better be the kernel's.
    pub(crate) learn: Option<Learn>,
}

/// Whether a thread with this start routine stays a thread of the kernel.
pub(crate) type KeepReal = Arc<dyn Fn(*const c_void) -> bool + Send + Sync>;

/// Told of a thread that waits where nobody sees it, by the pattern that
/// `crore run --real` knows its start routine by.
pub(crate) type Learn = Arc<dyn Fn(&str) + Send + Sync>;

impl ThreadsPlan {
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn makes_coroutine(&self, start: *const c_void) -> bool {
        let keeps = || self.keep_real.as_ref().is_some_and(|keep| keep(start));
        self.enabled && !keeps()
    }
}

impl fmt::Debug for ThreadsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadsPlan")
            .field("enabled", &self.enabled)
            .field("stack", &self.stack)
            .finish_non_exhaustive()
    }
}

/// How many shared stacks there are, and how much they keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedConfig {
    pub(crate) stacks: u32,
    pub(crate) bytes: usize,
    pub(crate) max_saved_bytes: u64,
    /// Check mode.
    pub(crate) check: bool,
}

/// What kind of stack a task runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StackPlan {
    /// One of its own, of this many bytes.
    Dedicated(usize),
    /// One that it shares: see [`spawn_shared`](crate::spawn_shared).
    Shared,
}

/// How a task is to be run: what a spawn says besides the closure.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Bytes of a dedicated stack, or a shared one.
    pub(crate) stack: StackPlan,
    pub(crate) name: Option<Arc<str>>,
    /// Hooks let its calls through to libc.
    pub(crate) unhooked: bool,
    /// Nobody waits for its end when a runtime drains.
    pub(crate) daemon: bool,
    /// Whether it has thread-locals of its own; `None`: as the runtime says.
    pub(crate) own_tls: Option<bool>,
    /// The one worker that is to run it, by position; `None`: any.
    pub(crate) worker: Option<usize>,
    /// The thread that it stands for, if it does.
    pub(crate) thread: Option<ThreadSeat>,
    pub(crate) location: &'static Location<'static>,
}

/// A task in an injector queue, which no worker has taken yet: the task's side of
/// its cell with the work inside, and how it is to be run.
pub(crate) struct InjectedTask {
    cell: *const Header,
    plan: Plan,
}

// SAFETY: `new` takes only work that is `Send`, with an output that is, and what
// both sides touch meanwhile is an atomic word (I14).
unsafe impl Send for InjectedTask {}

impl InjectedTask {
    pub(crate) fn new<W>(work: W, plan: Plan) -> (Self, JoinRef)
    where
        W: Work<Output: Send> + Send,
    {
        let (cell, join) = work.into_cell(None, plan.name.clone());
        let cell = cell.as_ptr();
        (Self { cell, plan }, join)
    }

    /// Whether one worker, and no other, is to run it.
    pub(super) fn is_pinned(&self) -> bool {
        self.plan.worker.is_some()
    }

    /// Gives the task to the caller, which has to run or to end it.
    pub(super) fn into_parts(self) -> (*const Header, Plan) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again and does not drop.
        (this.cell, unsafe { ptr::read(&this.plan) })
    }
}

impl Drop for InjectedTask {
    /// No worker will run it.
    fn drop(&mut self) {
        // SAFETY: the task's side of a live cell (I14), ours: `into_parts` has not
        // given it away.
        let cell = unsafe { TaskRef::from_slot(self.cell) };
        let cell = cell.expect("an injected task has a cell");
        // The work's destructor is foreign code.
        //
        // SAFETY: it was never run or polled, so the work is there.
        ignore_panic(|| unsafe { cell.discard(JoinError::cancelled()) });
    }
}

/// The error of a spawn that finds no room; `what` has so many tasks.
#[cold]
pub(crate) fn too_many(what: &str, limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        format!(
            "{what} {limit} coroutines, the most it may have; raise \
             Runtime::builder().max_coroutines(n), or wait for some to end"
        ),
    )
}
