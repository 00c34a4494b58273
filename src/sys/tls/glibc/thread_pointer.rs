//! The thread pointer: the address of the TLS block in use, and the change of it.

use std::ptr;

use super::shape;
use crate::sys::thread_pointer;

/// A word's or a field's distance from the thread pointer, in bytes.
pub(super) type Offset = isize;

/// The address of a TLS block, a thread's own or one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadPointer(usize);

impl ThreadPointer {
    /// The running code's.
    pub(crate) fn current() -> Self {
        Self(thread_pointer::get())
    }

    /// Changes to this block.
    ///
    /// # Safety
    ///
    /// - It is a block, or a thread's own, that exists and that no thread uses
    ///   now but this one.
    /// - The caller's frame keeps no thread-local, nor its address: the
    ///   compiler takes them to be the same throughout a function (I12).
    #[inline(always)]
    pub(crate) unsafe fn enter(self) {
        // SAFETY: a block exists only where the register may be set; the rest is the
        // caller's promise.
        unsafe { shape::set(self.0) };
    }

    /// That of the block at an address.
    pub(super) fn of(address: usize) -> Self {
        Self(address)
    }

    pub(super) fn address(self) -> usize {
        self.0
    }

    /// The word at a distance from here.
    pub(super) fn word(self, at: Offset) -> *mut usize {
        ptr::with_exposed_provenance_mut(self.0.wrapping_add_signed(at))
    }
}

/// Runs `f` with the other block, and comes back.
///
/// # Safety
///
/// - As [`ThreadPointer::enter`], for both.
/// - `f` may run on the thread.
#[inline(never)]
pub(super) unsafe fn call_in(there: ThreadPointer, here: ThreadPointer, f: unsafe extern "C" fn()) {
    // SAFETY: the caller's promises; never inlined, no thread-local here (I12).
    unsafe {
        there.enter();
        f();
        here.enter();
    }
}
