//! Shape of a block: what the ABI has where, and how the register is set.
//!
//! ```text
//!   x86_64 (variant II)                      aarch64 (variant I)
//!   ┌────────────┬────────────────┐          ┌────────────────┬──────┬────────────┐
//!   │ static TLS │ struct pthread │          │ struct pthread │ head │ static TLS │
//!   └────────────┴────────────────┘          └────────────────┴──────┴────────────┘
//!                ↑ thread pointer                             ↑ thread pointer
//! ```
//!
//! The vector (`dtv`) is the first word of the head; where there is no head, the second of
//! `struct pthread`. Both together are called the control block here.

/// What differs between processors.
pub(super) struct BlockShape {
    /// `struct pthread` ends at the thread pointer, and static TLS lies above; otherwise
    /// it begins there, and static TLS lies below.
    pub(super) thread_is_below: bool,
    /// Bytes of the control block behind `struct pthread`.
    pub(super) head: usize,
    /// Words of `struct pthread` that have the thread pointer.
    pub(super) own_words: &'static [usize],
}

pub(super) const SHAPE: BlockShape = if cfg!(target_arch = "x86_64") {
    BlockShape {
        thread_is_below: false,
        head: 0,
        own_words: &[0, 2],
    }
} else {
    BlockShape {
        thread_is_below: true,
        head: 16,
        own_words: &[],
    }
};

/// Whether programs may set the register.
#[cfg(target_arch = "x86_64")]
pub(super) fn can_set() -> Result<(), &'static str> {
    /// Bit 1 of `AT_HWCAP2` on x86: the kernel has enabled the instructions.
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: no preconditions.
    match unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE {
        0 => Err(
            "the processor or the kernel (before Linux 5.9) does not let programs set the fs \
             register (FSGSBASE)",
        ),
        _ => Ok(()),
    }
}

/// Every program may.
#[cfg(target_arch = "aarch64")]
pub(super) fn can_set() -> Result<(), &'static str> {
    Ok(())
}

/// Sets the register.
///
/// # Safety
///
/// - Programs [may](can_set).
/// - As [`ThreadPointer::enter`](super::ThreadPointer::enter), of the block at this address.
#[inline(always)]
pub(super) unsafe fn set(address: usize) {
    // SAFETY: the caller's promises; one instruction, after which all of the block is there.
    // (Memory counts as changed: no thread-local is kept across this.)
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("wrfsbase {}", in(reg) address, options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("msr tpidr_el0, {}", in(reg) address, options(nostack, preserves_flags));
    }
}
