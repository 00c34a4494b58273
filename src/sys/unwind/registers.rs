//! The registers of code that a signal has interrupted, by the numbers that unwind tables
//! give them.

use gimli::Register;

use crate::sys::handlers;

/// How many a table may name.
const ALL: usize = 32;

/// All of them; what is not known of a caller is [none](Self::get).
#[derive(Clone, Copy, Default)]
pub(crate) struct RegisterSet {
    values: [usize; ALL],
    /// A bit for each that is known.
    known: u64,
    /// Where it runs.
    pub(super) ip: usize,
}

#[cfg(target_arch = "x86_64")]
const SP: usize = 7;
/// Tables call the return address a register; that of code that was interrupted is where.
#[cfg(target_arch = "x86_64")]
const RETURNS: usize = 16;
#[cfg(target_arch = "aarch64")]
const SP: usize = 31;

impl RegisterSet {
    /// Those that a handler is given. It has little stack, so they are written in place.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fill(&mut self, context: &handlers::Registers) {
        const ORDER: [i32; 16] = [
            libc::REG_RAX,
            libc::REG_RDX,
            libc::REG_RCX,
            libc::REG_RBX,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_RBP,
            libc::REG_RSP,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        let all = &context.uc_mcontext.gregs;
        for (to, from) in ORDER.iter().enumerate() {
            self.values[to] = all[*from as usize] as usize;
        }
        self.ip = all[libc::REG_RIP as usize] as usize;
        self.values[RETURNS] = self.ip;
        self.known = (1 << (RETURNS + 1)) - 1;
    }

    /// Those that a handler is given. It has little stack, so they are written in place.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn fill(&mut self, context: &handlers::Registers) {
        let machine = &context.uc_mcontext;
        for (to, from) in machine.regs.iter().enumerate() {
            self.values[to] = *from as usize;
        }
        self.values[SP] = machine.sp as usize;
        self.known = (1 << 32) - 1;
        self.ip = machine.pc as usize;
    }

    /// Where it runs.
    pub(crate) fn ip(&self) -> usize {
        self.ip
    }

    pub(super) fn get(&self, which: Register) -> Option<usize> {
        let which = usize::from(which.0);
        let value = self.values.get(which)?;
        (self.known >> which & 1 != 0).then_some(*value)
    }

    pub(super) fn set(&mut self, which: Register, value: Option<usize>) {
        let which = usize::from(which.0);
        if let Some(place) = self.values.get_mut(which) {
            *place = value.unwrap_or(0);
            self.known = self.known & !(1 << which) | u64::from(value.is_some()) << which;
        }
    }

    pub(super) fn sp(&self) -> usize {
        self.values[SP]
    }

    /// Goes on in the caller: where its stack ends, and where it was called.
    pub(super) fn return_to(&mut self, sp: usize, ip: usize) {
        self.values[SP] = sp;
        self.known |= 1 << SP;
        self.ip = unsigned(ip);
        #[cfg(target_arch = "x86_64")]
        {
            self.values[RETURNS] = ip;
            self.known |= 1 << RETURNS;
        }
    }
}

/// A return address without its signature.
#[cfg(target_arch = "aarch64")]
fn unsigned(ip: usize) -> usize {
    let mut ip = ip;
    // SAFETY: `xpaclri`, which does nothing on processors that sign nothing.
    unsafe {
        std::arch::asm!("hint #7", inout("x30") ip, options(pure, nomem, nostack));
    }
    ip
}

#[cfg(target_arch = "x86_64")]
fn unsigned(ip: usize) -> usize {
    ip
}
