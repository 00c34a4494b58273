//! Stacks of generators: guarded ones, from an arena that all threads share.
//!
//! A worker's arena would not do: a generator may outlive every worker. The lock is
//! held for as long as it takes to find a stack, and is a no-park scope.

use std::cell::OnceCell;
use std::io;

use crate::sched::{Worker, watch_forks};
use crate::stack::arena::Arena;
use crate::stack::overflow::{self, AltStack};
use crate::stack::{ArenaConfig, StackBounds, StackId};
use crate::sys::fork::PerProcess;
use crate::util::no_park::NoParkMutex;

/// A forked child begins anew: the lock may have been held.
static STACKS: PerProcess<GeneratorStacks> = PerProcess::new();

thread_local! {
    /// Where this thread handles an overflow; a worker has its own.
    static ALT_STACK: OnceCell<Option<AltStack>> = const { OnceCell::new() };
}

#[derive(Debug)]
struct GeneratorStacks(NoParkMutex<Arena>);

impl Default for GeneratorStacks {
    fn default() -> Self {
        Self(NoParkMutex::new(Arena::new(ArenaConfig {
            keep_warm: 256,
            ..ArenaConfig::default()
        })))
    }
}

/// A stack that is in use. If it is forgotten its memory stays as it is, for ever.
#[derive(Debug)]
pub(super) struct Lease {
    id: StackId,
    bounds: StackBounds,
    /// Where it came from.
    stacks: &'static GeneratorStacks,
}

impl Lease {
    /// # Errors
    ///
    /// Those of [`Arena::take`], or the overflow report can't be installed.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        overflow::install()?;
        // Before the lock is taken for the first time.
        watch_forks();
        if Worker::current().is_none() {
            // Without one an overflow ends the process as well, only silently.
            let _ = ALT_STACK.try_with(|alt| {
                alt.get_or_init(|| overflow::ensure_alt_stack().ok());
            });
        }
        let stacks = STACKS.get();
        let mut arena = stacks.0.lock();
        let (id, _) = arena.take(size)?;
        let bounds = arena.bounds(id);
        Ok(Self { id, bounds, stacks })
    }

    pub(super) fn bounds(&self) -> StackBounds {
        self.bounds
    }
}

/// How many sizes there are, and how many stacks are in use.
pub(crate) fn counts() -> (usize, usize) {
    STACKS.get().0.lock().sizes_and_used()
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A parent's stack in its child stays: the child has the parent's lock as it
        // was at the fork.
        if std::ptr::eq(self.stacks, STACKS.get()) {
            // SAFETY: taken from there, given back once; the owner has dropped what
            // ran on it (`RawGenerator`).
            let _ = unsafe { self.stacks.0.lock().give(self.id) };
        }
    }
}
