//! Signals from thread to thread, and to oneself: `pthread_kill`, `pthread_sigqueue`,
//! `raise`. The kernel does not know a thread that
//! is a coroutine, only its worker.
//!
//! So a signal waits for the thread here: for its `sigwait` or until it lets it in, if it
//! blocks it; otherwise until it runs next, and what it waits in is interrupted for that.
//! Its handler runs in it then (`interrupt.rs`). A thread that computes meanwhile gets it
//! at its next hooked call. What no handler takes goes to the worker: it is for the
//! process.

use std::ffi::c_int;

use libc::{pthread_t, sigval};

use super::interrupt::{Disposition, deliver, interrupt, is_running};
use super::mask;
use super::pending::SentSignal;
use super::thread::Thread;
use crate::hook::libc::hook;
use crate::sys::syscall::{errno, set_errno};

pub(super) fn kill(thread: &Thread, sent: SentSignal) -> c_int {
    match sent.signal {
        0 => 0,
        1..=64 if sent.signal != 32 && sent.signal != 33 => {
            let blocked = thread.blocks(sent.signal);
            // It ends, stops or continues the process, or is nothing.
            if !blocked && thread.tid() != 0 && !Disposition::of(sent.signal).is_handled() {
                return sent.send(thread.tid()).err().unwrap_or(0);
            }
            if let Err(code) = thread.pending.add(sent) {
                return code;
            }
            if is_running(thread) {
                deliver(thread);
                // It waits in nothing.
                let _ = thread.take_handled();
            } else if !thread.blocks(sent.signal) {
                // Asked again: it may have let it in before it was there to be found.
                interrupt(thread);
            }
            0
        }
        _ => libc::EINVAL,
    }
}

hook!(
    next,
    unsafe extern "C" fn pthread_kill(thread: pthread_t, signal: c_int) -> c_int {
        let sent = SentSignal {
            signal,
            value: None,
        };
        match Thread::find(thread) {
            Some(ours) => kill(&ours, sent),
            // SAFETY: the caller's thread.
            None => unsafe { pthread_kill::next(thread, signal) },
        }
    }
);

/// As `pthread_sigqueue` (`hook/process/thread_id.rs`).
pub(crate) fn queue(thread: &Thread, signal: c_int, value: sigval) -> c_int {
    let value = Some(value.sival_ptr.expose_provenance());
    kill(thread, SentSignal { signal, value })
}

hook!(
    next,
    unsafe extern "C" fn raise(signal: c_int) -> c_int {
        let Some(thread) = mask::current() else {
            // SAFETY: no pointers.
            return unsafe { raise::next(signal) };
        };
        let saved = errno();
        let sent = SentSignal {
            signal,
            value: None,
        };
        match kill(&thread, sent) {
            0 => {
                set_errno(saved);
                0
            }
            code => {
                set_errno(code);
                -1
            }
        }
    }
);
