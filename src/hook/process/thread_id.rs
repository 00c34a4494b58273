//! Thread identity: calls about the calling thread as the kernel knows it, from
//! coroutines that have thread-locals of their own.
//!
//! There `pthread_self` is the coroutine, with a number that the kernel has
//! never given (so that locks can tell coroutines apart). Functions of libc
//! that hand the number to the kernel would fail; here they get the thread's.
//! Functions that change the user of all threads find the callers' thread
//! among the others; here they run as the thread.
//!
//! Left out of statically linked programs, where there are no own
//! thread-locals.

use std::ffi::c_int;

use libc::{
    clockid_t, cpu_set_t, gid_t, pthread_attr_t, pthread_t, sched_param, sigval, size_t, uid_t,
};

use crate::hook::libc::hook;
#[cfg(all(feature = "futex", target_env = "gnu"))]
use crate::hook::threads::{Thread, kill::queue};
#[cfg(all(feature = "futex", target_env = "gnu"))]
use crate::sched::is_beginning;
use crate::sched::{CurrentTask, on_thread};
use crate::sys::tls::with_kernel_tid;

/// The thread that a call is about is the caller, a coroutine.
fn is_own(thread: pthread_t) -> bool {
    // SAFETY: no preconditions.
    CurrentTask::running().is_some_and(CurrentTask::has_own_tls)
        && thread == unsafe { libc::pthread_self() }
}

/// Whether this is a thread that is a coroutine (`hook/threads`).
fn is_coroutine(_thread: pthread_t) -> bool {
    #[cfg(all(feature = "futex", target_env = "gnu"))]
    return Thread::find(_thread).is_some();
    #[cfg(not(all(feature = "futex", target_env = "gnu")))]
    false
}

/// Calls `next` with a thread that the kernel knows: for a coroutine its own, for
/// another that is a coroutine the caller's.
fn as_kernel(thread: pthread_t, next: impl FnOnce(pthread_t) -> c_int) -> c_int {
    if is_own(thread) {
        // SAFETY: a coroutine with its own block runs; none of these calls waits, or
        // comes back to the program.
        unsafe { with_kernel_tid(|| next(thread)) }
    } else if is_coroutine(thread) {
        // SAFETY: no preconditions. (Plain threads are asked about as they are.)
        let this = unsafe { libc::pthread_self() };
        match is_own(this) {
            // SAFETY: as above.
            true => unsafe { with_kernel_tid(|| next(this)) },
            false => next(this),
        }
    } else {
        next(thread)
    }
}

macro_rules! about_a_thread {
    ($(fn $name:ident($thread:ident $(, $arg:ident: $ty:ty)*);)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name($thread: pthread_t $(, $arg: $ty)*) -> c_int {
                // SAFETY: the caller's arguments.
                as_kernel($thread, |thread| unsafe { $name::next(thread $(, $arg)*) })
            }
        );)*
    };
}

/// Hints to the kernel about one thread: not taken for one that is a coroutine, whose
/// worker runs others, too.
macro_rules! hints {
    ($(fn $name:ident($thread:ident $(, $arg:ident: $ty:ty)*);)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name($thread: pthread_t $(, $arg: $ty)*) -> c_int {
                if is_coroutine($thread) {
                    return 0;
                }
                // SAFETY: the caller's arguments.
                as_kernel($thread, |thread| unsafe { $name::next(thread $(, $arg)*) })
            }
        );)*
    };
}

hook!(
    next,
    unsafe extern "C" fn pthread_getattr_np(thread: pthread_t, attr: *mut pthread_attr_t) -> c_int {
        #[cfg(all(feature = "futex", target_env = "gnu"))]
        if is_beginning() {
            return libc::ESRCH;
        } else if let Some(ours) = Thread::find(thread) {
            // SAFETY: the caller's place.
            return unsafe { ours.attributes(attr) };
        }
        // SAFETY: the caller's arguments.
        as_kernel(thread, |thread| unsafe {
            pthread_getattr_np::next(thread, attr)
        })
    }
);

hook!(
    next,
    unsafe extern "C" fn pthread_sigqueue(
        thread: pthread_t,
        signal: c_int,
        value: sigval,
    ) -> c_int {
        #[cfg(all(feature = "futex", target_env = "gnu"))]
        if let Some(ours) = Thread::find(thread) {
            return queue(&ours, signal, value);
        }
        // SAFETY: the caller's arguments.
        as_kernel(thread, |thread| unsafe {
            pthread_sigqueue::next(thread, signal, value)
        })
    }
);

macro_rules! about_the_process {
    ($(fn $name:ident($($arg:ident: $ty:ty),*);)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name($($arg: $ty),*) -> c_int {
                // SAFETY: the caller's arguments. libc tells all threads by
                // signal and waits in the kernel; no code of the program runs.
                on_thread(|| unsafe { $name::next($($arg),*) })
            }
        );)*
    };
}

about_a_thread! {
    fn pthread_getaffinity_np(thread, size: size_t, set: *mut cpu_set_t);
    fn pthread_getcpuclockid(thread, clock: *mut clockid_t);
    fn pthread_getschedparam(thread, policy: *mut c_int, param: *mut sched_param);
}

hints! {
    fn pthread_setaffinity_np(thread, size: size_t, set: *const cpu_set_t);
    fn pthread_setschedparam(thread, policy: c_int, param: *const sched_param);
    fn pthread_setschedprio(thread, priority: c_int);
}

about_the_process! {
    fn setuid(id: uid_t);
    fn setgid(id: gid_t);
    fn seteuid(id: uid_t);
    fn setegid(id: gid_t);
    fn setreuid(r: uid_t, e: uid_t);
    fn setregid(r: gid_t, e: gid_t);
    fn setresuid(r: uid_t, e: uid_t, s: uid_t);
    fn setresgid(r: gid_t, e: gid_t, s: gid_t);
    fn setgroups(len: size_t, list: *const gid_t);
}
