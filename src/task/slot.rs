//! The slot: what a worker knows of a task, 32 bytes that never move.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use super::Header;
use crate::util::gate::HOOK_GATE;

/// The slot of the coroutine that runs on this thread right now; null on plain threads
/// and on a worker's own stack. The hooks' gate.
#[inline(always)]
pub(crate) fn running() -> *const Slot {
    HOOK_GATE.with(|gate| gate.running.get()).cast()
}

/// Tells the coroutine that runs on this thread from all others, also from those that have
/// its slot later, but for one in a hundred thousand; 0 outside of coroutines.
#[inline(always)]
pub(crate) fn running_key() -> u64 {
    // SAFETY: slots stay where they are (I2), and a running task's is live.
    unsafe { running().as_ref() }.map_or(0, Slot::key)
}

/// Calls `f` as if no task were running: for changes that a signal handler must not
/// see half made. To its hooked calls it has interrupted the worker then.
#[inline(always)]
pub(crate) fn unseen<R>(f: impl FnOnce() -> R) -> R {
    HOOK_GATE.with(|gate| {
        let running = &gate.running;
        let slot = running.replace(ptr::null());
        compiler_fence(Ordering::SeqCst);
        let result = f();
        compiler_fence(Ordering::SeqCst);
        running.set(slot);
        result
    })
}

/// As [`running`], but null in a no-park scope, too.
#[inline(always)]
pub(crate) fn running_outside_scopes() -> *const Slot {
    HOOK_GATE.with(|gate| {
        let running = gate.running.get();
        // In this order: plain threads are done after the first.
        if running.is_null() || gate.is_scope_active() {
            return ptr::null();
        }
        running.cast()
    })
}

/// Sets what [`running`] says.
#[inline(always)]
pub(crate) fn set_running(slot: *const Slot) {
    HOOK_GATE.with(|gate| gate.running.set(slot.cast()));
}

/// Switches the running task's hooks off or on; returns whether they were off.
/// On a plain thread there is nothing to switch: `false`.
pub(crate) fn set_unhooked(off: bool) -> bool {
    // SAFETY: slots stay where they are (I2), and a running task's is live.
    let Some(slot) = (unsafe { running().as_ref() }) else {
        return false;
    };
    let was_off = slot.take(Flags::UNHOOKED);
    if off {
        slot.set(Flags::UNHOOKED);
    }
    was_off
}

/// Bits of an address that a program can have.
const ADDRESS_BITS: u32 = if cfg!(target_arch = "x86_64") { 47 } else { 48 };

/// Where a task is in its life (see the module's picture).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TaskState {
    /// Zero, so that untouched memory is a free slot.
    Free = 0,
    /// Spawned, in the run queue, no stack yet.
    New,
    /// In the run queue, suspended: it has yielded.
    Queued,
    /// On the processor (or suspended by a nested call of the worker: never).
    Running,
    /// Waits for a wake-up.
    Parked,
    /// In the run queue, suspended: it was parked, and may be in no cache any more.
    Woken,
}

/// One bit each in [`Slot::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// Woken while running: the next park returns at once.
    pub(crate) const NOTIFIED: Self = Self(1);
    /// `unpark` was called: the next `park` takes this and returns.
    pub(crate) const TOKEN: Self = Self(2);
    /// Every blocking call fails from now on.
    pub(crate) const CANCELLED: Self = Self(4);
    /// Runs on a shared stack, or could: nothing else may use its frames
    /// while it is suspended.
    pub(crate) const SHARED: Self = Self(8);
    /// Hooks let the call through to libc.
    pub(crate) const UNHOOKED: Self = Self(16);
    /// A future: has no stack, its cell is polled.
    pub(crate) const POLLED: Self = Self(32);
    /// Runs inside a `timeout` that has not ended yet, or a token that it is bound to
    /// may ask it to end.
    pub(crate) const LIMITED: Self = Self(64);
    /// Has thread-locals of its own ([`Slot::tls_index`]).
    pub(crate) const OWN_TLS: Self = Self(128);
    /// Either reason why a wait may have to fail; [`Slot::has`] finds any.
    pub(crate) const ENDING: Self = Self(Self::CANCELLED.0 | Self::LIMITED.0);
}

/// All bits are taken: a ninth flag needs a wider byte, for which the slot has no
/// room.
const _: () = assert!(Flags::OWN_TLS.0 == 1 << (u8::BITS - 1));

/// A task, as its worker sees it. Plain memory: only the worker's thread looks
/// at it, because a started coroutine never changes its thread.
///
/// ```text
///  0        4     5     6      8         16       20       24       28    32
///  ┌────────┬─────┬─────┬──────┬─────────┬────────┬────────┬────────┬─────┐
///  │ gener. │state│flags│ loc. │ cell    │ stack  │ word a │ word b │extra│
///  └────────┴─────┴─────┴──────┴─────────┴────────┴────────┴────────┴─────┘
/// ```
///
/// Three words mean one thing or another, and are only reached by accessors that
/// say which:
///
/// | | stack | word a | word b |
/// |---|---|---|---|
/// | free | | | next free slot |
/// | new | size wanted, in pages | | |
/// | dedicated stack | which of the arena's | park time | index of its TLS block, with own thread-locals |
/// | shared stack | which of the shared ones | block of its saved frames, 0: none | bytes of them, and in that |
/// | future | | park time | |
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Slot {
    /// Counts the tasks that have lived here; an [`Addr`](super::Addr) must match it.
    generation: Cell<u32>,
    state: Cell<TaskState>,
    flags: Cell<u8>,
    /// The number of the spawn location in the worker's
    /// [`SpawnLocations`](super::SpawnLocations).
    pub(crate) location: Cell<u16>,
    /// The task cell; null once it can't be joined.
    pub(crate) cell: Cell<*const Header>,
    stack: Cell<u32>,
    word_a: Cell<u32>,
    word_b: Cell<u32>,
    /// Rare things (name, locals): an index into the worker's extras, 0 for none.
    pub(crate) extra: Cell<u32>,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    #[inline(always)]
    pub(crate) fn state(&self) -> TaskState {
        self.state.get()
    }

    #[inline(always)]
    pub(crate) fn set_state(&self, state: TaskState) {
        self.state.set(state);
    }

    #[inline(always)]
    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.flags.get() & flag.0 != 0
    }

    #[inline(always)]
    pub(crate) fn set(&self, flag: Flags) {
        self.flags.set(self.flags.get() | flag.0);
    }

    #[inline(always)]
    pub(crate) fn clear(&self, flag: Flags) {
        self.flags.set(self.flags.get() & !flag.0);
    }

    /// Clears the flag and says whether it was set.
    #[inline(always)]
    pub(crate) fn take(&self, flag: Flags) -> bool {
        let had = self.has(flag);
        self.clear(flag);
        had
    }

    #[inline(always)]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Its address, and above it as much of the generation as there is room for.
    #[inline(always)]
    pub(crate) fn key(&self) -> u64 {
        ptr::from_ref(self).addr() as u64 | u64::from(self.generation()) << ADDRESS_BITS
    }

    /// The address in a [key](Slot::key).
    pub(crate) fn address_in(key: u64) -> usize {
        (key & ((1 << ADDRESS_BITS) - 1)) as usize
    }

    /// Bytes of stack that a new task wants, in pages.
    #[inline(always)]
    pub(crate) fn stack_pages(&self) -> u32 {
        debug_assert_eq!(self.state(), TaskState::New);
        self.stack.get()
    }

    #[inline(always)]
    pub(crate) fn set_stack_pages(&self, pages: u32) {
        debug_assert_eq!(self.state(), TaskState::New);
        self.stack.set(pages);
    }

    /// The stack of a started task: of the arena, or among the shared ones.
    #[inline(always)]
    pub(crate) fn stack(&self) -> u32 {
        self.stack.get()
    }

    #[inline(always)]
    pub(crate) fn set_stack(&self, stack: u32) {
        self.stack.set(stack);
    }

    /// When a task that is not on a shared stack parked last, in its worker's units.
    #[inline(always)]
    pub(crate) fn park_time(&self) -> u32 {
        debug_assert!(!self.has(Flags::SHARED));
        self.word_a.get()
    }

    #[inline(always)]
    pub(crate) fn set_park_time(&self, park_time: u32) {
        debug_assert!(!self.has(Flags::SHARED));
        self.word_a.set(park_time);
    }

    /// The block that holds a shared task's frames while they are elsewhere than on
    /// the stack (0: there is none), and their extent.
    #[inline(always)]
    pub(crate) fn saved_frames(&self) -> (u32, u32) {
        debug_assert!(self.has(Flags::SHARED));
        (self.word_a.get(), self.word_b.get())
    }

    #[inline(always)]
    pub(crate) fn set_saved_frames(&self, (block, extent): (u32, u32)) {
        debug_assert!(self.has(Flags::SHARED));
        self.word_a.set(block);
        self.word_b.set(extent);
    }

    /// As [`Slot::saved_frames`]; afterwards there are none.
    #[inline(always)]
    pub(crate) fn take_saved_frames(&self) -> (u32, u32) {
        debug_assert!(self.has(Flags::SHARED));
        (self.word_a.replace(0), self.word_b.get())
    }

    /// Which of the worker's TLS blocks a started task has.
    #[inline(always)]
    pub(crate) fn tls_index(&self) -> u32 {
        debug_assert!(self.has(Flags::OWN_TLS));
        self.word_b.get()
    }

    #[inline(always)]
    pub(crate) fn set_tls_index(&self, index: u32) {
        debug_assert!(self.has(Flags::OWN_TLS));
        self.word_b.set(index);
    }

    /// The free slot after this one.
    #[inline(always)]
    pub(super) fn next_free(&self) -> u32 {
        debug_assert_eq!(self.state(), TaskState::Free);
        self.word_b.get()
    }

    /// Ends the task: its address is stale from here on.
    #[inline(always)]
    pub(super) fn make_free(&self, generation: u32, next_free: u32) {
        debug_assert!(self.state() != TaskState::Free, "a slot ended twice");
        self.generation.set(generation);
        self.set_state(TaskState::Free);
        self.word_b.set(next_free);
    }

    #[inline(always)]
    pub(super) fn make_new(&self, generation: u32) {
        self.generation.set(generation);
        self.state.set(TaskState::New);
        self.flags.set(0);
        self.location.set(0);
        self.cell.set(ptr::null());
        self.stack.set(0);
        self.word_a.set(0);
        self.word_b.set(0);
        self.extra.set(0);
    }
}
