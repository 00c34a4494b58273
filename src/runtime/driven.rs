//! `Driven`: a runtime on a thread that keeps its own control flow. Hidden: libco's API in
//! `crates/c` is made of it.

use std::io;
use std::mem::forget;
use std::os::fd::RawFd;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use crate::hook;
use crate::runtime::builder::RuntimeBuilder;
use crate::runtime::threads::SCHEDULER;
use crate::sched::{self, CurrentTask, Plan, StackPlan, Worker, coroutine, shared_coroutine};
use crate::stack::overflow;
use crate::sys::report::{abort_on_unwind, die};
use crate::task::{self, Addr};

/// See the [module](self). It stays on its thread.
#[doc(hidden)]
pub struct Driven {
    worker: Worker,
}

impl Driven {
    /// One for this thread, that lives for ever; of the builder's workers it is the only one.
    ///
    /// # Errors
    ///
    /// As [`RuntimeBuilder::build`] and [`Runtime::run`](crate::Runtime::run).
    pub fn new(builder: RuntimeBuilder) -> io::Result<&'static Self> {
        let runtime = Box::leak(Box::new(builder.workers(1).build()?));
        forget(overflow::ensure_alt_stack()?);
        let workers = runtime.handle.workers();
        forget(workers.restart());
        let worker = Worker::new(Arc::clone(workers), 0, &runtime.config)?;
        worker.drive();
        let driven = &*Box::leak(Box::new(Self { worker }));
        driven.enter(hook::worker_begins);
        Ok(driven)
    }

    /// In a coroutine the thread has the worker already.
    fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        match Worker::current() {
            Some(_) => f(),
            None => self.worker.enter(|| abort_on_unwind(SCHEDULER, f)),
        }
    }

    /// A coroutine that has not begun; on a stack of so many bytes of its own, or a shared
    /// one (`None`). It is unhooked.
    ///
    /// # Errors
    ///
    /// As [`Builder::spawn`](crate::Builder::spawn).
    ///
    /// # Safety
    ///
    /// - On a shared stack: the contract of [`spawn_shared`](crate::spawn_shared).
    #[track_caller]
    pub unsafe fn spawn(
        &self,
        stack: Option<usize>,
        f: impl FnOnce() + 'static,
    ) -> io::Result<u64> {
        let plan = Plan {
            stack: stack.map_or(StackPlan::Shared, StackPlan::Dedicated),
            name: None,
            unhooked: true,
            daemon: false,
            own_tls: Some(false),
            worker: None,
            thread: None,
            location: Location::caller(),
        };
        let join = self.enter(|| match stack {
            Some(_) => self.worker.spawn_local(coroutine(f), plan),
            None => self.worker.spawn_local(shared_coroutine(f), plan),
        })?;
        let addr = join.header().known().expect("a local task has a slot");
        self.worker.detach(join);
        Ok(addr.to_bits())
    }

    /// Runs a coroutine until it suspends; in another one that waits meanwhile. `false`:
    /// it has ended, or runs.
    pub fn call(&self, coroutine: u64) -> bool {
        let addr = Addr::from_bits(coroutine);
        match CurrentTask::running() {
            Some(cx) => cx.call(addr),
            None => self.enter(|| self.worker.call(addr)),
        }
    }

    /// One turn of the loop, outside of coroutines: see `Worker::turn`.
    pub fn turn(&self, until: Option<Instant>) {
        if CurrentTask::present() {
            return;
        }
        if let Err(error) = self.enter(|| self.worker.turn(until)) {
            die(format_args!("a worker's reactor failed: {error}"));
        }
    }

    /// Ends a suspended coroutine without unwinding it: its frames stay as they are.
    pub fn forget(&self, coroutine: u64) -> bool {
        self.enter(|| self.worker.forget_task(Addr::from_bits(coroutine)))
    }
}

/// Suspends the calling coroutine until it is woken, called, or `until` has come; may
/// return early. Outside of coroutines it returns.
#[doc(hidden)]
pub fn suspend(until: Option<Instant>) {
    if let Some(cx) = CurrentTask::running() {
        cx.park_regardless_until(until);
    }
}

/// Waits in the calling coroutine until a stream, that is known to have nothing to read, has
/// something; `false`: ask `poll`. Also where it is unhooked.
#[doc(hidden)]
pub fn has_become_readable(fd: RawFd, until: Option<Instant>) -> bool {
    CurrentTask::running().is_some_and(|cx| cx.has_become_readable(fd, until))
}

/// Has a coroutine run that is suspended, once others have.
#[doc(hidden)]
pub fn wake(coroutine: u64) {
    sched::wake(Addr::from_bits(coroutine));
}

/// Switches the calling coroutine's hooks off, or on; whether they were off.
#[doc(hidden)]
pub fn set_unhooked(off: bool) -> bool {
    task::set_unhooked(off)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Runtime;
    use crate::sys::testing::in_child;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn who_has_not_begun_is_dropped_and_who_waits_is_left_as_it_is() {
        // In a child: it has its worker for ever.
        let name = concat!(
            module_path!(),
            "::who_has_not_begun_is_dropped_and_who_waits_is_left_as_it_is"
        );
        let output = in_child(name, || {
            let driven = Driven::new(Runtime::builder()).unwrap();
            for begins in [false, true] {
                let (owned, left) = (Rc::new(()), Rc::new(Cell::new(0)));
                let (theirs, ran) = (Rc::clone(&owned), Rc::clone(&left));
                let body = move || {
                    ran.set(1);
                    suspend(None);
                    drop(theirs);
                    ran.set(2);
                };
                // SAFETY: on a stack of its own.
                let one = unsafe { driven.spawn(Some(64 << 10), body) }.unwrap();
                assert_eq!(begins, begins && driven.call(one));
                assert!(driven.forget(one));
                assert!(!driven.forget(one) && !driven.call(one));
                assert_eq!(left.get(), u32::from(begins));
                assert_eq!(Rc::strong_count(&owned), 1 + usize::from(begins));
                driven.turn(Some(Instant::now()));
            }
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
