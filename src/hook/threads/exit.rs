//! Ending: `pthread_exit`, and the frame in which every thread begins.
//!
//! `pthread_exit` of glibc unwinds the stack: it runs the cleanup handlers and C++'s
//! destructors on the way, up to the place that glibc's thread has noted in its block
//! where the start routine was called, and jumps there. So a coroutine that is a
//! thread notes the place where its start routine is called ([`call_start`]), with the
//! function that C's `pthread_cleanup_push` calls, and glibc does the rest.

use std::ffi::c_void;

use super::thread::Thread;
use crate::hook::libc::hook;
use crate::sched::CurrentTask;
use crate::sys::report::die;

/// As C writes it: it may be left by `pthread_exit`.
pub(crate) type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// glibc's `__pthread_unwind_buf_t`: registers, the mask's flag, four words of its own.
#[repr(C, align(16))]
pub(super) struct UnwindBuffer([usize; 16]);

impl UnwindBuffer {
    pub(super) fn new() -> Self {
        Self([0; 16])
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

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_exit(value: *mut c_void) -> ! {
        note(value);
        // SAFETY: a thread of libc's, or a coroutine that began in `call_start`. No
        // frame of ours owns anything here.
        unsafe { pthread_exit::next(value) }
    }
);

/// The thread ends with this. Where no thread began there is no way to end one.
fn note(value: *mut c_void) {
    if let Some(thread) = Thread::current() {
        thread.set_result(value);
    } else if CurrentTask::running().is_some() {
        die(format_args!(
            "pthread_exit in a coroutine that is no thread: libc would unwind to the start of a \
             thread, which is not on its stack; return from its closure instead"
        ));
    }
}
