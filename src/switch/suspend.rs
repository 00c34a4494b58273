//! Suspending the running coroutine, and running a closure on its stack while it
//! is suspended (for backtraces).
//!
//! A resume hands the coroutine a pointer: null to go on. [`suspend`] looks at
//! it: anything else is a [`StackCall`], which it runs, and suspends again. So a
//! coroutine can be asked for its backtrace wherever it waits, and for those
//! that are never asked it costs a test of a register.

use std::ptr::NonNull;

use super::carrier::{Carrier, EntryPoint, SwitchReason, YielderPtr};
use crate::util::ignore_panic;

/// Leaves the running coroutine and goes back to its worker.
///
/// Inlined so that the processor's return predictor sees few frames (a
/// suspension inside one more call costs 6 to 15 ns).
///
/// # Safety
///
/// - `yielder` is that of the carrier which runs this code, on its own stack.
#[inline(always)]
pub(crate) unsafe fn suspend(yielder: YielderPtr, reason: SwitchReason) {
    debug_assert_ne!(yielder, YielderPtr::NONE);
    // SAFETY: the caller's yielder; the worker resumes a suspended coroutine
    // with null or a stack call (I3).
    unsafe {
        let call = yielder.leave(reason);
        if !call.is_null() {
            serve(call);
        }
    }
}

/// What a suspended coroutine is to run, and how it comes back.
#[repr(C)]
struct StackCall<'a> {
    head: EntryPoint,
    yielder: YielderPtr,
    run: &'a mut dyn FnMut(),
}

impl Carrier {
    /// Runs `f` on the stack of the suspended coroutine, which stays suspended.
    /// Its frames begin a little lower from then on until it goes on.
    ///
    /// # Safety
    ///
    /// - As [`Carrier::resume`]; a coroutine is suspended on this carrier.
    /// - The stack has room for `f`, which does not suspend.
    pub(crate) unsafe fn run_on_stack(this: *mut Self, f: &mut dyn FnMut()) {
        let mut call = StackCall {
            head: EntryPoint { run },
            // SAFETY: the caller's carrier, which is installed.
            yielder: unsafe { Self::yielder(this) },
            run: f,
        };
        // SAFETY: installed, on its thread, a coroutine suspended, as the caller
        // promises; that takes a stack call for null (I3). The call outlives the
        // resume, which ends when the call is over.
        let reason = unsafe { Self::resume(this, (&raw mut call).cast()) };
        assert_eq!(
            reason,
            SwitchReason::RanOnStack,
            "a stack call leaves its coroutine suspended"
        );
    }
}

/// Runs stack calls until the coroutine is to go on. All that it needs comes
/// with them: the frame that every suspended coroutine keeps does not grow.
///
/// # Safety
///
/// - `call` came out of a suspension of the running coroutine, and is not null.
#[cold]
#[inline(never)]
unsafe fn serve(mut call: *const EntryPoint) {
    while !call.is_null() {
        // SAFETY: a suspended coroutine is resumed with null or the head of a
        // stack call (I3), which lives until we suspend; its yielder is that of
        // the carrier we run on.
        unsafe {
            let yielder = (*call.cast::<StackCall<'_>>()).yielder;
            ((*call).run)(NonNull::new_unchecked(call.cast_mut()));
            call = yielder.leave(SwitchReason::RanOnStack);
        }
    }
}

/// # Safety
///
/// - `head` is that of a [`StackCall`] which nothing else uses meanwhile.
unsafe fn run(head: NonNull<EntryPoint>) {
    // SAFETY: `head` is the first field of a `repr(C)` call, ours alone.
    let call = unsafe { head.cast::<StackCall<'_>>().as_mut() };
    // A panic must not unwind into the suspended coroutine.
    ignore_panic(&mut *call.run);
}
