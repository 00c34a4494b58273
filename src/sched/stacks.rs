//! Which stack a task runs on, and whose frames are there.
//!
//! Lives here: the one difference between dedicated and shared stacks that the
//! scheduler knows. A dedicated task has its stack alone. A shared task is
//! bound to one of a few large stacks at its first run; before it is resumed,
//! the frames of whoever ran there last are copied to the pool and its own
//! are copied back. Does not live here: the copying (floor 1), the run queue.

use std::cell::RefCell;
use std::io;
use std::ptr;

use crate::stack::arena::{Arena, ArenaConfig};
use crate::stack::pool::{Pool, PoolConfig};
use crate::stack::shared::{Resident, Saved, SharedStack};
use crate::stack::{Reuse, StackId};
use crate::switch::Carrier;
use crate::sys::mem::PAGE;
use crate::task::{Flags, Slot, Slots, State};
use crate::util::prefetch;

use super::counters::Counters;

/// How many shared stacks there are, and how much they keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedConfig {
    pub(crate) stacks: u32,
    pub(crate) bytes: usize,
    pub(crate) max_saved_bytes: u64,
}

/// All stacks of one worker.
pub(super) struct Stacks {
    arena: RefCell<Arena>,
    config: SharedConfig,
    /// Made when the first shared task starts.
    shared: RefCell<Option<Shared>>,
}

struct Shared {
    places: Vec<Place>,
    /// Places whose owner has ended.
    idle: Vec<u32>,
    /// The place that the next task without an idle one is bound to.
    next: u32,
    pool: Pool,
    counters: &'static Counters,
}

struct Place {
    stack: SharedStack,
    carrier: *mut Carrier,
    idle_sp: usize,
}

impl Stacks {
    pub(super) fn new(arena: ArenaConfig, config: SharedConfig) -> Self {
        Self {
            arena: RefCell::new(Arena::new(arena)),
            config,
            shared: RefCell::default(),
        }
    }

    /// Gives a new task a stack. The carrier is idle and waits for its job.
    ///
    /// # Errors
    ///
    /// No stack is left, or too many bytes are saved.
    pub(super) fn start(
        &self,
        slots: &Slots,
        slot: &Slot,
        counters: &'static Counters,
    ) -> io::Result<*mut Carrier> {
        if slot.has(Flags::SHARED) {
            let mut shared = self.shared.borrow_mut();
            let shared = match &mut *shared {
                Some(shared) => shared,
                none => none.insert(Shared::new(
                    &mut self.arena.borrow_mut(),
                    self.config,
                    counters,
                )?),
            };
            return shared.start(slots, slot, self.config.max_saved_bytes);
        }
        let mut arena = self.arena.borrow_mut();
        let (id, reuse) = arena.take(slot.stack.get() as usize * PAGE)?;
        slot.stack.set(id.to_bits());
        let bounds = arena.bounds(id);
        Ok(match reuse {
            Reuse::Warm => Carrier::at(bounds),
            // SAFETY: the arena hands the stack to this task alone, and keeps
            // it mapped until it is given back.
            Reuse::Fresh => unsafe { Carrier::install(bounds) },
        })
    }

    /// The carrier of a suspended task, whose frames are in their place.
    #[inline(always)]
    pub(super) fn carrier(&self, slots: &Slots, slot: &Slot) -> *mut Carrier {
        if slot.has(Flags::SHARED) {
            return self
                .shared
                .borrow_mut()
                .as_mut()
                .expect(STARTED)
                .restore(slots, slot);
        }
        self.dedicated_carrier(slot)
    }

    /// A new task has suspended for the first time.
    pub(super) fn first_suspension(&self, slot: &Slot) {
        if slot.has(Flags::SHARED) {
            let mut shared = self.shared.borrow_mut();
            let place = &mut shared.as_mut().expect(STARTED).places[slot.stack.get() as usize];
            // SAFETY: the task is parked, and the carrier noted the cut when
            // it called the job, just now, on this thread.
            unsafe { place.stack.capture_root(Carrier::cut()) };
        }
    }

    /// The task has ended; its carrier is idle.
    #[inline]
    pub(super) fn end(&self, slot: &Slot) {
        if slot.has(Flags::SHARED) {
            return self.shared.borrow_mut().as_mut().expect(STARTED).end(slot);
        }
        // What the stack keeps, its carrier included, is the arena's business:
        // a stack that goes cold is handed out as fresh.
        //
        // SAFETY: the slot holds the stack since `start`, nobody runs on it,
        // and the caller frees the slot.
        let _ = unsafe { self.arena.borrow_mut().give(dedicated(slot)) };
    }

    /// The task is never resumed again: its frames are forgotten, and a
    /// dedicated stack's memory is never reused, since anybody may still
    /// point there (I6). Nobody points into a shared one's: its contract.
    #[cold]
    pub(super) fn abandon(&self, slots: &Slots, slot: &Slot) {
        if slot.has(Flags::SHARED) {
            let mut shared = self.shared.borrow_mut();
            return shared.as_mut().expect(STARTED).abandon(slots, slot);
        }
        self.arena.borrow_mut().abandon(dedicated(slot));
    }

    /// Asks the processor for what leads to the frames of a suspended task:
    /// for one on a shared stack the frames themselves.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: &Slot) {
        if slot.state() != State::Queued {
            return;
        }
        if !slot.has(Flags::SHARED) {
            prefetch(self.dedicated_carrier(slot).cast());
        } else if slot.frame.get() != 0 {
            // SAFETY: only looked at; `restore` is who uses it up.
            let saved = unsafe { Saved::from_parts(slot.frame.get(), slot.frame_len.get()) };
            saved.prefetch(&self.shared.borrow().as_ref().expect(STARTED).pool);
        }
    }

    /// Asks for the frames of a task whose carrier has arrived.
    #[inline(always)]
    pub(super) fn prefetch_frames(&self, slot: &Slot) {
        if slot.state() == State::Queued && !slot.has(Flags::SHARED) {
            // SAFETY: a suspended task's carrier was installed in its stack,
            // which is mapped as long as the slot holds it.
            let sp = unsafe { (*self.dedicated_carrier(slot)).sp() };
            let from = sp - CALL_LINES * CACHE_LINE;
            (0..CALL_LINES + FRAME_LINES).for_each(|line| {
                prefetch(ptr::without_provenance(from + line * CACHE_LINE));
            });
        }
    }

    #[inline(always)]
    fn dedicated_carrier(&self, slot: &Slot) -> *mut Carrier {
        Carrier::at(self.arena.borrow().bounds(dedicated(slot)))
    }
}

/// Lines from the stack pointer up that going on touches: of a coroutine in
/// the midst of a hooked `read` nearly all, of a shallow one more than all.
const FRAME_LINES: usize = 8;
/// Lines below it that the next calls touch.
const CALL_LINES: usize = 2;
const CACHE_LINE: usize = 64;

const STARTED: &str = "a started shared task has made the shared stacks";

/// The stack of a started dedicated task.
#[inline(always)]
fn dedicated(slot: &Slot) -> StackId {
    StackId::from_bits(slot.stack.get()).expect("a started task has a stack")
}

impl Shared {
    fn new(
        arena: &mut Arena,
        config: SharedConfig,
        counters: &'static Counters,
    ) -> io::Result<Self> {
        let places = (0..config.stacks.max(1))
            .map(|_| Place::new(arena, config.bytes))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            idle: (0..places.len() as u32).rev().collect(),
            places,
            next: 0,
            pool: Pool::new(PoolConfig::default())?,
            counters,
        })
    }

    /// Binds a new task to a stack: one whose owner is gone if there is one.
    fn start(
        &mut self,
        slots: &Slots,
        slot: &Slot,
        max_saved_bytes: u64,
    ) -> io::Result<*mut Carrier> {
        if self.pool.counters().live > max_saved_bytes {
            return Err(too_much_saved(max_saved_bytes));
        }
        let number = self.idle.pop().unwrap_or_else(|| {
            self.next = (self.next + 1) % self.places.len() as u32;
            self.next
        });
        slot.stack.set(number);
        self.evict(slots, number);
        let place = &mut self.places[number as usize];
        // SAFETY: nobody's frames are on the stack, and the idle point is
        // where the carrier's frames begin in the idle image.
        unsafe {
            place.stack.make_idle();
            (*place.carrier).set_sp(place.idle_sp);
        }
        place.stack.start(slots.index(slot));
        Ok(place.carrier)
    }

    #[inline]
    fn restore(&mut self, slots: &Slots, slot: &Slot) -> *mut Carrier {
        let (number, index) = (slot.stack.get(), slots.index(slot));
        let place = &mut self.places[number as usize];
        if place.stack.hit(index) {
            self.counters.hits.add(1);
            return place.carrier;
        }
        self.evict(slots, number);
        let place = &mut self.places[number as usize];
        // SAFETY: the parts are what `evict` left when it saved this task,
        // and are cleared now.
        let saved = unsafe { Saved::from_parts(slot.frame.replace(0), slot.frame_len.get()) };
        let sp = place.stack.sp_of(&saved);
        // SAFETY: saved from this stack to this pool; nobody is resident.
        unsafe {
            place.stack.restore(index, saved, &mut self.pool);
            (*place.carrier).set_sp(sp);
        }
        self.counters.restores.add(1);
        place.carrier
    }

    /// Saves the frames of the stack's owner, if it has one.
    #[inline]
    fn evict(&mut self, slots: &Slots, number: u32) {
        let place = &mut self.places[number as usize];
        let Resident::Owner(owner) = place.stack.resident() else {
            return;
        };
        // SAFETY: the owner is suspended (the worker runs on its own stack),
        // at the carrier's stack pointer.
        let saved = unsafe { place.stack.save((*place.carrier).sp(), &mut self.pool) };
        // There is no going on without the memory to put the frames in, and
        // no caller to tell.
        let saved = saved
            .unwrap_or_else(|error| panic!("cannot save a parked coroutine's frames: {error}"));
        self.counters.saves.add(1);
        self.counters
            .largest_frame
            .set(self.counters.largest_frame.get().max(saved.len() as u64));
        let (frame, len) = saved.into_parts();
        let owner = slots.slot(owner);
        owner.frame.set(frame);
        owner.frame_len.set(len);
    }

    fn end(&mut self, slot: &Slot) {
        let number = slot.stack.get();
        self.places[number as usize].stack.finish();
        self.idle.push(number);
    }

    fn abandon(&mut self, slots: &Slots, slot: &Slot) {
        let place = &mut self.places[slot.stack.get() as usize];
        debug_assert_eq!(place.stack.resident(), Resident::Owner(slots.index(slot)));
        // SAFETY: it is suspended and never resumed; the contract of shared
        // tasks says that nobody points into its frames.
        unsafe { place.stack.forget((*place.carrier).sp()) };
    }

    /// Publishes how much the pool holds.
    fn count(&self) {
        let pool = self.pool.counters();
        self.counters.saved_bytes.set(pool.live);
        self.counters.saved_bytes_peak.set(pool.peak_live);
        self.counters.saved_bytes_held.set(pool.held);
    }
}

impl Stacks {
    /// Publishes how much is saved; called when the worker looks around.
    pub(super) fn count(&self) {
        if let Some(shared) = &*self.shared.borrow() {
            shared.count();
        }
    }
}

impl Place {
    fn new(arena: &mut Arena, bytes: usize) -> io::Result<Self> {
        let (id, _) = arena.take(bytes)?;
        let bounds = arena.bounds(id);
        // SAFETY: the arena hands the stack to us alone; it is never given
        // back before the arena is dropped.
        unsafe {
            let carrier = Carrier::install(bounds);
            let idle_sp = (*carrier).sp();
            // The carrier itself lies above what is copied.
            let stack = SharedStack::new(carrier.addr(), bounds.limit.get(), idle_sp);
            Ok(Self {
                stack,
                carrier,
                idle_sp,
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
