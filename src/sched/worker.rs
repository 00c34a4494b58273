//! The worker: everything that one kernel thread owns to run coroutines.
//!
//! Lives here: the struct, spawning, waking, the run queue. How it runs them
//! is in `run.rs`, how a coroutine waits in `cx.rs`, how it is cancelled in
//! `cancel.rs`.
//!
//! Everything is plain memory behind `Cell`s and short borrows. The rule that makes the borrows safe from panics: no foreign code (a waker, a
//! destructor, a closure) runs while one is held (I5).

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::cancel::Limit;
use super::locals::Locals;
use super::own::OwnBlocks;
use super::pool::Pool;
use super::remote::{Message, Remote, Unstarted};
use super::stacks::Stacks;
use super::wake;
use crate::driver::{Clock, Driver};
use crate::switch::{Carrier, YielderPtr};
use crate::sys::mem::PAGE;
use crate::task::alias::{self, Ask};
use crate::task::{self, Addr, Flags, Header, JoinRef, Sites, Slot, Slots, State, Work};
use crate::util::section::{Section, SectionCell};

thread_local! {
    static LOCAL: Local = const {
        Local { worker: Cell::new(ptr::null()), carrier: Cell::new(ptr::null()) }
    };
}

/// What a thread knows about the worker that it is.
struct Local {
    worker: Cell<*const Worker>,
    /// What the running coroutine runs on; stale when none does.
    carrier: Cell<*const Carrier>,
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
    pub(crate) own_locals: Option<bool>,
    pub(crate) site: &'static Location<'static>,
}

/// Ticks (65.5 µs) of an era, as a power of two: 67 ms. Eras since the start of
/// a worker fit 32 bits for nine years.
pub(super) const ERA_BITS: u32 = 10;

/// What few tasks have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) name: Option<Arc<str>>,
    /// What the task is known by if it is not its address.
    pub(super) alias: Option<Addr>,
    /// Waits refused since the task was cancelled.
    pub(super) refusals: u32,
    /// The `timeout` that the task is inside, the one that ends first.
    pub(super) limit: Limit,
    /// Its coroutine locals.
    pub(super) locals: Locals,
}

/// One kernel thread's scheduler.
pub(crate) struct Worker {
    pub(super) pool: Arc<Pool>,
    /// Which of the pool's workers this is.
    pub(super) place: usize,
    pub(super) remote: &'static Remote,
    pub(super) slots: Slots,
    pub(super) queue: SectionCell<VecDeque<u32>>,
    pub(super) stacks: Stacks,
    pub(super) own: OwnBlocks,
    /// Whether a task that may have thread-locals of its own has them.
    own_by_default: bool,
    pub(super) driver: SectionCell<Driver>,
    /// The driver's, without a borrow of it.
    pub(super) clock: Clock,
    pub(super) extras: SectionCell<Slab<Extra>>,
    pub(super) sites: SectionCell<Sites>,
    /// When the driver turned last, for those who park now: its ticks, without
    /// the lower [`ERA_BITS`].
    pub(super) era: Cell<u32>,
    /// Operations that the running coroutine may do before it has to yield.
    pub(super) budget: Cell<u32>,
    /// Set once the main coroutine has ended: everybody else is cancelled.
    pub(super) stopping: Cell<bool>,
    /// The driver has events to dispatch.
    pub(super) events_pending: Cell<bool>,
    /// Kept for its capacity between uses.
    pub(super) woken: Cell<Vec<Waker>>,
    pub(super) mail: Cell<Vec<Message>>,
    /// Tasks that had ended when the pool's watchers were last told.
    pub(super) told: Cell<u64>,
    /// Mail came so soon after the last look that it pays to look out for it.
    pub(super) spins: Cell<bool>,
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

impl Worker {
    /// A worker for this thread, in this place of the pool;
    /// [`Worker::enter`] makes it the current one.
    pub(crate) fn new(pool: Arc<Pool>, place: usize, config: &super::Config) -> io::Result<Self> {
        super::forked::watch();
        let remote = pool.remotes()[place];
        let driver = Driver::new(&*config.backend)?;
        let slots = Slots::new(config.max_coroutines, remote.next_generation())?;
        let mut extras = Slab::new();
        // Index 0 stands for "none" in a slot.
        extras.insert(Extra::default());
        remote.mailbox.set_alarm(Some(driver.reactor.notifier()));
        Ok(Self {
            pool,
            place,
            remote,
            slots,
            queue: SectionCell::default(),
            stacks: Stacks::new(config.arena, config.shared, &remote.counters),
            own: OwnBlocks::new(config.arena.keep_warm, remote.index()),
            own_by_default: config.own_locals,
            clock: driver.clock().clone(),
            driver: SectionCell::new(driver),
            extras: SectionCell::new(extras),
            sites: SectionCell::default(),
            era: Cell::new(0),
            budget: Cell::new(0),
            stopping: Cell::new(false),
            events_pending: Cell::new(false),
            woken: Cell::default(),
            mail: Cell::default(),
            told: Cell::new(0),
            spins: Cell::new(false),
        })
    }

    /// The worker that this thread is, if it is one.
    #[inline(always)]
    pub(crate) fn current() -> Option<&'static Self> {
        let worker = LOCAL.with(|local| local.worker.get());
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
                LOCAL.with(|local| local.worker.set(ptr::null()));
            }
        }
        LOCAL.with(|local| local.worker.set(self));
        let _leave = Leave;
        f()
    }

    /// In a forked child: the worker is the parent's. Only stores.
    pub(super) fn forget() {
        LOCAL.with(|local| {
            local.worker.set(ptr::null());
            local.carrier.set(ptr::null());
        });
    }

    #[inline(always)]
    pub(super) fn set_carrier(carrier: *const Carrier) {
        LOCAL.with(|local| local.carrier.set(carrier));
    }

    /// Makes a block of thread-locals that is entered know who runs.
    pub(super) fn set_local(worker: &Self, carrier: *const Carrier) {
        LOCAL.with(|local| {
            local.worker.set(worker);
            local.carrier.set(carrier);
        });
    }

    /// The running coroutine's way back to its worker.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    #[inline(always)]
    pub(super) unsafe fn yielder() -> YielderPtr {
        // SAFETY: the worker set the carrier when it resumed the coroutine.
        LOCAL.with(|local| unsafe { Carrier::yielder(local.carrier.get()) })
    }

    /// Whether the address lies on the running coroutine's stack.
    ///
    /// # Safety
    ///
    /// - A coroutine runs on this thread.
    #[inline(always)]
    pub(super) unsafe fn runs_at(address: usize) -> bool {
        // SAFETY: the worker set the carrier when it resumed the coroutine.
        LOCAL.with(|local| unsafe { Carrier::holds(local.carrier.get(), address) })
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> u32 {
        self.remote.index()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether this is one of the pool's workers.
    pub(crate) fn is_of(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    pub(crate) fn max_coroutines(&self) -> u32 {
        self.slots.capacity()
    }

    /// The address of a live task.
    #[inline(always)]
    pub(crate) fn addr(&self, slot: &Slot) -> Addr {
        Addr::new(self.index(), slot.generation(), self.slots.index(slot))
    }

    /// Spawns a task that stays on this worker.
    ///
    /// # Errors
    ///
    /// All slots taken.
    pub(crate) fn spawn_local(&self, work: impl Work, plan: Plan) -> io::Result<JoinRef> {
        let Some(index) = self.slots.alloc() else {
            return Err(too_many(self.slots.capacity()));
        };
        let addr = self.addr(self.slots.slot(index));
        let (packet, join) = work.packet(Some(addr), plan.name.clone());
        self.fill(index, packet.as_ptr(), plan);
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
        if !self.pool.has_many() || self.stopping.get() {
            return self.spawn_local(work, plan);
        }
        if self.slots.live() as usize + self.remote.mailbox.jobs() >= self.slots.capacity() as usize
        {
            return Err(too_many(self.slots.capacity()));
        }
        let (packet, join) = work.packet(None, plan.name.clone());
        // SAFETY: a new packet's task side; work and output are `Send`.
        let task = unsafe { Unstarted::new(packet.as_ptr(), plan) };
        let offered = self.pool.offer(self.place, task);
        debug_assert!(offered.is_ok(), "a running worker owns its mailbox");
        Ok(join)
    }

    /// Takes a task that was waiting for any worker. Gives it back if all
    /// slots are taken.
    pub(super) fn adopt(&self, task: Unstarted) -> Result<(), Unstarted> {
        let Some(index) = self.slots.alloc() else {
            return Err(task);
        };
        let slot = self.slots.slot(index);
        let addr = self.addr(slot);
        let (packet, plan) = task.into_parts();
        // SAFETY: the packet lives: its task side is in our hands.
        let known = unsafe { (*packet).set_identity(addr) };
        self.fill(index, packet, plan);
        if let Err(alias) = known {
            self.with_extra(slot, |extra| extra.alias = Some(alias));
            let asked = alias::place(alias, addr);
            if asked.unparked {
                slot.set(Flags::TOKEN);
            }
            if asked.cancelled {
                slot.set(Flags::CANCELLED);
            }
        }
        Ok(())
    }

    /// Fills a New slot and queues it.
    fn fill(&self, index: u32, packet: *const Header, plan: Plan) {
        let slot = self.slots.slot(index);
        slot.packet.set(packet);
        // SAFETY: the packet lives: its task side is the slot's now.
        let polled = unsafe { (*packet).is_polled() };
        match plan.stack {
            _ if polled => slot.set(Flags::POLLED),
            StackPlan::Dedicated(bytes) => {
                slot.stack.set(bytes.div_ceil(PAGE) as u32);
                if plan.own_locals.unwrap_or(self.own_by_default) {
                    slot.set(Flags::OWN);
                }
            }
            StackPlan::Shared => slot.set(Flags::SHARED),
        }
        slot.site.set(self.sites.borrow_mut().intern(plan.site));
        if plan.name.is_some() {
            self.with_extra(slot, |extra| extra.name = plan.name);
        }
        if plan.unhooked {
            slot.set(Flags::UNHOOKED);
        }
        if self.stopping.get() {
            slot.set(Flags::CANCELLED);
        }
        self.remote.counters.spawned.add(1);
        self.push(index);
    }

    #[inline(always)]
    pub(super) fn push(&self, index: u32) {
        let mut queue = self.queue.brief();
        if queue.len() < queue.capacity() {
            queue.push_back(index);
        } else {
            drop(queue);
            self.push_last(index);
        }
    }

    /// Pushes where the queue has to grow.
    #[cold]
    fn push_last(&self, index: u32) {
        self.queue.borrow_mut().push_back(index);
    }

    /// Wakes a task of this worker, if the address is not stale.
    #[inline]
    pub(crate) fn wake(&self, addr: Addr) {
        if let Some((index, slot)) = self.slots.find(addr) {
            self.wake_slot(index, slot);
        }
    }

    #[inline]
    fn wake_slot(&self, index: u32, slot: &Slot) {
        match slot.state() {
            State::Parked => {
                slot.set_state(State::Queued);
                self.push(index);
            }
            State::Running => slot.set(Flags::NOTIFIED),
            // It will look at what it waits for when it runs.
            State::New | State::Queued | State::Free => {}
        }
    }

    /// Asks something of a task of this worker, if the address is not stale.
    #[inline]
    pub(crate) fn ask(&self, what: Ask, addr: Addr) {
        if let Some((index, slot)) = self.slots.find(addr) {
            match what {
                Ask::Wake => {}
                Ask::Unpark => slot.set(Flags::TOKEN),
                Ask::Cancel => slot.set(Flags::CANCELLED),
            }
            self.wake_slot(index, slot);
        }
    }

    /// A descriptor's meaning changes, or has changed: its waiters end.
    pub(crate) fn fd_gone(&self, fd: std::os::fd::RawFd) {
        let mut woken = self.woken.take();
        self.driver.borrow_mut().reactor.fd_gone(fd, &mut woken);
        self.wake_all(woken);
    }

    /// Wakes all, and keeps the list's memory for next time.
    pub(super) fn wake_all(&self, mut woken: Vec<Waker>) {
        for waker in woken.drain(..) {
            match wake::whom(&waker) {
                Some(addr) if addr.worker() == self.index() => self.wake(addr),
                _ => waker.wake(),
            }
        }
        self.woken.set(woken);
    }

    /// Reads the mail.
    pub(super) fn read_mail(&self) {
        // A coroutine that asks whether it is cancelled comes here: parked half-way
        // through, it would keep the others' messages.
        let _section = Section::enter();
        let mut mail = self.mail.take();
        self.remote.mailbox.read(&mut mail);
        for message in mail.drain(..) {
            match message {
                Message::Ask(what, addr) => self.ask(what, addr),
                Message::FdGone(fd) => self.fd_gone(fd),
                // The loop looks at the pool.
                Message::Stop => {}
                Message::Count { run, ballot } => {
                    if self.pool.is_run(run) {
                        ballot.cast(self);
                    }
                }
                Message::CancelAll { run, spared } => {
                    if self.pool.is_run(run) {
                        self.cancel_all(spared);
                    }
                }
            }
        }
        self.mail.set(mail);
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

    /// What the task is known by.
    pub(crate) fn identity(&self, slot: &Slot) -> Addr {
        let alias = match slot.extra.get() {
            0 => None,
            extra => self.extras.borrow()[extra as usize].alias,
        };
        alias.unwrap_or_else(|| self.addr(slot))
    }

    /// The name that the task was given.
    pub(crate) fn name(&self, slot: &Slot) -> Option<Arc<str>> {
        match slot.extra.get() {
            0 => None,
            extra => self.extras.borrow()[extra as usize].name.clone(),
        }
    }

    /// Where the task was spawned.
    pub(crate) fn site(&self, slot: &Slot) -> &'static Location<'static> {
        self.sites.borrow().get(slot.site.get())
    }

    /// Drops the handle's side; and the task's side with it, here and now, if a
    /// coroutine of ours that has started holds it.
    pub(crate) fn detach(&self, join: JoinRef) {
        let Some((_, slot)) = join.header().known().and_then(|addr| self.slots.find(addr)) else {
            return;
        };
        if slot.state() == State::New
            || slot.has(Flags::POLLED)
            || slot.packet.get() != join.as_ptr()
        {
            return;
        }
        let packet = slot.packet.replace(ptr::null());
        drop(join);
        // SAFETY: the slot's was the task's side, and the closure was taken
        // out when the task started.
        drop(unsafe { task::PacketRef::from_slot(packet) });
    }
}

#[cfg(all(test, not(loom)))]
impl Worker {
    /// How many timers and waiters for descriptors there are here.
    pub(crate) fn count_waits(&self) -> usize {
        self.driver.borrow().waits().count()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.remote.mailbox.set_alarm(None);
        self.remote
            .set_next_generation(self.slots.next_generation());
    }
}
