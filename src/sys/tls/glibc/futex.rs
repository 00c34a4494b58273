//! The futex calls of the kernel, past the hooks: waiting for another thread with
//! nothing that could park a coroutine.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::syscall::{six, syscall};

/// Sleeps while the word is `value`; may return early.
pub(super) fn wait(word: &AtomicU32, value: u32) {
    // SAFETY: FUTEX_WAIT reads the word, which outlives the call; no timeout.
    unsafe { call(word, libc::FUTEX_WAIT, value) };
}

/// Wakes up to `count` threads that sleep at the word.
pub(super) fn wake(word: &AtomicU32, count: u32) {
    // SAFETY: FUTEX_WAKE touches no memory.
    unsafe { call(word, libc::FUTEX_WAKE, count) };
}

/// # Safety
///
/// - As for the operation.
unsafe fn call(word: &AtomicU32, operation: i32, value: u32) {
    let word = word.as_ptr().expose_provenance();
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: forwarded.
    let _ = unsafe { syscall(libc::SYS_futex, six([word, operation, value as usize])) };
}

/// A latch: goes up once, for other threads to wait for.
#[derive(Debug, Default)]
pub(super) struct Latch(AtomicU32);

impl Latch {
    pub(super) fn raise(&self) {
        self.0.store(1, Ordering::Release);
        wake(&self.0, u32::MAX >> 1);
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    pub(super) fn wait(&self) {
        while !self.is_up() {
            wait(&self.0, 0);
        }
    }
}
