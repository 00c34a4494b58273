//! Spawning: what a coroutine runs, and how a task gets its slot.
//!
//! A task that stays on its worker gets a slot at once. One that any worker may
//! take waits in an injector queue, and gets its slot from the worker that accepts
//! it.

use std::io;

use super::current::CurrentTask;
use super::plan::{InjectedTask, Plan, StackPlan, too_many};
use super::worker::Worker;
use crate::shim::atomic::Ordering;
use crate::sys::mem::PAGE;
use crate::sys::simulated;
use crate::task::{Closure, Flags, Header, JoinRef, Slot, Work, unseen};
use crate::util::ignore_panic;

/// What a coroutine runs: the closure, then the end of its locals.
pub(crate) fn coroutine<F: FnOnce() -> T, T>(f: F) -> Closure<impl FnOnce() -> T> {
    // Takes no room in the frame that every parked coroutine keeps.
    struct EndOfLocals;
    impl Drop for EndOfLocals {
        #[inline(never)]
        fn drop(&mut self) {
            // In a forked child there is no coroutine any more.
            if let Some(cx) = CurrentTask::running() {
                cx.worker().end_locals(cx.slot());
                // Where it unwinds they end later (`Worker::resume_own`).
                if cx.has_own_tls() && !std::thread::panicking() {
                    cx.end_own_tls();
                }
            }
        }
    }
    Closure(move || {
        let _end = EndOfLocals;
        f()
    })
}

/// As [`coroutine`], for shared stacks, where each byte of a frame counts ten
/// million times: no guard, which costs 16 bytes. Where it unwinds its
/// locals end on the worker's own stack instead (`Worker::end`).
pub(crate) fn shared_coroutine<F: FnOnce() -> T, T>(f: F) -> Closure<impl FnOnce() -> T> {
    #[inline(never)]
    fn end_locals() {
        if let Some(cx) = CurrentTask::running() {
            cx.worker().end_locals(cx.slot());
        }
    }
    Closure(move || {
        let value = f();
        end_locals();
        value
    })
}

impl Worker {
    /// Spawns a task that stays on this worker.
    ///
    /// # Errors
    ///
    /// All slots taken.
    pub(crate) fn spawn_local(&self, work: impl Work, plan: Plan) -> io::Result<JoinRef> {
        let Some(index) = self.slots.alloc() else {
            return Err(too_many("this worker has", self.slots.capacity().into()));
        };
        let addr = self.addr(self.slots.slot(index));
        let (cell, join) = work.into_cell(Some(addr), plan.name.clone());
        self.fill(index, cell.as_ptr(), plan);
        self.step_spawned(self.slots.slot(index));
        unseen(|| self.push_cold(index));
        Ok(join)
    }

    /// Spawns a task that any worker of the runtime may take.
    ///
    /// # Errors
    ///
    /// All slots taken.
    pub(crate) fn spawn<W>(&self, work: W, plan: Plan) -> io::Result<JoinRef>
    where
        W: Work<Output: Send> + Send,
    {
        let here = plan.worker == Some(self.position);
        if here || !self.workers.has_many() || self.stopping.get() {
            return self.spawn_local(work, plan);
        }
        let position = self.workers.place(plan.worker, Some(self.position))?;
        let (task, join) = InjectedTask::new(work, plan);
        let injected = self.workers.inject(position, task);
        debug_assert!(injected.is_ok(), "the workers of a run own their mailboxes");
        Ok(join)
    }

    /// Takes one task of this worker's injector queue, if there is one and room for it;
    /// whether it did.
    pub(super) fn accept_injected(&self) -> bool {
        if !self.slots.has_room() {
            return false;
        }
        let task = self.workers.take_injected(self.position);
        task.map(|task| self.accept(task)).is_some()
    }

    /// Takes a task that was waiting for any worker, where there is room for it. It is
    /// the next to run.
    pub(super) fn accept(&self, task: InjectedTask) {
        let index = self.slots.alloc().expect("the caller has seen room");
        let slot = self.slots.slot(index);
        let addr = self.addr(slot);
        let (cell, plan) = task.into_parts();
        // Left by a worker that has ended, as all do now.
        let orphan = plan.worker.is_some_and(|worker| worker != self.position);
        // SAFETY: the cell lives: its task's side is ours (I14).
        let known = unsafe { (*cell).coroutine().place(addr) };
        self.fill(index, cell, plan);
        if orphan {
            slot.set(Flags::CANCELLED);
        }
        if let Some((id, early)) = known {
            self.with_extra(slot, |extra| extra.provisional_id = Some(id));
            if early.unparked {
                slot.set(Flags::TOKEN);
            }
            if early.cancelled {
                slot.set(Flags::CANCELLED);
            }
        }
        self.step_spawned(slot);
        self.queue.borrow_mut().push_front(index);
    }

    /// Fills a New slot.
    fn fill(&self, index: u32, cell: *const Header, plan: Plan) {
        let slot = self.slots.slot(index);
        slot.cell.set(cell);
        // SAFETY: the cell lives: its task's side is the slot's now (I14).
        let polled = unsafe { (*cell).is_polled() };
        match plan.stack {
            _ if polled => slot.set(Flags::POLLED),
            StackPlan::Dedicated(bytes) => {
                slot.set_stack_pages(bytes.div_ceil(PAGE) as u32);
                if plan.own_tls.unwrap_or(self.own_tls) {
                    slot.set(Flags::OWN_TLS);
                }
            }
            StackPlan::Shared => slot.set(Flags::SHARED),
        }
        slot.location
            .set(self.spawn_locations.borrow_mut().intern(plan.location));
        if plan.name.is_some() {
            self.with_extra(slot, |extra| extra.name = plan.name);
        }
        if plan.thread.is_some() {
            self.with_extra(slot, |extra| extra.thread = plan.thread);
        }
        if plan.unhooked {
            slot.set(Flags::UNHOOKED);
        }
        if self.stopping.get() {
            slot.set(Flags::CANCELLED);
        }
        self.handle.counters.spawned.add(1);
        if let Some(world) = simulated::world() {
            world.born(index);
        }
        if plan.daemon {
            self.begin_daemon(slot);
        }
    }

    /// Those that wait for the others may have waited for this one.
    #[cold]
    fn begin_daemon(&self, slot: &Slot) {
        self.with_extra(slot, |extra| extra.daemon = true);
        self.workers.daemons.fetch_add(1, Ordering::Relaxed);
        if self.workers.quiescence.any() {
            self.workers.quiescence.notify();
        }
    }

    /// Drops what locals a task has, the youngest first; also what the
    /// destructors begin. Called by the coroutine; and once more when it is
    /// gone, for what the destructor of a result that is not joined has begun.
    #[inline(always)]
    pub(super) fn end_locals(&self, slot: &Slot) {
        if slot.extra.get() != 0 {
            self.end_locals_in_extra(slot);
        }
    }

    #[inline(never)]
    fn end_locals_in_extra(&self, slot: &Slot) {
        while let Some(end) = self.with_extra(slot, |extra| extra.locals.take_youngest()) {
            // A panic in a destructor was reported by the panic hook. It must
            // not keep the others from their end.
            ignore_panic(end);
        }
    }
}
