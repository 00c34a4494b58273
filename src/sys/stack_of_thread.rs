//! Where a thread runs: its own stack, its signal stack.

use std::ops::Range;

use super::signal::SignalStack;
use super::syscall::sys;

/// How far below the frames of a worker its thread's stack is looked at: no handler
/// that interrupts it takes more, and few threads have less.
const BELOW: usize = 256 << 10;

/// Where the caller runs on a second stack: so much of that.
const ABOVE: usize = 64 << 10;

/// No frame of a worker's is further below the top of its thread's stack.
const DEPTH: usize = 64 << 20;

/// The calling thread's stack, as far as it is in use, and some of what is below.
pub(crate) fn here() -> Range<usize> {
    let mark = 0_u8;
    let at = (&raw const mark).addr();
    let top = Some(top()).filter(|top| top.wrapping_sub(at) < DEPTH);
    at.saturating_sub(BELOW)..top.unwrap_or(at.saturating_add(ABOVE))
}

/// About where the calling thread's own stack begins. (The main thread's is below what
/// the kernel has put there for the program, others' below what libc has.)
fn top() -> usize {
    // SAFETY: no pointers.
    let [thread, process] = unsafe { [sys!(SYS_gettid), sys!(SYS_getpid)] };
    // SAFETY: no preconditions.
    unsafe {
        if thread == process {
            libc::getauxval(libc::AT_EXECFN) as usize
        } else {
            libc::pthread_self() as usize
        }
    }
}

/// Whether a signal handler runs here, on the thread's signal stack.
pub(crate) fn is_on_signal_stack() -> bool {
    // What can't be told is taken for one.
    SignalStack::current().map_or(true, |stack| stack.is_in_use())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also the frames of callers' callers.
    #[test]
    fn all_of_a_stack_that_is_in_use_is_known() {
        fn deep(outer: &[u8; 256 << 10]) {
            let ours = here();
            assert!(ours.contains(&(&raw const outer[0]).addr()));
            assert!(ours.contains(&(&raw const outer[(256 << 10) - 1]).addr()));
        }
        std::hint::black_box(deep)(&std::hint::black_box([1; 256 << 10]));
    }

    #[test]
    fn threads_know_where_they_run() {
        let mark = 0;
        assert!(here().contains(&(&raw const mark).addr()));
        let elsewhere = Box::new(0);
        assert!(!here().contains(&(&raw const *elsewhere).addr()));
        assert!(!is_on_signal_stack());
    }
}
