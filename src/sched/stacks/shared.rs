//! Shared stacks of a worker, and which task's frames are in which.

use std::io;

use crate::sched::counters::Counters;
use crate::sched::plan::SharedConfig;
use crate::stack::StackId;
use crate::stack::arena::Arena;
use crate::stack::frame_pool::{FramePool, FramePoolConfig};
use crate::stack::shared::{Resident, Saved, SharedCounters, SharedStack};
use crate::switch::Carrier;
use crate::task::{Slot, Slots, TaskState};

/// With more bytes saved than this, frames that wait are packed. Fewer are in the caches,
/// where they are sooner copied as they are. (All are packed where assertions are on, so
/// that tests have both.)
const MANY: u64 = if cfg!(debug_assertions) { 0 } else { 4 << 20 };

/// All shared stacks of a worker, and the pool of their frames.
pub(super) struct SharedStacks {
    max_saved_bytes: u64,
    hosts: Vec<StackHost>,
    /// Stacks whose owner has ended, each at most once; one that has a new
    /// owner since is passed over.
    idle: Vec<u32>,
    /// The stack that the next task without an idle one is bound to.
    next: u32,
    pool: FramePool,
    counters: &'static Counters,
}

/// A shared stack with its carrier.
struct StackHost {
    id: StackId,
    stack: SharedStack,
    carrier: *mut Carrier,
    idle_sp: usize,
    limit: usize,
    /// Whether it is in [`SharedStacks::idle`].
    listed: bool,
}

impl SharedStacks {
    pub(super) fn new(
        arena: &mut Arena,
        config: SharedConfig,
        counters: &'static Counters,
    ) -> io::Result<Self> {
        let count = config.stacks.max(1);
        let mut shared = Self {
            max_saved_bytes: config.max_saved_bytes,
            // All, from the first one on.
            idle: (0..count).rev().collect(),
            hosts: Vec::new(),
            next: 0,
            pool: FramePool::new(FramePoolConfig::default())?,
            counters,
        };
        for _ in 0..count {
            match StackHost::new(arena, config.bytes) {
                Ok(host) => shared.hosts.push(host),
                Err(error) => {
                    shared.give_back(arena);
                    return Err(error);
                }
            }
        }
        Ok(shared)
    }

    /// Binds a new task to a stack: one whose owner is gone if there is one.
    ///
    /// # Errors
    ///
    /// Too many bytes are saved.
    pub(super) fn start(&mut self, slots: &Slots, slot: &Slot) -> io::Result<*mut Carrier> {
        if self.pool.counters().live > self.max_saved_bytes {
            return Err(too_much_saved(self.max_saved_bytes));
        }
        let number = self.choose();
        slot.set_stack(number);
        self.evict(slots, number);
        let host = &mut self.hosts[number as usize];
        // SAFETY: no task's frames are on the stack, on which nothing runs (I1),
        // and the carrier's frames begin at the idle point in the idle image,
        // which is good any number of times (I7).
        unsafe {
            host.stack.make_idle();
            (*host.carrier).set_sp(host.idle_sp);
        }
        host.stack.start(slots.index(slot));
        Ok(host.carrier)
    }

    /// The stack for a new task.
    fn choose(&mut self) -> u32 {
        while let Some(number) = self.idle.pop() {
            let host = &mut self.hosts[number as usize];
            host.listed = false;
            if !matches!(host.stack.resident(), Resident::Owner(_)) {
                return number;
            }
        }
        self.next = (self.next + 1) % self.hosts.len() as u32;
        self.next
    }

    /// A new task has suspended for the first time.
    pub(super) fn first_suspension(&mut self, slot: &Slot) {
        let host = &mut self.hosts[slot.stack() as usize];
        // SAFETY: the task is suspended, and the carrier noted the boundary when it
        // called the entry point, just now, on this thread; above it all tasks of
        // the stack are alike (I7).
        unsafe {
            host.stack
                .capture_base_frames(Carrier::copy_boundary(), Carrier::RETURN_ADDRESS)
        };
    }

    /// Brings a suspended task's frames to their stack, if they are elsewhere.
    #[inline]
    pub(super) fn restore(&mut self, slots: &Slots, slot: &Slot) -> *mut Carrier {
        let (number, index) = (slot.stack(), slots.index(slot));
        let host = &mut self.hosts[number as usize];
        if host.stack.hit(index) {
            return host.carrier;
        }
        self.evict(slots, number);
        let host = &mut self.hosts[number as usize];
        let (block, extent) = slot.take_saved_frames();
        // SAFETY: the parts are what `evict` left when it saved this task,
        // and are cleared now.
        let saved = unsafe { Saved::from_parts(block, extent) };
        // SAFETY: saved from this stack to this pool; no task is resident,
        // nothing runs there (I1), and the base frames serve every task (I7).
        unsafe {
            let sp = host.stack.restore(index, saved, &mut self.pool);
            (*host.carrier).set_sp(sp);
        }
        host.carrier
    }

    /// The lowest address of a started task's stack.
    pub(super) fn limit(&self, slot: &Slot) -> usize {
        self.hosts[slot.stack() as usize].limit
    }

    /// Bytes of a suspended task's frames, saved or in place.
    pub(super) fn frame_bytes(&self, slots: &Slots, slot: &Slot) -> usize {
        let host = &self.hosts[slot.stack() as usize];
        if host.stack.resident() == Resident::Owner(slots.index(slot)) {
            // SAFETY: the carrier lies in its stack, which is accessible.
            return host.carrier.addr() - unsafe { (*host.carrier).sp() };
        }
        let (block, extent) = slot.saved_frames();
        // SAFETY: only looked at; `restore` uses it up.
        unsafe { Saved::from_parts(block, extent) }.held()
    }

    /// Saves the frames of the stack's owner, if it has one.
    #[inline]
    fn evict(&mut self, slots: &Slots, number: u32) {
        let host = &mut self.hosts[number as usize];
        let Resident::Owner(owner) = host.stack.resident() else {
            return;
        };
        // One that can run is back soon.
        let waits = slots.slot(owner).state() == TaskState::Parked;
        let packed = waits && self.pool.counters().live > MANY;
        // SAFETY: the owner is suspended, as the worker runs on its own stack (I1),
        // at the carrier's stack pointer; nothing below is needed.
        let saved = unsafe {
            let sp = (*host.carrier).sp();
            let packed = if packed {
                host.stack.save_packed(sp, &mut self.pool)
            } else {
                Ok(None)
            };
            match packed.transpose() {
                Some(saved) => saved,
                None => host.stack.save(sp, &mut self.pool),
            }
        };
        // There is no going on without the memory to put the frames in, and
        // no caller to tell.
        let saved = saved
            .unwrap_or_else(|error| panic!("cannot save a parked coroutine's frames: {error}"));
        slots.slot(owner).set_saved_frames(saved.into_parts());
    }

    /// The task has ended; its carrier is idle.
    pub(super) fn end(&mut self, slot: &Slot) {
        let number = slot.stack();
        let host = &mut self.hosts[number as usize];
        host.stack.finish();
        if !host.listed {
            host.listed = true;
            self.idle.push(number);
        }
    }

    /// The suspended task is never resumed again: its frames are forgotten, on the stack or
    /// where they were saved. The contract of shared tasks says that nobody points into
    /// them (I6).
    pub(super) fn abandon(&mut self, slots: &Slots, slot: &Slot) {
        let host = &mut self.hosts[slot.stack() as usize];
        if host.stack.resident() == Resident::Owner(slots.index(slot)) {
            // SAFETY: it is suspended at the carrier's stack pointer and never resumed.
            unsafe { host.stack.forget((*host.carrier).sp()) };
            return;
        }
        let (block, extent) = slot.take_saved_frames();
        // SAFETY: the parts are what `evict` left when it saved this task, and are cleared
        // now; there is one pool.
        unsafe { Saved::from_parts(block, extent).discard(&mut self.pool) };
    }

    /// Asks the processor for the frames of a suspended task.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: &Slot) {
        let (block, extent) = slot.saved_frames();
        if block != 0 {
            // SAFETY: only looked at; `restore` uses it up.
            let saved = unsafe { Saved::from_parts(block, extent) };
            saved.prefetch(&self.pool);
        }
    }

    /// Gives the stacks back to the arena that they are from. No task is left,
    /// but for such as were abandoned, into whose frames nothing points.
    pub(super) fn give_back(self, arena: &mut Arena) {
        for host in self.hosts {
            // SAFETY: taken in `StackHost::new`; the worker ends, nobody runs.
            let _ = unsafe { arena.give(host.id) };
        }
        self.counters.saved_bytes.set(0);
        self.counters
            .saved_bytes_peak
            .set(self.pool.counters().peak_live);
        self.counters.saved_bytes_held.set(0);
    }

    /// Publishes what the stacks have done and the pool holds.
    pub(super) fn count(&self) {
        let mut sum = SharedCounters::default();
        for host in &self.hosts {
            sum += host.stack.counters();
        }
        self.counters.frame_saves.set(sum.saves);
        self.counters.frame_restores.set(sum.restores);
        self.counters.frame_hits.set(sum.hits);
        self.counters.largest_frame.set(u64::from(sum.largest));
        let pool = self.pool.counters();
        self.counters.saved_bytes.set(pool.live);
        self.counters.saved_bytes_peak.set(pool.peak_live);
        self.counters.saved_bytes_held.set(pool.held);
    }
}

impl StackHost {
    fn new(arena: &mut Arena, bytes: usize) -> io::Result<Self> {
        let (id, _) = arena.take(bytes)?;
        let bounds = arena.bounds(id);
        // SAFETY: the arena hands the stack to us alone, until `give_back`; on this
        // thread the carrier is resumed (I3), from an idle image that stays good
        // (I7).
        unsafe {
            let carrier = Carrier::install(bounds);
            let idle_sp = (*carrier).sp();
            // The carrier itself lies above what is copied.
            let stack = SharedStack::new(carrier.addr(), bounds.limit.get(), idle_sp);
            Ok(Self {
                id,
                stack,
                carrier,
                idle_sp,
                limit: bounds.limit.get(),
                listed: true,
            })
        }
    }
}

#[cold]
fn too_much_saved(limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        format!(
            "the frames of parked shared coroutines take more than {limit} bytes, the limit; raise \
             Runtime::builder().max_saved_bytes(n), or wait for some to end"
        ),
    )
}
