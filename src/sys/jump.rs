//! Where a `longjmp` leads, which glibc keeps encoded in the `jmp_buf`.

use std::ffi::c_void;

#[cfg(target_arch = "x86_64")]
use crate::sys::thread_pointer;

/// The word of the stack pointer.
const WORD: usize = if cfg!(target_arch = "x86_64") { 6 } else { 13 };

/// The stack pointer after the jump.
///
/// # Safety
///
/// - glibc's `setjmp`, or one of its kin, has filled the buffer.
pub(crate) unsafe fn stack_pointer(buffer: *const c_void) -> usize {
    // SAFETY: one of the buffer's words.
    decoded(unsafe { buffer.cast::<usize>().add(WORD).read() })
}

#[cfg(target_arch = "x86_64")]
fn decoded(word: usize) -> usize {
    /// By how many bits each word is turned.
    const TURN: u32 = 17;
    /// Where the ABI puts the guard in a thread's block.
    const GUARD_AT: isize = 0x30;
    // SAFETY: a word of the block.
    let guard = unsafe { thread_pointer::word(GUARD_AT) };
    word.rotate_right(TURN) ^ guard
}

/// The guard is libc's own. What it makes of a stack pointer that is known tells it.
#[cfg(target_arch = "aarch64")]
fn decoded(word: usize) -> usize {
    unsafe extern "C" {
        fn _setjmp(buffer: *mut c_void) -> std::ffi::c_int;
    }
    let mut buffer = [0_usize; 64];
    let here: usize;
    // SAFETY: room for a `jmp_buf`, to which nobody jumps; a call, with all that it may
    // change.
    unsafe {
        std::arch::asm!(
            "mov x20, sp",
            "bl {setjmp}",
            setjmp = sym _setjmp,
            inout("x0") buffer.as_mut_ptr() => _,
            out("x20") here,
            clobber_abi("C"),
        );
    }
    word ^ buffer[WORD] ^ here
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn _setjmp(buffer: *mut c_void) -> std::ffi::c_int;
    }

    #[test]
    fn glibc_keeps_the_stack_pointer_where_it_is_looked_for() {
        let mut buffer = [0_usize; 64];
        let here = (&raw const buffer).addr();
        // SAFETY: room for a `jmp_buf`, to which nobody jumps.
        let found = unsafe {
            _setjmp(buffer.as_mut_ptr().cast());
            stack_pointer(buffer.as_ptr().cast())
        };
        assert!(found.abs_diff(here) < 4096);
    }
}
