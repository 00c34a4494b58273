//! Raw copies of stack bytes, unseen by the language and by sanitizers.
//!
//! A parked frame is full of things that must not be looked at through the
//! language: padding, live `&mut` borrows, AddressSanitizer's red zones. The
//! functions here move the bytes as a kernel does that swaps a page out.
//!
//! With the feature `sanitizer` the copy is an inline instruction, since the sanitizer
//! watches `memcpy` and ordinary loads, and rightly complains of red zones.
//! Valgrind follows `memcpy`, so that what was undefined in a frame still is
//! when the frame is back; it only has to be told that there is a stack again.

use crate::sys::valgrind;

/// What the region that a saved frame has left is filled with in builds with
/// debug assertions.
#[cfg(debug_assertions)]
pub(super) const LEFT: u8 = 0xa5;

/// Copies `len` bytes.
///
/// This is `memcpy`: a loop of 16-byte steps for the short ones, inlined, was
/// measured and is not faster at any length.
///
/// # Safety
///
/// - `from` can be read and `to` written for `len` bytes.
/// - The ranges do not overlap, and no other thread uses them meanwhile.
#[cfg(not(feature = "sanitizer"))]
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: forwarded.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

/// As above, unseen by AddressSanitizer.
#[cfg(feature = "sanitizer")]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: forward, as the calling convention clears the direction flag; the
    // ranges are the caller's promise.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: bytes within `len`, by the caller's promise.
    unsafe {
        std::arch::asm!(
            "cbz {len}, 3f",
            "2:",
            "ldrb {byte:w}, [{from}], #1",
            "strb {byte:w}, [{to}], #1",
            "subs {len}, {len}, #1",
            "b.ne 2b",
            "3:",
            len = inout(reg) len => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            byte = out(reg) _,
            options(nostack)
        );
    }
}

/// Marks a stack region that holds no frames any more: no red zones for
/// AddressSanitizer, and a pattern in builds with debug assertions, so that code
/// which still uses a pointer into it sees nonsense soon.
///
/// # Safety
///
/// - The region can be written, and nobody needs its bytes.
#[inline]
pub(super) unsafe fn leave(at: *mut u8, len: usize) {
    // SAFETY: forwarded.
    unsafe { unpoison(at, len) };
    #[cfg(debug_assertions)]
    // SAFETY: forwarded.
    unsafe {
        at.write_bytes(LEFT, len);
    }
}

/// Tells AddressSanitizer and valgrind that all of the region may be used.
///
/// # Safety
///
/// - The region is memory of ours.
#[inline]
pub(super) unsafe fn unpoison(at: *const u8, len: usize) {
    #[cfg(feature = "sanitizer")]
    {
        unsafe extern "C" {
            fn __asan_unpoison_memory_region(at: *const std::ffi::c_void, len: usize);
        }
        // SAFETY: changes the sanitizer's shadow only.
        unsafe { __asan_unpoison_memory_region(at.cast(), len) };
    }
    valgrind::undefined(at, len);
}

/// Asks for the first cache lines of `[at, at + len)`; no access, so any
/// address is fine.
#[inline]
pub(super) fn prefetch(at: *const u8, len: usize) {
    const LINE: usize = 64;
    /// The processor's own prefetcher follows from here on.
    const LINES: usize = 4;
    let lines = (at.addr() % LINE + len).div_ceil(LINE).min(LINES);
    for line in 0..lines {
        crate::util::prefetch(at.wrapping_add(line * LINE));
    }
}
