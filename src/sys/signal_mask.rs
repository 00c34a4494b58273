//! Signal masks: the signals that the calling thread blocks.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::syscall::{KERNEL_SIGSET_BYTES, sys};

/// A set of signals, as the kernel has it: signal `n` is bit `n - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SignalMask(pub(crate) u64);

impl SignalMask {
    /// What the thread blocks now.
    pub(crate) fn current() -> Self {
        let mut mask = 0;
        // SAFETY: no new mask, a place for the present one.
        let _ = unsafe { set(ptr::null(), &raw mut mask) };
        Self(mask)
    }

    /// Without this one.
    pub(crate) fn without(self, signal: i32) -> Self {
        Self(self.0 & !bit(signal))
    }

    /// Without what crashes of the code that runs say, and libc's own: nobody is to block
    /// those for others.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn without_faults(self) -> Self {
        const FAULTS: [i32; 7] = [
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGSEGV,
            libc::SIGSYS,
        ];
        let faults = FAULTS.iter().fold(0, |mask, signal| mask | bit(*signal));
        Self(self.0 & !faults).without_libcs()
    }

    /// Without what can't be blocked, and what libc keeps for itself (32 and 33).
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    pub(crate) fn without_libcs(self) -> Self {
        Self(self.0 & !(bit(libc::SIGKILL) | bit(libc::SIGSTOP) | bit(32) | bit(33)))
    }

    /// Blocks these and no others; returns those that were blocked.
    pub(crate) fn replace(self) -> Self {
        let mut former = 0;
        // SAFETY: a mask, a place for the former one.
        let _ = unsafe { set(&raw const self.0, &raw mut former) };
        Self(former)
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether threads of the runtime's own block all signals: where the program's threads
/// are coroutines, the process's signals are for these.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on they do.
pub(crate) fn keep_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Calls `start`, which starts a thread of the runtime's own: it inherits the mask.
pub(crate) fn quietly<R>(start: impl FnOnce() -> R) -> R {
    if !QUIET.load(Ordering::Relaxed) {
        return start();
    }
    let former = SignalMask(u64::MAX).without_faults().replace();
    let result = start();
    former.replace();
    result
}

/// # Safety
///
/// - Null or valid, both.
unsafe fn set(new: *const u64, former: *mut u64) -> super::syscall::Answer {
    // SAFETY: forwarded.
    unsafe {
        sys!(
            SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            new,
            former,
            KERNEL_SIGSET_BYTES
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_put_in_place_of_another() {
        let usr1 = 1 << (libc::SIGUSR1 - 1);
        let ours = SignalMask::current();
        let other = SignalMask(ours.0 | usr1);
        assert_eq!(other.replace(), ours);
        assert_eq!(SignalMask::current(), other);
        assert_eq!(ours.replace(), other);
    }
}
