//! The futex calls of the kernel, past the hooks: waiting for another thread with
//! nothing that could park a coroutine.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sys::syscall::{six, syscall};

/// Sleeps while the word is `value`; may return early.
pub(crate) fn wait(word: &AtomicU32, value: u32) {
    // SAFETY: FUTEX_WAIT reads the word, which outlives the call; no timeout.
    unsafe { call(word, libc::FUTEX_WAIT, value, ptr::null()) };
}

/// As [`wait`], for so long at the most.
pub(crate) fn wait_for(word: &AtomicU32, value: u32, time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    // SAFETY: FUTEX_WAIT reads the word and the time, which outlive the call.
    unsafe { call(word, libc::FUTEX_WAIT, value, &raw const time) };
}

/// Wakes up to `count` threads that sleep at the word.
pub(crate) fn wake(word: &AtomicU32, count: u32) {
    // SAFETY: FUTEX_WAKE touches no memory.
    unsafe { call(word, libc::FUTEX_WAKE, count, ptr::null()) };
}

/// # Safety
///
/// - As for the operation.
unsafe fn call(word: &AtomicU32, operation: i32, value: u32, time: *const libc::timespec) {
    let word = word.as_ptr().expose_provenance();
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    let time = time.expose_provenance();
    // SAFETY: forwarded.
    let _ = unsafe {
        syscall(
            libc::SYS_futex,
            six([word, operation, value as usize, time]),
        )
    };
}

/// A latch: goes up once, for other threads to wait for.
#[derive(Debug, Default)]
pub(crate) struct Latch(AtomicU32);

impl Latch {
    pub(crate) fn raise(&self) {
        self.0.store(1, Ordering::Release);
        wake(&self.0, u32::MAX >> 1);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    pub(crate) fn wait(&self) {
        while !self.is_up() {
            wait(&self.0, 0);
        }
    }
}
