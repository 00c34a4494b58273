//! `sigsetjmp` for Rust, which has no functions that return twice: a function that is
//! called, and may be left by a jump.
#![cfg(all(feature = "hook", not(target_feature = "crt-static")))]

use std::ffi::{c_int, c_void};

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl crore_test_catching",
    "crore_test_catching:",
    "push rbx",
    "push r12",
    "sub rsp, 8",
    "mov rbx, rsi",
    "mov r12, rdx",
    "mov esi, 1",
    "call __sigsetjmp@PLT",
    "test eax, eax",
    "jnz 2f",
    "mov rdi, r12",
    "call rbx",
    "xor eax, eax",
    "2:",
    "add rsp, 8",
    "pop r12",
    "pop rbx",
    "ret",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".globl crore_test_catching",
    "crore_test_catching:",
    "stp x29, x30, [sp, #-32]!",
    "stp x19, x20, [sp, #16]",
    "mov x19, x1",
    "mov x20, x2",
    "mov w1, #1",
    "bl __sigsetjmp",
    "cbnz w0, 2f",
    "mov x0, x20",
    "blr x19",
    "mov w0, #0",
    "2:",
    "ldp x19, x20, [sp, #16]",
    "ldp x29, x30, [sp], #32",
    "ret",
);

unsafe extern "C" {
    fn crore_test_catching(
        buffer: *mut Buffer,
        f: extern "C" fn(*mut c_void),
        argument: *mut c_void,
    ) -> c_int;
    pub(crate) fn siglongjmp(buffer: *mut c_void, value: c_int) -> !;
}

/// A `sigjmp_buf`.
#[repr(C, align(16))]
pub(crate) struct Buffer([u64; 64]);

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self([0; 64])
    }
}

/// Calls `f`, which may jump to the buffer: what it jumps with, or 0. (What `f` owns is
/// lost then.)
pub(crate) fn catching<F: FnMut()>(buffer: *mut Buffer, mut f: F) -> c_int {
    extern "C" fn call<F: FnMut()>(f: *mut c_void) {
        // SAFETY: the one below, which outlives this.
        unsafe { (*f.cast::<F>())() };
    }
    // SAFETY: a live buffer, and a function for this argument.
    unsafe { crore_test_catching(buffer, call::<F>, (&raw mut f).cast()) }
}
