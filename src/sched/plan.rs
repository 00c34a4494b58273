//! What a spawn decides: the plan of one task, the configuration of a worker,
//! and an injected task, which waits for any worker to take it.

use std::io;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;

use crate::driver::Backend;
use crate::stack::ArenaConfig;
use crate::task::provisional_id;
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
    /// Whether coroutines have thread-locals of their own unless their builder
    /// says otherwise.
    pub(crate) own_tls: bool,
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
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Bytes of a dedicated stack, or a shared one.
    pub(crate) stack: StackPlan,
    pub(crate) name: Option<Arc<str>>,
    /// Hooks let its calls through to libc.
    pub(crate) unhooked: bool,
    /// Whether it has thread-locals of its own; `None`: as the runtime says.
    pub(crate) own_tls: Option<bool>,
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
        // An id that it was given early leads nowhere now.
        cell.known().into_iter().for_each(provisional_id::discard);
        // The work's destructor is foreign code.
        //
        // SAFETY: it was never run or polled, so the work is there.
        ignore_panic(|| unsafe { cell.discard(JoinError::cancelled()) });
    }
}

/// The error of a spawn that finds all slots taken.
#[cold]
pub(crate) fn too_many(limit: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        format!(
            "{limit} coroutines are alive on this worker, the most it may have; raise \
             Runtime::builder().max_coroutines(n), or wait for some to end"
        ),
    )
}
