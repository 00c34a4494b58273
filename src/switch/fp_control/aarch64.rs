//! aarch64 has two registers for it. An exception that is not masked is told of by the
//! instruction that meets it, so they can be changed one after the other.

/// What a coroutine that is to libraries as a thread keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FpControl {
    /// `FPCR`: how it rounds, and what is masked.
    control: u64,
    /// `FPSR`: what it has met.
    status: u64,
}

impl FpControl {
    /// That of the code that calls this.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let (control, status): (u64, u64);
        // SAFETY: reads two registers.
        unsafe {
            std::arch::asm!(
                "mrs {control}, fpcr", "mrs {status}, fpsr",
                control = out(reg) control, status = out(reg) status,
                options(nomem, nostack, preserves_flags)
            );
        }
        Self { control, status }
    }

    /// Goes on with this one instead of `current`.
    #[inline(always)]
    pub(crate) fn replace(self, current: Self) {
        // Writing stops the processor for a moment.
        if self.control != current.control {
            // SAFETY: what was read.
            unsafe {
                std::arch::asm!("msr fpcr, {}", in(reg) self.control, options(nomem, nostack, preserves_flags));
            }
        }
        if self.status != current.status {
            // SAFETY: as above.
            unsafe {
                std::arch::asm!("msr fpsr, {}", in(reg) self.status, options(nomem, nostack));
            }
        }
    }
}
