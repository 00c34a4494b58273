//! The worker: everything that one kernel thread owns to run coroutines.
//!
//! Lives here: the struct, which worker and coroutine a thread runs, the run queue,
//! and what a task is known by. All that a worker does stands in files above, one
//! `impl Worker` each: `setup.rs` makes it, `run.rs` is its loop, `spawn.rs`,
//! `wake.rs`, `end.rs` and `cancel.rs` change its tasks, `inbox.rs` reads its mail.
//!
//! Everything is plain memory behind `Cell`s and short borrows. The rule that makes
//! the borrows safe from panics: no foreign code (a waker, a destructor, a closure)
//! runs while one is held (I5).

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::ends;
use super::extra::Extra;
use super::plan::ThreadsPlan;
use super::stacks::Stacks;
use super::thread_seat::ThreadSeat;
use super::tls_blocks::TlsBlocks;
use super::trim_schedule::TrimSchedule;
use super::worker_handle::{Message, WorkerHandle};
use super::workers::Workers;
use crate::driver::{Clock, DeregisterFn, Driver, Moment};
use crate::switch::{self, Carrier, YielderPtr};
use crate::sys::era;
use crate::sys::simulated;
use crate::task::{Addr, Slot, Slots, SpawnLocations};
use crate::util::no_park::NoParkCell;

thread_local! {
    static THIS_THREAD: ThisThread = const {
        ThisThread {
            worker: Cell::new(ptr::null()),
            carrier: Cell::new(ptr::null()),
            entered: Cell::new(0),
        }
    };
}

/// What a thread knows about the worker that it is.
struct ThisThread {
    worker: Cell<*const Worker>,
    /// What the running coroutine runs on; stale when none does.
    carrier: Cell<*const Carrier>,
    /// Where the thread's own stack ended when it became the worker.
    entered: Cell<usize>,
}

/// Ticks (65.5 µs) in a unit of park time, as a power of two: 67 ms. Park times since
/// the start of a worker fit 32 bits for nine years.
pub(super) const PARK_TIME_BITS: u32 = 10;

/// One kernel thread's scheduler.
pub(crate) struct Worker {
    /// All workers of the runtime.
    pub(super) workers: Arc<Workers>,
    /// Which of them this is.
    pub(super) position: usize,
    /// The half of this worker that other threads see.
    pub(super) handle: &'static WorkerHandle,
    pub(super) slots: Slots,
    pub(super) queue: NoParkCell<VecDeque<u32>>,
    pub(super) stacks: Stacks,
    pub(super) trim: TrimSchedule,
    /// Where the worker itself runs.
    pub(super) own_stack: Range<usize>,
    pub(super) tls: TlsBlocks,
    /// Whether a task that may have thread-locals of its own has them.
    pub(super) own_tls: bool,
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) threads: ThreadsPlan,
    pub(super) driver: NoParkCell<Driver>,
    /// The driver's, without a borrow of it; both.
    pub(super) clock: Clock,
    pub(super) deregister: DeregisterFn,
    /// Which ends of descriptors it has told its waiters of.
    pub(super) ends: ends::Reader,
    pub(super) extras: NoParkCell<Slab<Extra>>,
    pub(super) spawn_locations: NoParkCell<SpawnLocations>,
    /// The park time of tasks that park now: the driver's ticks when it was last
    /// looked at, without the lower [`PARK_TIME_BITS`].
    pub(super) park_time: Cell<u32>,
    /// Operations that the running coroutine may do before it has to yield.
    pub(super) budget: Cell<u32>,
    /// When the driver was polled last.
    pub(super) polled: Cell<Moment>,
    /// Resumes after which everybody has run who was woken by that.
    pub(super) round: Cell<u64>,
    /// Set once the main coroutine has ended: all others are cancelled.
    pub(super) stopping: Cell<bool>,
    /// The driver has events to dispatch.
    pub(super) events_pending: Cell<bool>,
    /// So many in the run queue, and none behind them, may be new or woken; see `look_ahead.rs`.
    pub(super) cold: Cell<usize>,
    /// Kept for its capacity between uses.
    pub(super) woken: Cell<Vec<Waker>>,
    pub(super) mail: Cell<Vec<Message>>,
    /// Tasks that had ended when the quiescence waiters were last notified.
    pub(super) ended_notified: Cell<u64>,
    /// Set where a thread runs this in pieces (`driven.rs`).
    pub(super) driven: Cell<bool>,
    /// The coroutine that one has called, and how often that was done.
    pub(super) callee: Cell<u32>,
    pub(super) calls: Cell<u64>,
    /// Shared coroutines that run on a second stack of ours.
    pub(super) grown_shared: Cell<u32>,
    /// The simulation that its thread runs, if it runs one.
    pub(super) world: simulated::Entered,
    /// Mail came so soon after the last look that it pays to look out for it.
    pub(super) spins: Cell<bool>,
    /// What the running coroutine is about to wait for.
    #[cfg(feature = "trace")]
    pub(super) noted_wait: Cell<Option<crate::driver::WaitTarget>>,
}

impl Worker {
    /// The worker that this thread is, if it is one.
    #[inline(always)]
    pub(crate) fn current() -> Option<&'static Self> {
        let worker = THIS_THREAD.with(|local| local.worker.get());
        // SAFETY: `enter` set it and takes it back before the worker ends. The
        // reference must not be kept for longer than the current call, which
        // no caller does; on a coroutine it is valid as long as that runs.
        unsafe { worker.as_ref() }
    }

    /// Makes this the thread's worker while `f` runs.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                THIS_THREAD.with(|local| local.worker.set(ptr::null()));
            }
        }
        era::worker_begins();
        THIS_THREAD.with(|local| {
            local.worker.set(self);
            local.entered.set(switch::stack_pointer());
        });
        let _leave = Leave;
        f()
    }

    /// Whether this thread is a worker and would have left it, if its own stack, or
    /// another one above, ended there.
    #[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
    pub(super) fn is_left_at(stack_pointer: usize) -> bool {
        THIS_THREAD
            .with(|local| !local.worker.get().is_null() && stack_pointer > local.entered.get())
    }

    /// In a forked child: the worker is the parent's. Only stores.
    pub(super) fn forget() {
        THIS_THREAD.with(|local| {
            local.worker.set(ptr::null());
            local.carrier.set(ptr::null());
        });
    }

    /// What the running coroutine runs on.
    #[inline(always)]
    pub(super) fn carrier() -> *const Carrier {
        THIS_THREAD.with(|local| local.carrier.get())
    }

    #[inline(always)]
    pub(super) fn set_carrier(carrier: *const Carrier) {
        THIS_THREAD.with(|local| local.carrier.set(carrier));
    }

    /// Tells a TLS block that is entered which worker and coroutine run.
    pub(super) fn set_local(worker: &Self, carrier: *const Carrier) {
        THIS_THREAD.with(|local| {
            local.worker.set(worker);
            local.carrier.set(carrier);
        });
    }

    /// Where the carrier lies that runs on this thread, or ran last; 0 if none has.
    pub(super) fn carrier_address() -> usize {
        THIS_THREAD.with(|local| local.carrier.get().addr())
    }

    /// The running coroutine's yielder: its way back to its worker.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    #[inline(always)]
    pub(super) unsafe fn yielder() -> YielderPtr {
        // SAFETY: the worker set the carrier, which it installed (I3), when it
        // resumed the coroutine.
        THIS_THREAD.with(|local| unsafe { Carrier::yielder(local.carrier.get()) })
    }

    /// Whether the address lies on the running coroutine's stack.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    #[inline(always)]
    pub(super) unsafe fn runs_at(address: usize) -> bool {
        // SAFETY: as in `yielder` (I3).
        THIS_THREAD.with(|local| unsafe { Carrier::holds(local.carrier.get(), address) })
    }

    /// The running coroutine's stack.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    pub(super) unsafe fn stack() -> Range<usize> {
        // SAFETY: as in `yielder` (I3).
        THIS_THREAD.with(|local| unsafe { Carrier::stack(local.carrier.get()) })
    }

    /// Whether any of `len` bytes lies on the stack of the coroutine that runs.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    pub(super) unsafe fn stack_holds_any(address: usize, len: usize) -> bool {
        // SAFETY: as in `yielder` (I3).
        THIS_THREAD.with(|local| unsafe { Carrier::holds_any(local.carrier.get(), address, len) })
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> u32 {
        self.handle.index()
    }

    pub(crate) fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Which of them this is.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Whether this is one of these workers.
    pub(crate) fn is_of(&self, workers: &Arc<Workers>) -> bool {
        Arc::ptr_eq(&self.workers, workers)
    }

    /// The address of a live task.
    #[inline(always)]
    pub(crate) fn addr(&self, slot: &Slot) -> Addr {
        Addr::new(self.index(), slot.generation(), self.slots.index(slot))
    }

    /// As [`Worker::push`], of one that has not run for long.
    #[inline(always)]
    pub(super) fn push_cold(&self, index: u32) {
        self.cold.set(self.push(index));
    }

    /// To the end of the run queue; how many are in it now.
    #[inline(always)]
    pub(super) fn push(&self, index: u32) -> usize {
        let mut queue = self.queue.brief();
        let before = queue.len();
        if before < queue.capacity() {
            queue.push_back(index);
        } else {
            drop(queue);
            self.push_last(index);
        }
        before + 1
    }

    /// Pushes where the queue has to grow.
    #[cold]
    fn push_last(&self, index: u32) {
        self.queue.borrow_mut().push_back(index);
    }

    /// Works on a task's rare things; makes room for them if there are none.
    pub(super) fn with_extra<R>(&self, slot: &Slot, f: impl FnOnce(&mut Extra) -> R) -> R {
        let mut extras = self.extras.borrow_mut();
        if slot.extra.get() == 0 {
            let index = extras.insert(Extra::default());
            slot.extra
                .set(u32::try_from(index).expect("fewer extras than slots"));
        }
        f(&mut extras[slot.extra.get() as usize])
    }

    /// Whether a drain does not wait for the task.
    pub(crate) fn is_daemon(&self, slot: &Slot) -> bool {
        match slot.extra.get() {
            0 => false,
            extra => self.extras.borrow()[extra as usize].daemon,
        }
    }

    /// What the task is known by.
    pub(crate) fn identity(&self, slot: &Slot) -> Addr {
        let provisional = match slot.extra.get() {
            0 => None,
            extra => self.extras.borrow()[extra as usize].provisional_id,
        };
        provisional.unwrap_or_else(|| self.addr(slot))
    }

    /// The name that the task was given.
    pub(crate) fn name(&self, slot: &Slot) -> Option<Arc<str>> {
        match slot.extra.get() {
            0 => None,
            extra => self.extras.borrow()[extra as usize].name.clone(),
        }
    }

    /// Bytes of a stack's guard, at least.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn guard_bytes(&self) -> usize {
        self.stacks.guard_bytes()
    }

    /// The thread that a task stands for which starts now.
    pub(super) fn take_thread(&self, slot: &Slot) -> Option<ThreadSeat> {
        match slot.extra.get() {
            0 => None,
            extra => self.extras.borrow_mut()[extra as usize].thread.take(),
        }
    }

    /// Where the task was spawned.
    pub(crate) fn spawn_location(&self, slot: &Slot) -> &'static Location<'static> {
        self.spawn_locations.borrow().get(slot.location.get())
    }
}

#[cfg(all(test, not(loom)))]
impl Worker {
    /// How many timers and waiters for descriptors there are here.
    pub(crate) fn count_waits(&self) -> usize {
        self.driver.borrow().waits().count()
    }
}
