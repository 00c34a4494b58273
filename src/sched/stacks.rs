//! Stacks of a worker: which one a task runs on, and whose frames are there.
//!
//! Lives here: the one difference between dedicated and shared stacks that the
//! scheduler knows. A dedicated task has its stack alone. A shared task is
//! bound to one of a few large stacks at its first run; before it is resumed,
//! the frames of the task that ran there last are copied to the pool and its own
//! are copied back ([`shared`]). In check mode a shared task has a stack of
//! its own too, poisoned (inaccessible) while the task is suspended, so that
//! code which breaks the contract of shared tasks is caught in the act.
//! Does not live here: the copying (`stack`), the run queue.

mod shared;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::ptr;
use std::time::Duration;

use self::shared::SharedStacks;
use super::counters::Counters;
use super::plan::SharedConfig;
use crate::driver::ticks;
use crate::stack::arena::Arena;
use crate::stack::{ArenaConfig, Kept, Reuse, StackBounds, StackId, poisoned};
use crate::switch::{CHAIN_ROOM, Carrier};
use crate::sys::mem::PAGE;
use crate::task::{Flags, Slot, Slots, TaskState};
use crate::util::prefetch;

/// All stacks of one worker.
pub(super) struct Stacks {
    arena: RefCell<Arena>,
    config: SharedConfig,
    guard_bytes: usize,
    measured: bool,
    /// Made when the first shared task starts.
    shared: RefCell<Option<SharedStacks>>,
    counters: &'static Counters,
    /// The tick at which the arena is tended next.
    tend_at: Cell<u64>,
}

/// Ticks after which the memory of stacks goes back that nobody has needed.
const TEND_EVERY: u64 = ticks(Duration::from_secs(2));

/// Ticks between two pieces of that.
const TEND_ON: u64 = ticks(Duration::from_millis(1));

impl Stacks {
    pub(super) fn new(
        arena: ArenaConfig,
        config: SharedConfig,
        counters: &'static Counters,
    ) -> Self {
        let arena = ArenaConfig {
            headroom: if config.check { poisoned::RECORD } else { 0 },
            tended: true,
            ..arena
        };
        Self {
            guard_bytes: arena.guard_bytes,
            measured: arena.measured,
            arena: RefCell::new(Arena::new(arena)),
            config,
            shared: RefCell::default(),
            counters,
            tend_at: Cell::new(0),
        }
    }

    /// Gives a new task a stack, whose carrier is idle.
    /// `label` is the task in words.
    ///
    /// # Errors
    ///
    /// No stack is left, or too many bytes are saved.
    pub(super) fn start(
        &self,
        slots: &Slots,
        slot: &Slot,
        label: &dyn Display,
    ) -> io::Result<*mut Carrier> {
        let mut arena = self.arena.borrow_mut();
        if !slot.has(Flags::SHARED) {
            let bytes = slot.stack_pages() as usize * PAGE;
            return start_alone(&mut arena, slot, bytes);
        }
        if self.config.check {
            let carrier = start_alone(&mut arena, slot, self.config.bytes)?;
            // SAFETY: the stack is accessible, the task's alone, and has headroom.
            unsafe { poisoned::set_owner(arena.bounds(alone(slot)), format_args!("{label}")) };
            return Ok(carrier);
        }
        let mut shared = self.shared.borrow_mut();
        let shared = match &mut *shared {
            Some(shared) => shared,
            none => none.insert(SharedStacks::new(&mut arena, self.config, self.counters)?),
        };
        shared.start(slots, slot)
    }

    /// The carrier of a suspended task, whose frames are in their place.
    #[inline(always)]
    pub(super) fn carrier(&self, slots: &Slots, slot: &Slot) -> *mut Carrier {
        if self.copied(slot) {
            return self
                .shared
                .borrow_mut()
                .as_mut()
                .expect(STARTED)
                .restore(slots, slot);
        }
        if self.poisons(slot) {
            self.unpoison(slot);
        }
        self.dedicated_carrier(slot)
    }

    /// Where the stack of a task is that has it alone.
    pub(super) fn bounds(&self, slot: &Slot) -> StackBounds {
        self.arena.borrow().bounds(alone(slot))
    }

    /// Bytes of each stack's guard, at least.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(super) fn guard_bytes(&self) -> usize {
        self.guard_bytes
    }

    /// A task has suspended, for the first time or again.
    #[inline(always)]
    pub(super) fn suspended(&self, slot: &Slot, first: bool) {
        if self.poisons(slot) {
            self.poison(slot);
        } else if first && slot.has(Flags::SHARED) {
            self.shared
                .borrow_mut()
                .as_mut()
                .expect(STARTED)
                .first_suspension(slot);
        }
    }

    /// The task has ended; its carrier is idle.
    #[inline]
    pub(super) fn end(&self, slot: &Slot) -> Kept {
        if self.copied(slot) {
            self.shared.borrow_mut().as_mut().expect(STARTED).end(slot);
            return Kept::Warm;
        }
        // What the stack keeps, its carrier included, is the arena's business:
        // a stack that goes cold is handed out as fresh.
        //
        // SAFETY: the slot holds the stack since `start`, nothing runs on it (I1),
        // its frames have ended, and the caller frees the slot.
        unsafe { self.arena.borrow_mut().give(alone(slot)) }
    }

    /// The size of the stack that went back cold last, and how much of it was used, if
    /// that is measured.
    pub(super) fn take_measured(&self) -> Option<(usize, usize)> {
        self.arena.borrow_mut().take_measured()
    }

    /// The task is never resumed again: its frames are forgotten, and a
    /// dedicated stack's memory is never reused, since others may still
    /// point there (I6). None point into a shared one's: its contract.
    #[cold]
    pub(super) fn abandon(&self, slots: &Slots, slot: &Slot) {
        if self.copied(slot) {
            let mut shared = self.shared.borrow_mut();
            return shared.as_mut().expect(STARTED).abandon(slots, slot);
        }
        self.arena.borrow_mut().abandon(alone(slot));
    }

    /// Runs `f` on the stack of a suspended task if that has `room` bytes to
    /// spare; whether it had. `f` is told where the task's frames are.
    pub(super) fn run_on_stack(
        &self,
        slots: &Slots,
        slot: &Slot,
        room: usize,
        f: &mut dyn FnMut(Range<usize>),
    ) -> bool {
        let carrier = self.carrier(slots, slot);
        let limit = if self.copied(slot) {
            self.shared.borrow().as_ref().expect(STARTED).limit(slot)
        } else {
            self.arena.borrow().bounds(alone(slot)).limit.get()
        };
        // SAFETY: the task is suspended on that carrier, its frames in place and
        // its stack accessible; the worker runs on its own stack, and its thread has
        // installed the carrier (I1, I3).
        let sp = unsafe { (*carrier).sp() };
        // It may have suspended on another stack (a generator's), whose room we don't know.
        let has_room = (limit + room..carrier.addr()).contains(&sp);
        if has_room {
            // SAFETY: as above, with the room just seen.
            unsafe { Carrier::run_on_stack(carrier, &mut || f(sp..carrier.addr())) };
        }
        self.suspended(slot, false);
        has_room
    }

    /// Where the frames are of a suspended task that has its stack alone, unless it has
    /// suspended on another one.
    pub(super) fn frames(&self, slot: &Slot) -> Option<Range<usize>> {
        let carrier = self.dedicated_carrier(slot);
        // SAFETY: a suspended task's carrier lies in its stack, which is accessible: it is
        // no shared task's.
        let sp = unsafe { (*carrier).sp() };
        let limit = self.bounds(slot).limit.get();
        (limit..carrier.addr())
            .contains(&sp)
            .then(|| sp..carrier.addr())
    }

    /// Bytes of memory that the frames of a suspended task take: in whole pages on a stack
    /// that it has alone, and nothing if it has suspended on another one; else as saved.
    pub(super) fn frame_bytes(&self, slots: &Slots, slot: &Slot) -> usize {
        if self.copied(slot) {
            let shared = self.shared.borrow();
            return shared.as_ref().expect(STARTED).frame_bytes(slots, slot);
        }
        if self.poisons(slot) {
            return 0;
        }
        let base = self.bounds(slot).base.get();
        let frames = self.frames(slot);
        frames.map_or(0, |frames| (base - frames.start).next_multiple_of(PAGE))
    }

    /// The stack of a parked task that has it alone, and where its frames begin, if below
    /// them it has memory that is worth giving back, and needs none of it.
    pub(super) fn dead_memory(&self, slot: &Slot) -> Option<(StackId, usize)> {
        debug_assert_eq!(slot.state(), TaskState::Parked);
        let (id, carrier) = (alone(slot), self.dedicated_carrier(slot));
        // SAFETY: a suspended task's carrier lies in its stack, which is accessible.
        let sp = unsafe { (*carrier).sp() };
        let limit = self.bounds(slot).limit.get();
        // What it has used is to be seen at its end.
        if self.measured {
            return None;
        }
        // On another stack of the program's: where the frames on this one end is not known.
        if !(limit + CHAIN_ROOM..carrier.addr()).contains(&sp) {
            return None;
        }
        let live = sp - RED_ZONE;
        if self.arena.borrow().resident_below(id, live) == 0 {
            return None;
        }
        // SAFETY: suspended on that carrier, with the room just seen; the worker runs on
        // its own stack, and its thread has installed the carrier (I1, I3).
        unsafe { Carrier::is_one_chain(carrier) }.then_some((id, live))
    }

    /// Gives that memory back.
    ///
    /// # Safety
    ///
    /// - [`Stacks::dead_memory`] has given it, and no coroutine has run since.
    pub(super) unsafe fn release(&self, dead: &[(StackId, usize)]) {
        // SAFETY: stacks of suspended tasks, so in use; below their frames nothing is
        // alive (I16).
        unsafe { self.arena.borrow().release_below(dead) };
    }

    /// Asks the processor for what resuming a suspended task will touch, but for what
    /// [`Stacks::prefetch_cold`] has asked for.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: &Slot) {
        let state = slot.state();
        if !matches!(state, TaskState::Queued | TaskState::Woken) {
            return;
        }
        if slot.has(Flags::POLLED) {
            return prefetch(slot.cell.get().cast());
        }
        if slot.has(Flags::SHARED) {
            if let Some(shared) = &*self.shared.borrow() {
                shared.prefetch(slot);
            }
        } else if state == TaskState::Queued {
            prefetch(self.dedicated_carrier(slot).cast());
        }
    }

    /// Asks for the carrier of a task on a stack of its own that has not run for long; of
    /// one that is new and the `nth` to start from now on for that of the stack that it
    /// will get.
    #[inline(always)]
    pub(super) fn prefetch_cold(&self, slot: &Slot, nth: usize) {
        if !is_alone(slot) {
            return;
        }
        let carrier = match slot.state() {
            TaskState::Woken => Some(self.dedicated_carrier(slot)),
            TaskState::New => self.arena.borrow().warm(nth).map(Carrier::at),
            _ => None,
        };
        carrier.inspect(|&carrier| prefetch(carrier.cast()));
    }

    /// Asks for the frames of a task on a stack of its own, whose carrier has arrived, and
    /// for what it begins or ends with; `nth` as for [`Stacks::prefetch_cold`].
    #[inline(always)]
    pub(super) fn prefetch_frames(&self, slot: &Slot, nth: usize) {
        if !is_alone(slot) {
            return;
        }
        // SAFETY: a suspended task's carrier lies in its stack, which is mapped
        // as long as the slot holds it, and accessible: it is no shared task's.
        let sp = || unsafe { (*self.dedicated_carrier(slot)).sp() };
        match slot.state() {
            TaskState::Queued => prefetch_lines(sp(), YIELDER_LINES),
            TaskState::Woken => {
                prefetch_lines(sp(), FRAME_LINES);
                prefetch(slot.cell.get().cast());
            }
            TaskState::New => {
                if let Some(bounds) = self.arena.borrow().warm(nth) {
                    let frames = Carrier::at(bounds).addr() - START_LINES * CACHE_LINE;
                    prefetch_lines(frames, START_LINES);
                }
                prefetch(slot.cell.get().cast());
            }
            _ => {}
        }
    }

    /// The carrier of a task on a stack of its own.
    #[inline(always)]
    fn dedicated_carrier(&self, slot: &Slot) -> *mut Carrier {
        Carrier::at(self.arena.borrow().bounds(alone(slot)))
    }

    /// When to [tend](Self::tend_if_due) the unused stacks next, if they have more memory
    /// than they are to keep.
    pub(super) fn tend_at(&self) -> Option<u64> {
        let spare = self.arena.borrow().has_spare();
        spare.then(|| self.tend_at.get())
    }

    /// Gives the memory back that nobody needs, if it is time to; called when the worker
    /// looks around, at the tick `now`.
    #[inline(always)]
    pub(super) fn tend_if_due(&self, now: u64) {
        if self.tend_at.get() <= now {
            self.tend(now);
        }
    }

    #[cold]
    fn tend(&self, now: u64) {
        let more = self.arena.borrow_mut().tend();
        let pause = if more { TEND_ON } else { TEND_EVERY };
        self.tend_at.set(now + pause);
    }

    /// Publishes what there is; called when the worker looks around.
    pub(super) fn count(&self) {
        let by_class = |class: usize, counts| self.counters.stacks[class].set(counts);
        if let Some(arena) = self.arena.borrow_mut().count_changes(by_class) {
            self.counters.stacks_in_use.set(arena.in_use as u64);
            self.counters.stacks_warm.set(arena.warm as u64);
            self.counters.stacks_cold.set(arena.cold as u64);
            self.counters.stacks_lost.set(arena.abandoned as u64);
            self.counters
                .stacks_reserved
                .set(arena.address_space_bytes as u64);
        }
        if let Some(shared) = &*self.shared.borrow() {
            shared.count();
        }
    }

    /// Whether a task's frames are copied to and from a shared stack.
    #[inline(always)]
    fn copied(&self, slot: &Slot) -> bool {
        slot.has(Flags::SHARED) && !self.config.check
    }

    /// Whether a task is a shared one in check mode: it has a stack of its
    /// own, which is poisoned while it is suspended.
    #[inline(always)]
    fn poisons(&self, slot: &Slot) -> bool {
        slot.has(Flags::SHARED) && self.config.check
    }

    #[cold]
    fn unpoison(&self, slot: &Slot) {
        // SAFETY: the task's own stack, as `start` took it.
        let done = unsafe { self.arena.borrow().set_accessible(alone(slot), true) };
        done.unwrap_or_else(|error| panic!("a stack stays inaccessible: {error}"));
    }

    #[cold]
    fn poison(&self, slot: &Slot) {
        // At the limit of memory mappings it stays accessible: less is checked,
        // and all goes on.
        //
        // SAFETY: the task is suspended. Its contract says that nobody uses its
        // frames now; to catch code that does is the purpose.
        let _ = unsafe { self.arena.borrow().set_accessible(alone(slot), false) };
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // A stack that is not given back keeps its address space for ever.
        if let Some(shared) = self.shared.get_mut().take() {
            shared.give_back(self.arena.get_mut());
        }
    }
}

/// Bytes below the stack pointer that a function may use without moving it.
const RED_ZONE: usize = 128;

/// Lines from the stack pointer up that a task which has yielded touches when it goes on.
/// With ten a yield among 1 000 took 1 to 2 ns more, and nothing was faster.
const YIELDER_LINES: usize = 3;

/// Lines from the stack pointer up that a task which was parked touches when it goes on.
const FRAME_LINES: usize = 6;

/// Lines below the carrier that a new task has touched by when it parks. With six or eight a
/// burst of 10 000 (`compare`) was slower.
const START_LINES: usize = 10;
const CACHE_LINE: usize = 64;

#[inline(always)]
fn prefetch_lines(from: usize, lines: usize) {
    (0..lines).for_each(|line| prefetch(ptr::without_provenance(from + line * CACHE_LINE)));
}

/// Whether a task has or will have a stack of its own that is accessible.
#[inline(always)]
fn is_alone(slot: &Slot) -> bool {
    !slot.has(Flags::SHARED) && !slot.has(Flags::POLLED)
}

const STARTED: &str = "a started shared task has made the shared stacks";

/// The stack that a started task has alone.
#[inline(always)]
fn alone(slot: &Slot) -> StackId {
    StackId::from_bits(slot.stack()).expect("a started task has a stack")
}

/// Gives a new task a stack of its own.
fn start_alone(arena: &mut Arena, slot: &Slot, bytes: usize) -> io::Result<*mut Carrier> {
    let (id, reuse) = arena.take(bytes)?;
    slot.set_stack(id.to_bits());
    let bounds = arena.bounds(id);
    Ok(match reuse {
        Reuse::Warm => Carrier::at(bounds),
        // SAFETY: the arena hands the stack, with its guard, to this task alone, and
        // keeps it mapped until it is given back (I6).
        Reuse::Fresh => unsafe { Carrier::install(bounds) },
    })
}
