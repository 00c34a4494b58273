//! Words to valgrind, with the feature `valgrind`; nothing without it.
//!
//! Valgrind guesses from the stack pointer what is stack. It must be told of
//! stacks that it did not see being made, and of frames that are put back on
//! one. A *client request* is a sequence of instructions that do nothing on a
//! real processor and that valgrind knows; the numbers are those of its
//! `valgrind.h` and `memcheck.h`. Does not live here: which memory is meant.

/// Stacks that valgrind knows of until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct RegisteredStacks {
    #[cfg(feature = "valgrind")]
    ids: Vec<usize>,
}

impl RegisteredStacks {
    /// `[low, low + len)` is a stack.
    #[inline]
    pub(crate) fn add(&mut self, low: usize, len: usize) {
        #[cfg(feature = "valgrind")]
        self.ids.push(request(STACK_REGISTER, low, low + len - 1));
        #[cfg(not(feature = "valgrind"))]
        let _ = (low, len);
    }
}

#[cfg(feature = "valgrind")]
impl Drop for RegisteredStacks {
    fn drop(&mut self) {
        for &id in &self.ids {
            request(STACK_DEREGISTER, id, 0);
        }
    }
}

/// The range may be written, and means nothing until it is.
#[inline(always)]
pub(crate) fn undefined(at: *const u8, len: usize) {
    #[cfg(feature = "valgrind")]
    request(MAKE_MEM_UNDEFINED, at.addr(), len);
    #[cfg(not(feature = "valgrind"))]
    let _ = (at, len);
}

/// The range means what it says, wherever that came from.
#[inline(always)]
pub(crate) fn defined(at: *const u8, len: usize) {
    #[cfg(feature = "valgrind")]
    request(MAKE_MEM_UNDEFINED + 1, at.addr(), len);
    #[cfg(not(feature = "valgrind"))]
    let _ = (at, len);
}

#[cfg(feature = "valgrind")]
const STACK_REGISTER: usize = 0x1501;
#[cfg(feature = "valgrind")]
const STACK_DEREGISTER: usize = 0x1502;
/// The first of memcheck's own: its letters, then a count.
#[cfg(feature = "valgrind")]
const MAKE_MEM_UNDEFINED: usize = ((b'M' as usize) << 24 | (b'C' as usize) << 16) + 1;

/// Asks valgrind; 0 outside of it.
#[cfg(feature = "valgrind")]
fn request(code: usize, first: usize, second: usize) -> usize {
    let args = [code, first, second, 0, 0, 0];
    let result: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: rotations of a register that add up to whole turns, and an
    // exchange with itself: no effect. Valgrind reads `args` and sets `rdx`.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdx") 0_usize => result,
            in("rax") args.as_ptr(),
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; valgrind sets `x3`.
    unsafe {
        std::arch::asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #61",
            "ror x12, x12, #51",
            "orr x10, x10, x10",
            inout("x3") 0_usize => result,
            in("x4") args.as_ptr(),
            options(nostack),
        );
    }
    result
}
