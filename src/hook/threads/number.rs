//! Numbers: `gettid`, `tgkill`. Programs that keep who holds a lock of theirs by the kernel's
//! number of a thread are to tell those of one worker apart. So each thread has its own,
//! which the kernel has never given; the main thread has the process's, as ever. To the
//! kernel itself they mean nothing.

use std::ffi::c_int;
use std::sync::Arc;

use libc::pid_t;

use super::kill::kill;
use super::mask;
use super::pending::SentSignal;
use super::thread::Thread;
use crate::hook::libc::hook;
use crate::sys::syscall::set_errno;

/// The running thread's, if that is a coroutine.
pub(super) fn own() -> Option<u32> {
    mask::current().map(|thread| of(&thread))
}

fn of(thread: &Arc<Thread>) -> u32 {
    match Thread::main() {
        Some(main) if Arc::ptr_eq(&main, thread) => std::process::id(),
        _ => thread.number(),
    }
}

fn find(number: u32) -> Option<Arc<Thread>> {
    if number == std::process::id() {
        return Thread::main();
    }
    Thread::any(|thread| thread.number() == number)
}

hook!(
    next_or(SYS_gettid),
    unsafe extern "C" fn gettid() -> pid_t {
        match own() {
            Some(number) => number as pid_t,
            // SAFETY: no arguments.
            None => unsafe { gettid::next() },
        }
    }
);

hook!(
    next_or(SYS_tgkill),
    unsafe extern "C" fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> c_int {
        let here = mask::current().is_some() && process as u32 == std::process::id();
        let Some(ours) = here.then(|| find(thread as u32)).flatten() else {
            // SAFETY: no pointers.
            return unsafe { tgkill::next(process, thread, signal) };
        };
        let sent = SentSignal {
            signal,
            value: None,
        };
        match kill(&ours, sent) {
            0 => 0,
            code => {
                set_errno(code);
                -1
            }
        }
    }
);
