//! Knows whether this process is the child of a `fork`.
//!
//! A forked child shares its parent's epoll instances: what it registers or
//! deregisters there, it does to its parent. So in a child the hooks become
//! plain calls and nothing is deregistered.

use std::sync::atomic::{AtomicBool, Ordering};

static WATCHING: AtomicBool = AtomicBool::new(false);
static CHILD: AtomicBool = AtomicBool::new(false);

/// Makes later forks be noticed. Cheap to call again; runtimes call it when
/// they are built, before there is anything to protect.
pub(crate) fn watch() {
    extern "C" fn in_child() {
        CHILD.store(true, Ordering::Relaxed);
    }
    if WATCHING.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: `in_child` only stores to an atomic, which a fork handler may
    // do. The only error is ENOMEM: then a fork goes unnoticed, as without us.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

/// True in a process that was forked after [`watch`].
#[inline]
pub(crate) fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_child_is_a_child() {
        watch();
        watch();
        // SAFETY: the child calls nothing but `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(if is_child() { 7 } else { 1 }) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: our own child, a valid place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
            "{status:#x}"
        );
        assert!(!is_child());
    }
}
