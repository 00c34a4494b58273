//! Signals to the process: their handlers run on whichever worker the kernel takes, at once.
//! What is left to do is to interrupt the thread that they are for, as the kernel would: the
//! main thread if it does not block the signal; or else the one that the handler has
//! interrupted, which then does not wait; or else any that does not block it.
//!
//! [`told`] runs behind the handler and only makes a note. A worker does the rest, in its
//! loop, with the wake-ups that handlers defer (`sched/deferred.rs`).

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::interrupt::{Disposition, interrupt, sends_itself};
use super::thread::Thread;
use crate::sched::{self, CurrentTask, Worker};
use crate::sys::handlers;
use crate::sys::signal_mask::SignalMask;

/// One bit for each signal whose handler has run.
static CAME: AtomicU64 = AtomicU64::new(0);
/// By signal: the task that its handler has interrupted the last time; 0 if none.
static INTERRUPTED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// From here on.
pub(super) fn begin() {
    handlers::tell(told);
}

/// A handler of the program's has returned. Async-signal-safe.
fn told(signal: c_int, code: c_int) {
    // By `tgkill` it is a thread's, and a thread of the kernel's waits in the kernel.
    if code != libc::SI_TKILL && Worker::current().is_some() && !sends_itself() {
        note(signal);
    }
}

/// A function of its own: other threads' signal stacks may have little room.
#[inline(never)]
fn note(signal: c_int) {
    let bit = SignalMask(1 << (signal - 1)).without_faults().0;
    if bit == 0 {
        return;
    }
    let task = CurrentTask::running().map_or(0, |cx| cx.addr().to_bits());
    INTERRUPTED[signal as usize - 1].store(task, Ordering::Relaxed);
    CAME.fetch_or(bit, Ordering::SeqCst);
    sched::wake_later();
}

/// Interrupts whom the signals are for whose handlers have run. Not in a handler.
pub(super) fn pass() {
    if CAME.load(Ordering::Relaxed) == 0 {
        return;
    }
    let came = CAME.swap(0, Ordering::SeqCst);
    for signal in (1..=64).filter(|signal| came >> (signal - 1) & 1 != 0) {
        let was_running = INTERRUPTED[signal as usize - 1].load(Ordering::Relaxed);
        if let Some(thread) = taker(signal, was_running) {
            thread.note_handled(Disposition::of(signal).restarts());
            interrupt(&thread);
        }
    }
}

/// The thread whose wait ends by the signal, if it is in one.
fn taker(signal: c_int, was_running: u64) -> Option<Arc<Thread>> {
    let lets_in = |thread: &Thread| thread.has_begun() && !thread.blocks(signal);
    let is_running = |thread: &Thread| thread.is_task(was_running);
    if let Some(main) = Thread::main().filter(|main| lets_in(main)) {
        return Some(main).filter(|main| !is_running(main));
    }
    if Thread::any(|thread| is_running(thread) && lets_in(thread)).is_some() {
        return None;
    }
    Thread::any(lets_in)
}
