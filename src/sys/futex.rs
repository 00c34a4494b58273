//! The futex calls of the kernel, past the hooks: waiting for another thread with
//! nothing that could park a coroutine.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::sys::syscall::{six, syscall};

/// Sleeps while the word is `value`, for so long at the most; may return early.
pub(crate) fn wait(word: &AtomicU32, value: u32, time: Option<Duration>) {
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: FUTEX_WAIT reads the word and the time, which outlive the call.
    unsafe { call(word, libc::FUTEX_WAIT, value, time) };
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
