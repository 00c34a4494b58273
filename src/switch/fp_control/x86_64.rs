//! x86_64 has a register for SSE, and words of the x87's. The x87 tells of an exception that
//! is not masked at its next instruction, whoever makes that. So what it has met is changed
//! together with what it masks.

/// What a coroutine that is to libraries as a thread keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FpControl {
    mxcsr: u32,
    x87: X87,
}

/// The x87's control word, and its status word: the exceptions that it has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct X87 {
    control: u16,
    status: u16,
}

/// The bits of the status word that are about exceptions: the six, a fault of the register
/// stack, and twice whether one of them waits to be told. Nothing else outlives a call.
const EXCEPTIONS: u16 = 0x80ff;

impl FpControl {
    /// That of the code that calls this.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let (mut mxcsr, mut x87) = (0_u32, X87::default());
        // SAFETY: stores four bytes, two and two into live places, and tells of nothing.
        unsafe {
            std::arch::asm!(
                "stmxcsr [{}]", "fnstcw [{x87}]", "fnstsw [{x87} + 2]",
                in(reg) &raw mut mxcsr, x87 = in(reg) &raw mut x87,
                options(nostack, preserves_flags)
            );
            x87.status &= EXCEPTIONS;
        }
        Self { mxcsr, x87 }
    }

    /// Goes on with this one instead of `current`.
    #[inline(always)]
    pub(crate) fn replace(self, current: Self) {
        // Loading stops the processor for a moment.
        if self.mxcsr != current.mxcsr {
            // SAFETY: loads what was stored.
            unsafe {
                std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const self.mxcsr, options(nostack, preserves_flags, readonly));
            }
        }
        if self.x87 != current.x87 {
            self.x87.load();
        }
    }
}

impl X87 {
    /// Goes on with these words; what else there is stays.
    #[cold]
    #[inline(never)]
    fn load(self) {
        // The control word and the status word, of 32 bits each, stand first.
        let mut environment = [0_u32; 7];
        // SAFETY: stores 28 bytes into a live place. It masks all exceptions, so that
        // none that waits is told of here.
        unsafe {
            std::arch::asm!("fnstenv [{}]", in(reg) &raw mut environment, options(nostack, preserves_flags));
        }
        let status = environment[1] & !u32::from(EXCEPTIONS);
        environment[0] = u32::from(self.control);
        environment[1] = status | u32::from(self.status);
        // SAFETY: loads what was stored, but for these words, which were stored as well.
        unsafe {
            std::arch::asm!("fldenv [{}]", in(reg) &raw const environment, options(nostack, preserves_flags, readonly));
        }
    }
}
