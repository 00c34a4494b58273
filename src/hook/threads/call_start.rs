//! The frame in which every thread that is a coroutine begins, and to which
//! `pthread_exit` unwinds (`exit.rs`).

use std::ffi::c_void;

/// As C writes it: it may be left by `pthread_exit`.
pub(crate) type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// Words that glibc's `setjmp` writes.
const REGISTERS: usize = if cfg!(target_arch = "x86_64") { 8 } else { 22 };

/// glibc's `__pthread_unwind_buf_t`: registers, the mask's flag, four words of its own.
#[repr(C, align(16))]
pub(super) struct UnwindBuffer([usize; REGISTERS + 1 + 4]);

impl UnwindBuffer {
    pub(super) fn new() -> Self {
        Self([0; REGISTERS + 1 + 4])
    }
}

/// How a start routine came back.
#[repr(C)]
pub(super) struct End {
    pub(super) value: *mut c_void,
    /// By `pthread_exit`, which has said the result, or by a cancellation.
    pub(super) by_exit: bool,
}

// The frame that calls the start routine. Rust has no `setjmp`, whose second return
// it could not know of: here nothing is kept across it but what it puts back itself.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.crore_call_start,\"ax\",@progbits",
    ".balign 16",
    ".globl crore_call_start",
    ".hidden crore_call_start",
    ".type crore_call_start, @function",
    "crore_call_start:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rbx",
    ".cfi_offset rbx, -24",
    "push r12",
    ".cfi_offset r12, -32",
    "push r13",
    ".cfi_offset r13, -40",
    "sub rsp, 8",
    "mov rbx, rdi",
    "mov r12, rsi",
    "mov r13, rdx",
    "mov rdi, r13",
    "xor esi, esi",
    "call __sigsetjmp@PLT",
    "test eax, eax",
    "jne 2f",
    "mov rdi, r13",
    "call __pthread_register_cancel@PLT",
    "mov rdi, r12",
    "call rbx",
    "mov rbx, rax",
    "mov rdi, r13",
    "call __pthread_unregister_cancel@PLT",
    "mov rax, rbx",
    "xor edx, edx",
    "jmp 3f",
    "2:",
    "xor eax, eax",
    "mov edx, 1",
    "3:",
    "lea rsp, [rbp - 24]",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size crore_call_start, . - crore_call_start",
    ".popsection",
);

// The same: the start routine, its argument and the buffer are in x19, x20 and x21.
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.crore_call_start,\"ax\",@progbits",
    ".balign 16",
    ".globl crore_call_start",
    ".hidden crore_call_start",
    ".type crore_call_start, @function",
    "crore_call_start:",
    ".cfi_startproc",
    "stp x29, x30, [sp, #-48]!",
    ".cfi_def_cfa_offset 48",
    ".cfi_offset x29, -48",
    ".cfi_offset x30, -40",
    "mov x29, sp",
    ".cfi_def_cfa_register x29",
    "stp x19, x20, [sp, #16]",
    ".cfi_offset x19, -32",
    ".cfi_offset x20, -24",
    "str x21, [sp, #32]",
    ".cfi_offset x21, -16",
    "mov x19, x0",
    "mov x20, x1",
    "mov x21, x2",
    "mov x0, x21",
    "mov w1, wzr",
    "bl __sigsetjmp",
    "cbnz w0, 2f",
    "mov x0, x21",
    "bl __pthread_register_cancel",
    "mov x0, x20",
    "blr x19",
    "mov x19, x0",
    "mov x0, x21",
    "bl __pthread_unregister_cancel",
    "mov x0, x19",
    "mov x1, xzr",
    "b 3f",
    "2:",
    "mov x0, xzr",
    "mov x1, #1",
    "3:",
    "ldr x21, [sp, #32]",
    "ldp x19, x20, [sp, #16]",
    "ldp x29, x30, [sp], #48",
    ".cfi_def_cfa sp, 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    ".cfi_restore x19",
    ".cfi_restore x20",
    ".cfi_restore x21",
    "ret",
    ".cfi_endproc",
    ".size crore_call_start, . - crore_call_start",
    ".popsection",
);

unsafe extern "C-unwind" {
    /// Calls the start routine where `pthread_exit` may end it.
    ///
    /// # Safety
    ///
    /// - `start` may be called with `arg`; the buffer lives until this returns.
    /// - The running code has a TLS block of its own.
    #[link_name = "crore_call_start"]
    pub(super) fn call_start(start: Start, arg: *mut c_void, buffer: &mut UnwindBuffer) -> End;
}
