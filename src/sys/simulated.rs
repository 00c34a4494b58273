//! The simulator's seam: whom a thread that runs a simulation (`src/sim`) asks before it
//! asks the kernel, the clock, or chance. Without the feature `sim` nobody is ever
//! asked, and nothing is left of the questions.

use std::any::Any;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_int, c_long};
use std::ptr::NonNull;
use std::time::Duration;

/// What stands between a simulation's coroutines and the world. It is called on the
/// thread that runs them.
#[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "nobody is asked"))]
pub(crate) trait World {
    fn as_any(&self) -> &dyn Any;

    /// The answer to a system call, unless the kernel is to give it.
    fn answer(&self, number: c_long, args: [usize; 6]) -> Option<Result<usize, c_int>>;

    /// What the kernel has answered.
    fn answered(&self, number: c_long, args: [usize; 6], answer: Result<usize, c_int>);

    /// The address of a host, in digits, if the name is known here.
    fn resolve(&self, name: &CStr) -> Option<CString>;

    /// The name of the machine that runs.
    fn host_name(&self) -> Option<&str>;

    /// Which of those in the run queue is next.
    fn next(&self, queue: &VecDeque<u32>) -> usize;

    /// A coroutine has got this slot.
    fn born(&self, slot: u32);

    /// The running coroutine suspends.
    fn suspends(&self);

    /// Whether a call that hooks are about to make on a descriptor fails at once, because
    /// it is interrupted, or finds nothing; `never_waits`, whatever the descriptor's flags.
    fn refuses(&self, fd: c_int, never_waits: bool) -> Result<(), c_int>;

    /// How long a sync of a file is to take, before it is made.
    fn sync_takes(&self, fd: c_int) -> Option<Duration>;

    /// Whether the last call moved a part of its bytes over this descriptor, and that is to
    /// be all.
    fn ended_short(&self, fd: c_int) -> bool;

    /// One of two things happens as well as the other; whether it is this.
    fn tosses(&self) -> bool;

    /// Whether the running coroutine is to let others run before its call.
    fn preempts(&self) -> bool;

    /// Code of this thread makes a system call by itself, with these registers. Called by a
    /// signal's handler.
    fn passed(&self, number: c_long, args: [usize; 6], registers: &libc::ucontext_t);
}

/// The world that a thread is in.
pub(crate) type Entered = Option<NonNull<dyn World>>;

#[cfg(feature = "sim")]
mod seam {
    use std::cell::Cell;

    use super::{Entered, World};

    thread_local! {
        static ENTERED: Cell<Entered> = const { Cell::new(None) };
    }

    #[inline(always)]
    pub(crate) fn world() -> Option<&'static dyn World> {
        // SAFETY: `enter`'s contract; who asks does not keep it beyond the simulation,
        // whose code this thread runs.
        ENTERED.get().map(|world| unsafe { world.as_ref() })
    }

    /// What [`enter`] takes, for a coroutine that has thread-locals of its own.
    pub(crate) fn entered() -> Entered {
        ENTERED.get()
    }

    /// # Safety
    ///
    /// - The world outlives what this thread does before the next call of this.
    pub(crate) unsafe fn enter(world: Entered) {
        ENTERED.set(world);
    }
}

#[cfg(not(feature = "sim"))]
mod seam {
    use super::{Entered, World};

    #[inline(always)]
    pub(crate) const fn world() -> Option<&'static dyn World> {
        None
    }

    #[inline(always)]
    pub(crate) const fn entered() -> Entered {
        None
    }

    /// # Safety
    ///
    /// - None.
    #[inline(always)]
    pub(crate) unsafe fn enter(_: Entered) {}
}

pub(crate) use seam::{enter, entered, world};
