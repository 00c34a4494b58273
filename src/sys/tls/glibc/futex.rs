//! Waiting for another thread with nothing but the kernel: no hook, no lock
//! of std, nothing that could park a coroutine.

use std::sync::atomic::{AtomicU32, Ordering};

/// Sleeps while the word is `value`; may return early.
pub(super) fn wait(word: &AtomicU32, value: u32) {
    // SAFETY: FUTEX_WAIT reads the word, which outlives the call; no timeout.
    unsafe { call(word, libc::FUTEX_WAIT, value) };
}

/// Wakes up to `count` who sleep at the word.
pub(super) fn wake(word: &AtomicU32, count: u32) {
    // SAFETY: FUTEX_WAKE touches no memory.
    unsafe { call(word, libc::FUTEX_WAKE, count) };
}

/// Lets other threads run.
pub(super) fn pass() {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_sched_yield, [0; 4]) };
}

/// The kernel's number of this thread.
pub(super) fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { syscall(libc::SYS_gettid, [0; 4]) as u32 }
}

/// # Safety: as for the operation.
unsafe fn call(word: &AtomicU32, operation: i32, value: u32) {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: forwarded.
    unsafe {
        syscall(
            libc::SYS_futex,
            [
                word.as_ptr().expose_provenance(),
                operation,
                value as usize,
                0,
            ],
        )
    };
}

/// # Safety: as for the system call of this number.
pub(super) unsafe fn syscall(number: i64, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: rcx and r11 are lost; memory
    // effects are the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A word that goes up once, for others to wait for.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicU32);

impl Flag {
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
