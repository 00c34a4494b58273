//! The entered TLS block, for the code that runs with it: the end of what is in
//! it, and the kernel's thread id in place of its own.

use std::ptr;

use super::block::{Glibc, word};
use super::check::glibc;
use super::thread_pointer::ThreadPointer;
use crate::sys::syscall;

/// Runs `f` while the running block has the kernel's number of this thread,
/// for functions of libc that hand it on to the kernel.
///
/// # Safety
///
/// - A block is entered; `f` does not park, and locks nothing.
pub(crate) unsafe fn with_kernel_tid<R>(f: impl FnOnce() -> R) -> R {
    let glibc = glibc().expect("a block is entered");
    let tid = ThreadPointer::current()
        .word(glibc.layout.offset(glibc.layout.tid))
        .cast::<u32>();
    // SAFETY: the running block's own word. Other threads may read it: either
    // number is right for them.
    unsafe {
        let own = tid.read();
        tid.write_volatile(syscall::tid());
        let result = f();
        tid.write_volatile(own);
        result
    }
}

/// Ends what the running code has in its block, in the order of a thread's end:
/// destructors of thread-locals, then of the values of pthread keys, then what
/// libc has allocated. Foreign code runs, and may wait.
///
/// # Safety
///
/// - A block is entered, and what ends is its user.
#[inline(never)]
pub(crate) unsafe fn end_of_thread_locals() {
    let glibc = glibc().expect("a block is entered");
    // SAFETY: glibc's function, for the entered block.
    unsafe { (glibc.layout.call_tls_dtors)() };
    end_of_key_values(glibc);
    end_of_libc(glibc);
}

fn end_of_key_values(glibc: &Glibc) {
    let layout = &glibc.layout;
    let here = ThreadPointer::current();
    let table = |i: usize| here.word(layout.offset(layout.specific) + word(i));
    let per_table = KEYS / layout.specific_len;
    for _ in 0..DESTRUCTOR_ITERATIONS {
        let mut any = false;
        for i in 0..layout.specific_len {
            // SAFETY: one of the pointers in the running block.
            if unsafe { table(i).read() } == 0 {
                continue;
            }
            for key in (i * per_table..(i + 1) * per_table).map(|key| key as u32) {
                // SAFETY: a key below the limit; if it was never made or has
                // been deleted, the value is null.
                let value = unsafe { libc::pthread_getspecific(key) };
                if value.is_null() {
                    continue;
                }
                // SAFETY: as above.
                unsafe { libc::pthread_setspecific(key, ptr::null()) };
                if let Some(destructor) = layout.key_destructor(key) {
                    any = true;
                    // SAFETY: the key's destructor, for a value of this block
                    // which has just been taken out.
                    unsafe { destructor(value) };
                }
            }
        }
        if !any {
            break;
        }
    }
    // The first table is part of the block.
    for i in 1..layout.specific_len {
        // SAFETY: glibc allocated the others when a value was first set.
        unsafe { libc::free(ptr::with_exposed_provenance_mut(table(i).replace(0))) };
    }
}

/// `PTHREAD_DESTRUCTOR_ITERATIONS` and `PTHREAD_KEYS_MAX` of glibc.
const DESTRUCTOR_ITERATIONS: u32 = 4;
const KEYS: usize = 1024;

fn end_of_libc(glibc: &Glibc) {
    unsafe extern "C" {
        fn dlerror() -> *mut std::ffi::c_char;
    }
    let here = ThreadPointer::current();
    for &at in &glibc.template.names {
        // SAFETY: a string of libc's in the running block, or null, of which
        // no code has a pointer any more.
        unsafe { libc::free(ptr::with_exposed_provenance_mut(here.word(at).replace(0))) };
    }
    let error = here.word(glibc.layout.dlerror);
    // SAFETY: libc's word in the running block. Told once, an error is freed at
    // the next question; what is left then is an empty record or nothing.
    unsafe {
        if error.read() != 0 {
            dlerror();
            dlerror();
            libc::free(ptr::with_exposed_provenance_mut(error.replace(0)));
        }
    }
}
