//! The hooks' gate: what runs on this thread, as hooks ask first.
//!
//! It is one thread-local, because to find one is a call where crore is in a library, and
//! costs registers everywhere.
//!
//! To the calls of a signal handler no coroutine runs: [`Interrupted::begin`] takes the
//! running one out of the gate, [`Interrupted::end`] puts it back. Meanwhile it is noted
//! beside, for reports, forks, and jumps out of the handler. Of handlers that interrupt
//! each other the outermost is noted: all return, or are left, to what it has
//! interrupted.
//!
//! A handler may be left without our knowledge (`setcontext`). The note that stays
//! behind is found out: a coroutine runs again, or the code that asks runs elsewhere.
//!
//! Both ends run on a signal stack that the processor's registers may fill but for a
//! few hundred bytes. So their functions are small, and call few others: that stack is
//! enough in debug builds, too.

use std::cell::Cell;
use std::ptr;

pub(crate) struct HookGate {
    /// How many no-park scopes this thread is in, and [`DEFERRED`].
    pub(super) state: Cell<u32>,
    /// The slot of the coroutine that runs on this thread right now; null on
    /// plain threads and on a worker's own stack.
    pub(crate) running: Cell<*const ()>,
    interrupted: Noted,
}

/// There are deferred wake-ups. Scopes count in steps of two above it, so that one
/// comparison tells whether there is any.
pub(super) const DEFERRED: u32 = 1;
pub(super) const SCOPE: u32 = 2;

impl HookGate {
    /// Whether this thread is in a no-park scope.
    #[inline(always)]
    pub(crate) fn is_scope_active(&self) -> bool {
        self.state.get() >= SCOPE
    }
}

thread_local! {
    pub(crate) static HOOK_GATE: HookGate = const {
        HookGate {
            state: Cell::new(0),
            running: Cell::new(ptr::null()),
            interrupted: Noted {
                running: Cell::new(ptr::null()),
                from: Cell::new(0),
                at: Cell::new(0),
            },
        }
    };
}

/// An [`Interrupted`], in place.
struct Noted {
    running: Cell<*const ()>,
    from: Cell<usize>,
    at: Cell<usize>,
}

/// The outermost handler that runs on a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    /// The slot of the coroutine that was running; null if none was.
    pub(crate) running: *const (),
    /// The stack pointer of what was interrupted.
    pub(crate) from: usize,
    /// Where the handler's frames begin; 0: no handler runs.
    pub(crate) at: usize,
}

/// Further below the frames of a handler than this is something else.
const DEPTH: usize = 8 << 20;

impl Interrupted {
    pub(crate) const NOTHING: Self = Self {
        running: ptr::null(),
        from: 0,
        at: 0,
    };

    /// What is noted when a handler begins, for [`Interrupted::end`].
    #[inline]
    pub(crate) fn before(gate: &HookGate, place: &mut Self) {
        let noted = &gate.interrupted;
        place.running = noted.running.get();
        place.from = noted.from.get();
        place.at = noted.at.get();
    }

    /// Whether a handler that has interrupted code at `from`, on the thread's signal stack
    /// or not, has interrupted another handler: the noted one.
    #[inline]
    pub(crate) fn is_handler(&self, gate: &HookGate, from: usize, on_signal_stack: bool) -> bool {
        self.at != 0
            && gate.running.get().is_null()
            && (on_signal_stack || self.at.wrapping_sub(from) < DEPTH)
    }

    /// A handler begins, whose frames lie below `at`, and which has interrupted code at
    /// `from` that is no handler.
    #[inline]
    pub(crate) fn begin(gate: &HookGate, from: usize, at: usize) {
        let noted = &gate.interrupted;
        noted.running.set(gate.running.get());
        noted.from.set(from);
        noted.at.set(at);
        barrier();
        gate.running.set(ptr::null());
    }

    /// The handler that has begun at `at` returns. Not if it has forked, in the child,
    /// where no coroutine runs.
    #[inline]
    pub(crate) fn end(gate: &HookGate, at: usize, before: &Self) {
        let noted = &gate.interrupted;
        if noted.at.get() == at {
            gate.running.set(noted.running.get());
            barrier();
            noted.running.set(before.running);
            noted.from.set(before.from);
            noted.at.set(before.at);
        }
    }

    /// What is noted on this thread while no coroutine runs there. The caller makes sure
    /// that the handler still runs.
    pub(crate) fn noted() -> Option<Self> {
        HOOK_GATE.with(|gate| {
            let noted = &gate.interrupted;
            let interrupted = Self {
                running: noted.running.get(),
                from: noted.from.get(),
                at: noted.at.get(),
            };
            (gate.running.get().is_null() && interrupted.at != 0).then_some(interrupted)
        })
    }

    /// The handler is left by a jump: what it has interrupted runs again.
    pub(crate) fn goes_on(self) {
        HOOK_GATE.with(|gate| {
            gate.running.set(self.running);
            barrier();
            gate.interrupted.at.set(0);
        });
    }

    /// In a forked child: no handler has interrupted a coroutine, for there is none.
    pub(crate) fn forget() {
        HOOK_GATE.with(|gate| gate.interrupted.at.set(0));
    }
}

/// What is written before is written before what follows: the next handler may come in
/// between. (As `compiler_fence`, whose frame is not small.)
#[inline(always)]
pub(crate) fn barrier() {
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
}
