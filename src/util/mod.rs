//! Small helpers that know nothing of coroutines.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod no_park;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs foreign code that must not unwind into ours. Its panic was reported by
/// the panic hook; there is nobody else to tell.
pub(crate) fn ignore_panic(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        // The payload is foreign as well, and so is what it panics with.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
    }
}

/// Asks the processor for the cache line of an address. No access is made, so
/// any address will do.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86_64, and a prefetch of any address is no access.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(miri)]
    let _ = at;
}
