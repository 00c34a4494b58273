//! The thread pointer: a register of the processor with the address of the TLS block that
//! the running code uses. `fs` on x86_64, `tpidr_el0` on aarch64.
//!
//! What is here reads it. Each call does so anew, as coroutines may have blocks of their
//! own (I12). Who changes it is in `tls/glibc`.

/// The register's value. (On x86_64 it is kept at its own address as well.)
#[inline(always)]
pub(crate) fn get() -> usize {
    let pointer: usize;
    // SAFETY: reads the register, on x86_64 the first word of what it points to, as every
    // access to a thread-local does.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "mov {}, fs:[0]",
            out(reg) pointer,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "mrs {}, tpidr_el0",
            out(reg) pointer,
            options(nostack, preserves_flags, nomem)
        );
    }
    pointer
}

/// The word at this distance from it.
///
/// # Safety
///
/// - It is one of the block's words.
#[inline(always)]
pub(crate) unsafe fn word(at: isize) -> usize {
    let word: usize;
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "mov {}, fs:[{}]",
            out(reg) word, in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "mrs {0}, tpidr_el0",
            "ldr {0}, [{0}, {1}]",
            out(reg) word, in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
    word
}

/// The block's vector of what each library has in it (`dtv`), where the ABI puts that: in
/// the second word on x86_64, in the first on aarch64.
#[cfg(feature = "futex")]
#[inline(always)]
pub(crate) fn vector() -> *const usize {
    let vector: *const usize;
    // SAFETY: reads a word of the block.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "mov {}, fs:[8]",
            out(reg) vector,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "mrs {0}, tpidr_el0",
            "ldr {0}, [{0}]",
            out(reg) vector,
            options(nostack, preserves_flags, readonly)
        );
    }
    vector
}
