//! `longjmp`: a jump within one stack is libc's own affair. One to where no code of
//! this thread may go on is refused, by ending the process with the reason: a signal
//! handler that interrupts an idle worker and means to leave a call that waits jumps
//! into a coroutine that is parked. So is one out of `run`, or out of a generator. Left
//! out of statically linked programs.

use std::ffi::{c_int, c_void};
use std::fmt::Write;

use crate::hook::libc::hook;
use crate::sched;
use crate::stack::report::SignalWriter;
use crate::sys::{jump, signal};

/// A `jmp_buf`, of which little is known.
type JumpBuffer = *mut c_void;

/// Returns if the jump may be made. As handlers may: they call this.
///
/// # Safety
///
/// - `setjmp` or one of its kin has filled the buffer.
#[inline]
unsafe fn check(buffer: JumpBuffer) {
    // SAFETY: forwarded.
    let to = unsafe { jump::stack_pointer(buffer) };
    if let Some(why) = sched::refused_jump(to) {
        refuse(why);
    }
}

#[cold]
fn refuse(why: &str) -> ! {
    let mut out = SignalWriter::new();
    let _ = writeln!(
        out,
        "crore: a longjmp or siglongjmp {why}; let the signal's handler take a note and \
         return, and end a wait by crore::timeout or a cancellation"
    );
    out.flush();
    signal::abort()
}

hook!(
    next,
    unsafe extern "C" fn longjmp(buffer: JumpBuffer, value: c_int) -> ! {
        // SAFETY: the caller's buffer, in both.
        unsafe {
            check(buffer);
            longjmp::next(buffer, value)
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn _longjmp(buffer: JumpBuffer, value: c_int) -> ! {
        // SAFETY: the caller's buffer, in both.
        unsafe {
            check(buffer);
            _longjmp::next(buffer, value)
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn siglongjmp(buffer: JumpBuffer, value: c_int) -> ! {
        // SAFETY: the caller's buffer, in both.
        unsafe {
            check(buffer);
            siglongjmp::next(buffer, value)
        }
    }
);

hook!(
    next,
    /// What C code compiled with `_FORTIFY_SOURCE` calls for all of them.
    unsafe extern "C" fn __longjmp_chk(buffer: JumpBuffer, value: c_int) -> ! {
        // SAFETY: the caller's buffer, in both.
        unsafe {
            check(buffer);
            __longjmp_chk::next(buffer, value)
        }
    }
);

#[cfg(test)]
mod tests {
    use crate::sched::refused;

    /// A signal comes between the worker's word that a coroutine runs and the switch, and
    /// its handler jumps to where it believes to be.
    #[test]
    fn a_worker_on_its_way_to_a_coroutine_does_not_jump_there() {
        let outside = [0_u8];
        let caller = outside.as_ptr().addr();
        let worker = caller - 100_000;
        crate::run(move || {
            let (here, second) = ([0_u8], Box::new([0_u8]));
            let (here, second) = (here.as_ptr().addr(), second.as_ptr().addr());
            let leads = |from, to, running| refused(from, to, running).is_none();
            for from in [worker, caller] {
                assert!(!leads(from, here, true) && !leads(from, here, false));
                assert!(leads(from, worker, false) && !leads(from, caller, false));
            }
            assert!(leads(here, here + 1, true));
            assert!(!leads(here, worker, true) && !leads(here, caller, true));
            // Second stacks that a coroutine has made, and back.
            assert!(leads(here, second, true) && leads(second, here, true));
            assert!(!leads(second, worker, true) && !leads(second, caller, true));
        })
        .unwrap();
    }
}
