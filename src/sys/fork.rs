//! Notices that this process is the child of a `fork`.
//!
//! A forked child has one thread and none of its parent's workers, and it
//! shares its parent's epoll instances: what it registers or deregisters
//! there, it does to its parent. Whoever owns such things leaves a function
//! here that lets go of them in the child; after that the child is a process
//! like any other, with hooks and runtimes of its own.
//!
//! `fork` calls the functions as libc's handlers (`pthread_atfork`), [`around`] calls them
//! where libc does not: at `_Fork`, which signal handlers call.
//!
//! Not noticed: children made by bare system calls.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::sys::report::report;

/// What [`watch`] was given, for ever.
static WATCH: AtomicPtr<AtFork> = AtomicPtr::new(ptr::null_mut());
static GENERATION: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy)]
struct AtFork {
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
}

extern "C" fn count() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Makes `before` run before every later fork, then `in_parent` and `in_child`.
/// One set of functions for the process: later calls do nothing.
///
/// `in_child` runs where only async-signal-safe things are allowed.
pub(crate) fn watch(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) {
    let fresh = Box::into_raw(Box::new(AtFork {
        before,
        in_parent,
        in_child,
    }));
    let (none, release) = (ptr::null_mut(), Ordering::Release);
    let kept = WATCH.compare_exchange(none, fresh, release, Ordering::Relaxed);
    if kept.is_err() {
        // SAFETY: just made, and nobody else's.
        return drop(unsafe { Box::from_raw(fresh) });
    }
    // SAFETY: `count` only adds to an atomic, the others keep to what fork
    // handlers may do. The only error is ENOMEM: then a fork goes unnoticed, as
    // without us.
    unsafe {
        libc::pthread_atfork(None, None, Some(count));
        libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child));
    }
}

/// Makes a call that forks without libc's handlers, with what [`watch`] was given around
/// it. As a handler may: async-signal-safe.
///
/// Not inlined, and without thread-locals: what is called may change them.
#[cfg(all(feature = "hook", not(target_feature = "crt-static")))]
#[inline(never)]
pub(crate) fn around(fork: impl FnOnce() -> libc::pid_t) -> libc::pid_t {
    // SAFETY: null, or one that is never freed.
    let watch = unsafe { WATCH.load(Ordering::Acquire).as_ref() };
    watch.inspect(|watch| (watch.before)());
    let child = fork();
    if child == 0 {
        count();
        watch.inspect(|watch| (watch.in_child)());
    } else {
        watch.inspect(|watch| (watch.in_parent)());
    }
    child
}

/// How many forks lie between this process and the one that began to watch.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A static that a forked child begins anew: what it held, and whoever held its
/// locks, are the parent's.
#[derive(Debug)]
pub(crate) struct PerProcess<T>(AtomicPtr<Made<T>>);

#[derive(Debug)]
struct Made<T> {
    generation: u32,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's; made at the first call, never freed.
    pub(crate) fn get(&'static self) -> &'static T {
        let known = self.0.load(Ordering::Acquire);
        // SAFETY: null, or one that is never freed.
        let made = unsafe { known.as_ref() };
        if let Some(made) = made.filter(|made| made.generation == generation()) {
            return &made.value;
        }
        let fresh = Box::into_raw(Box::new(Made {
            generation: generation(),
            value: T::default(),
        }));
        let published = self
            .0
            .compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire);
        match published {
            // SAFETY: just made, never freed from here on.
            Ok(_) => unsafe { &(*fresh).value },
            Err(other) => {
                // SAFETY: `fresh` was not published; `other` is never freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &(*other).value
                }
            }
        }
    }
}

/// Ends a child whose forking coroutine has ended: there is no worker that it
/// could go back to. The last thread of a process ends it, too.
#[cold]
pub(crate) fn end_child(code: i32) -> ! {
    report(format_args!(
        "a coroutine that forked has ended in the child, and the child ends with it: let \
         the child exec or exit"
    ));
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::syscall::sys;

    #[test]
    fn only_the_child_has_another_generation() {
        extern "C" fn nothing() {}
        watch(nothing, nothing, nothing);
        let ours = generation();
        // SAFETY: the child calls nothing but `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(if generation() == ours + 1 { 7 } else { 1 }) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: our own child, a valid place for its status.
        let waited = unsafe { sys!(SYS_wait4, pid, &raw mut status, 0, 0) };
        assert_eq!(waited, Ok(pid as usize));
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
            "{status:#x}"
        );
        assert_eq!(generation(), ours);
    }
}
