//! The one place where this crate makes system calls, where simulations are to tell them
//! from those of others: see `dispatch.rs`.

// Hidden: a library that has crore inside has its own. What a handler returns through has
// the bytes by which unwinders and debuggers know it.
std::arch::global_asm!(
    ".pushsection .text.crore_system_call,\"ax\",@progbits",
    ".balign 16",
    ".globl crore_system_call",
    ".hidden crore_system_call",
    ".type crore_system_call, @function",
    "crore_system_call:",
    ".cfi_startproc",
    "syscall",
    "ret",
    ".cfi_endproc",
    ".size crore_system_call, . - crore_system_call",
    ".globl crore_signal_return",
    ".hidden crore_signal_return",
    "nop",
    "crore_signal_return:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05",
    ".globl crore_system_call_end",
    ".hidden crore_system_call_end",
    "ud2",
    "crore_system_call_end:",
    ".popsection",
);

unsafe extern "C" {
    /// The instruction, and a return.
    pub(super) fn crore_system_call();
    /// What a handler returns to.
    pub(super) fn crore_signal_return();
    /// Behind all this.
    pub(super) fn crore_system_call_end();
}
