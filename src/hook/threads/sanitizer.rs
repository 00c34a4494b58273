//! Starting a thread under AddressSanitizer: by its own `pthread_create`, for it knows no
//! thread that it did not start.
//!
//! The function behind a hook is found in link order, where the sanitizer may stand before
//! us. So it is asked for by its other name, of which LLVM and GCC (before version 14) have
//! different ones. Both are weak, as a program is linked with one of them.

use std::ffi::{c_int, c_void};

use libc::{pthread_attr_t, pthread_t};

use super::call_start::Start;

pub(super) type PthreadCreate = unsafe extern "C" fn(
    thread: *mut pthread_t,
    attr: *const pthread_attr_t,
    start: Start,
    arg: *mut c_void,
) -> c_int;

std::arch::global_asm!(
    ".weak ___interceptor_pthread_create",
    ".weak __interceptor_pthread_create",
    ".hidden ___interceptor_pthread_create",
    ".hidden __interceptor_pthread_create",
    ".pushsection .data.rel.ro.crore_sanitizer, \"aw\", @progbits",
    ".balign 8",
    ".globl crore_sanitizer_pthread_create",
    ".hidden crore_sanitizer_pthread_create",
    "crore_sanitizer_pthread_create:",
    ".8byte ___interceptor_pthread_create",
    ".8byte __interceptor_pthread_create",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "crore_sanitizer_pthread_create"]
    safe static OF_SANITIZERS: [Option<PthreadCreate>; 2];
}

/// The sanitizer's function. None: the program has none.
pub(super) fn pthread_create() -> Option<PthreadCreate> {
    OF_SANITIZERS.into_iter().flatten().next()
}
