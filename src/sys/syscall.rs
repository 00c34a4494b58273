//! Bare system calls, and errno: this crate's way into the kernel that does not lead
//! through libc's symbols, which are hooks.
//!
//! No cancellation points, no errno, no way back into a hook.

use std::ffi::c_int;
use std::io;

#[cfg(feature = "sim")]
use super::simulated::{self, World};

/// A positive error number of the kernel.
pub(crate) type Errno = c_int;

/// What a system call says: a count (or a descriptor), or an error number.
pub(crate) type Answer = Result<usize, Errno>;

/// The kernel's `sizeof(sigset_t)`, which is not libc's.
pub(crate) const KERNEL_SIGSET_BYTES: usize = 8;

/// Makes a system call; arguments are widened as C would widen them.
///
/// Must stand inside `unsafe`: the call's own contract is the caller's.
macro_rules! sys {
    ($number:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::syscall::syscall(libc::$number, $crate::sys::syscall::six([$($arg as usize),*]))
    };
}
pub(crate) use sys;

/// Fills up with zeros.
#[inline(always)]
pub(crate) fn six<const N: usize>(args: [usize; N]) -> [usize; 6] {
    std::array::from_fn(|at| args.get(at).copied().unwrap_or(0))
}

/// # Safety
///
/// - The arguments fulfil the contract of system call `number`.
#[inline(always)]
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Answer {
    // Not even a frame's room for it otherwise: signal handlers make system calls.
    #[cfg(feature = "sim")]
    if let Some(world) = simulated::world() {
        // SAFETY: forwarded.
        return unsafe { ask_in(world, number, args) };
    }
    // SAFETY: forwarded.
    answer(unsafe { trap(number, args) })
}

#[inline(always)]
fn answer(result: isize) -> Answer {
    // The kernel answers -4095 ..= -1 for errors and nothing else up there.
    if (-4095..0).contains(&result) {
        Err(-result as Errno)
    } else {
        Ok(result as usize)
    }
}

/// # Safety
///
/// - As for [`syscall`].
#[cfg(feature = "sim")]
#[inline(never)]
unsafe fn ask_in(world: &dyn World, number: libc::c_long, args: [usize; 6]) -> Answer {
    if let Some(answer) = world.answer(number, args) {
        return answer;
    }
    let mask;
    let mut args = args;
    if number == libc::SYS_rt_sigprocmask && args[1] != 0 {
        // What tells the world of calls that pass the hooks is not to be blocked.
        const TELLS: u64 = 1 << (libc::SIGSYS - 1);
        // SAFETY: the caller's set.
        let set = unsafe { std::ptr::with_exposed_provenance::<u64>(args[1]).read_unaligned() };
        mask = set & !TELLS;
        args[1] = (&raw const mask).expose_provenance();
    }
    // SAFETY: forwarded; the set is a copy.
    let answer = answer(unsafe { trap(number, args) });
    world.answered(number, args, answer);
    answer
}

/// Lets other threads run.
pub(crate) fn sched_yield() {
    // SAFETY: no arguments, no memory.
    let _ = unsafe { sys!(SYS_sched_yield) };
}

/// Asks again as long as signals interrupt: a question that does not wait can
/// be interrupted, too (`poll` with no time left says `EINTR`), and has no
/// answer then.
pub(crate) fn uninterrupted(mut ask: impl FnMut() -> Answer) -> Answer {
    loop {
        match ask() {
            Err(libc::EINTR) => {}
            answer => return answer,
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(feature = "sim")))]
#[inline(always)]
pub(super) unsafe fn trap(number: libc::c_long, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let result: isize;
    // SAFETY: the kernel's calling convention: rcx and r11 are lost, the
    // stack is not touched; memory effects are the caller's promise.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Made at one place (`own_call.rs`), by which the kernel knows this crate's own calls.
#[cfg(all(target_arch = "x86_64", feature = "sim"))]
#[inline(always)]
pub(super) unsafe fn trap(number: libc::c_long, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let result: isize;
    // SAFETY: as of the instruction: rcx and r11 are lost, memory effects are the caller's
    // promise. The call's return address is what it puts on the stack.
    unsafe {
        std::arch::asm!(
            "call {call}",
            call = sym super::own_call::crore_system_call,
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) unsafe fn trap(number: libc::c_long, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    let result: isize;
    // SAFETY: the kernel's calling convention: only x0 changes, the stack is
    // not touched; memory effects are the caller's promise.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// An answer as std's types have it.
pub(crate) fn to_io(answer: Answer) -> io::Result<usize> {
    answer.map_err(io::Error::from_raw_os_error)
}

/// The kernel's number of this thread: never 0, and the same for all its coroutines,
/// also those with thread-locals of their own.
pub(crate) fn tid() -> u32 {
    // SAFETY: no arguments.
    unsafe { sys!(SYS_gettid) }.map_or(0, |tid| tid as u32)
}

/// The thread's errno.
pub(crate) fn errno() -> Errno {
    // SAFETY: libc's own thread-local.
    unsafe { *libc::__errno_location() }
}

/// Sets the thread's errno.
pub(crate) fn set_errno(code: Errno) {
    // SAFETY: libc's own thread-local.
    unsafe { *libc::__errno_location() = code }
}

/// The C convention for `answer`. errno is set last: to the error, or on
/// success to `saved`, because other coroutines may have changed it meanwhile.
pub(crate) fn answer_c(answer: Answer, saved: Errno) -> isize {
    match answer {
        Ok(count) => {
            set_errno(saved);
            count as isize
        }
        Err(code) => {
            set_errno(code);
            -1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counts_or_error_numbers() {
        let mut buf = [0u8; 4];
        // SAFETY: a valid buffer; -1 is never open.
        unsafe {
            assert_eq!(sys!(SYS_getpid), Ok(std::process::id() as usize));
            assert_eq!(sys!(SYS_read, -1i32, buf.as_mut_ptr(), 4), Err(libc::EBADF));
        }
    }

    #[test]
    fn errno_is_kept_on_success_and_set_on_failure() {
        set_errno(5);
        assert_eq!(answer_c(Ok(3), 9), 3);
        assert_eq!(errno(), 9);
        assert_eq!(answer_c(Err(11), 9), -1);
        assert_eq!(errno(), 11);
    }
}
