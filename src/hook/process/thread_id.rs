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

use std::ffi::{c_char, c_int};

use libc::{
    clockid_t, cpu_set_t, gid_t, pthread_attr_t, pthread_t, sched_param, sigval, size_t, uid_t,
};

use crate::hook::libc::hook;
use crate::sched::{Cx, on_thread};
use crate::sys::tls::with_kernel_tid;

/// The thread that a call is about is the caller, a coroutine.
fn is_own(thread: pthread_t) -> bool {
    // SAFETY: no preconditions.
    Cx::running().is_some_and(Cx::has_own_tls) && thread == unsafe { libc::pthread_self() }
}

macro_rules! about_a_thread {
    ($(fn $name:ident($thread:ident $(, $arg:ident: $ty:ty)*);)*) => {
        $(hook!(
            next,
            unsafe extern "C" fn $name($thread: pthread_t $(, $arg: $ty)*) -> c_int {
                // SAFETY: the caller's arguments.
                let call = || unsafe { $name::next($thread $(, $arg)*) };
                if is_own($thread) {
                    // SAFETY: a coroutine with its own block runs; none of
                    // these waits, or comes back to the program.
                    unsafe { with_kernel_tid(call) }
                } else {
                    call()
                }
            }
        );)*
    };
}

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
    fn pthread_getattr_np(thread, attr: *mut pthread_attr_t);
    fn pthread_getaffinity_np(thread, size: size_t, set: *mut cpu_set_t);
    fn pthread_setaffinity_np(thread, size: size_t, set: *const cpu_set_t);
    fn pthread_getcpuclockid(thread, clock: *mut clockid_t);
    fn pthread_getschedparam(thread, policy: *mut c_int, param: *mut sched_param);
    fn pthread_setschedparam(thread, policy: c_int, param: *const sched_param);
    fn pthread_setschedprio(thread, priority: c_int);
    fn pthread_sigqueue(thread, signal: c_int, value: sigval);
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
    fn initgroups(user: *const c_char, group: gid_t);
}
