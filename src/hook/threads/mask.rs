//! Signal masks: `pthread_sigmask` and `sigprocmask` of threads that are coroutines, and
//! `sigpending`, of what they have not let in.
//!
//! The kernel knows the mask of a worker, on which many of them run. So each thread's
//! mask is kept here, and the worker blocks what *all* of its threads block: a signal to
//! the process goes to whoever does not block it, as ever, though its handler may then
//! interrupt a thread of the same worker that does. A worker without threads blocks all,
//! and so do the runtime's helpers (`sys/signal_mask.rs`): nothing of crore's is
//! anybody's to be interrupted.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::sigset_t;

use super::interrupt::deliver;
use super::thread::Thread;
use crate::hook::libc::hook;
use crate::sched::{CurrentTask, Worker};
use crate::sys::fork::PerProcess;
use crate::sys::signal_mask::SignalMask;
use crate::sys::syscall::{errno, set_errno};
use crate::util::gate::Interrupted;
use crate::util::no_park::NoParkMutex;

/// What the threads of one worker block.
struct Masks {
    threads: u32,
    /// How many of them block each signal.
    blocked: [u32; 64],
    /// What the code there blocks that is no such thread: all, if there is none.
    rest: u64,
}

impl Masks {
    /// Of a worker without threads.
    fn of(worker: &Worker) -> Self {
        let has_rest = worker.position() == 0 && !MAIN_IS_THREAD.load(Ordering::Relaxed);
        Self {
            threads: 0,
            blocked: [0; 64],
            rest: if has_rest {
                SignalMask::current().0
            } else {
                u64::MAX
            },
        }
    }

    fn count(&mut self, mask: u64, by: i32) {
        self.threads = self.threads.wrapping_add_signed(by);
        for (bit, count) in self.blocked.iter_mut().enumerate() {
            if mask >> bit & 1 != 0 {
                *count = count.wrapping_add_signed(by);
            }
        }
    }

    /// What all of them block.
    fn common(&self) -> SignalMask {
        let bits = self.blocked.iter().enumerate();
        let all = bits.filter(|(_, count)| **count == self.threads);
        let all = all.fold(0, |mask, (bit, _)| mask | 1 << bit);
        SignalMask(all & self.rest).without_faults()
    }
}

/// Those of each worker that has threads, by its number.
static MASKS: PerProcess<NoParkMutex<BTreeMap<u32, Masks>>> = PerProcess::new();

/// The first worker runs a program's `main` as a thread, and nothing else of the program.
static MAIN_IS_THREAD: AtomicBool = AtomicBool::new(false);

pub(super) fn main_is_thread() {
    MAIN_IS_THREAD.store(true, Ordering::Relaxed);
}

/// Counts this worker's threads anew, and has it block what they block now.
fn change(worker: &Worker, change: impl FnOnce(&mut Masks)) {
    let mut all = MASKS.get().lock();
    let masks = all
        .entry(worker.index())
        .or_insert_with(|| Masks::of(worker));
    let before = (masks.threads > 0).then(|| masks.common());
    change(masks);
    let now = masks.common();
    if before != Some(now) {
        now.replace();
    }
    if masks.threads == 0 {
        all.remove(&worker.index());
    }
}

/// How many workers have threads.
pub(super) fn count() -> usize {
    MASKS.get().lock().len()
}

/// A thread begins here, with this mask.
pub(super) fn begin(worker: &Worker, mask: u64) {
    change(worker, |masks| masks.count(mask, 1));
}

/// It has ended, on this worker.
pub(super) fn end(worker: &Worker, mask: u64) {
    change(worker, |masks| masks.count(mask, -1));
}

/// What a thread that starts now blocks: what its creator does.
pub(super) fn inherited() -> u64 {
    match Thread::current() {
        Some(creator) => *creator.mask.lock(),
        None => SignalMask::current().0,
    }
}

/// Whose mask is kept here. Signal handlers change the kernel's, which it puts back when
/// they return; and they may have interrupted whoever holds a lock of ours.
pub(super) fn current() -> Option<Arc<Thread>> {
    match Interrupted::noted() {
        None => Thread::current(),
        Some(_) => None,
    }
}

/// The calling thread blocks these from here on, and is sent what it lets in. Returns what
/// it has blocked.
fn set(thread: &Thread, worker: &Worker, wanted: u64) -> u64 {
    let after = SignalMask(wanted).without_libcs().0;
    let before = std::mem::replace(&mut *thread.mask.lock(), after);
    change(worker, |masks| {
        masks.count(before, -1);
        masks.count(after, 1);
    });
    deliver(thread);
    before
}

/// For the time of a call that is to have this mask. Handlers that run by that
/// interrupt it.
pub(super) fn replace(wanted: u64) -> Option<u64> {
    let (thread, worker) = current().zip(Worker::current())?;
    let before = set(&thread, worker, wanted);
    if thread.has_handled() {
        CurrentTask::running()?.interrupt();
    }
    Some(before)
}

/// `pthread_sigmask` of a thread that is a coroutine.
///
/// # Errors
///
/// The error number.
///
/// # Safety
///
/// - Places, or null.
unsafe fn set_mask(thread: &Thread, how: c_int, new: *const sigset_t, old: *mut sigset_t) -> c_int {
    let Some(worker) = Worker::current() else {
        return libc::EINVAL;
    };
    let before = *thread.mask.lock();
    // SAFETY: the caller's set, whose first word has the kernel's signals.
    if let Some(new) = unsafe { new.cast::<u64>().as_ref() } {
        let wanted = match how {
            libc::SIG_BLOCK => before | new,
            libc::SIG_UNBLOCK => before & !new,
            libc::SIG_SETMASK => *new,
            _ => return libc::EINVAL,
        };
        set(thread, worker, wanted);
        // It waits in nothing.
        let _ = thread.take_handled();
    }
    // SAFETY: the caller's place, or null.
    if let Some(old) = unsafe { old.as_mut() } {
        // SAFETY: a set of libc's size, whose other words are no signals.
        unsafe {
            libc::sigemptyset(old);
            std::ptr::from_mut(old).cast::<u64>().write(before);
        }
    }
    0
}

hook!(
    next,
    unsafe extern "C" fn pthread_sigmask(
        how: c_int,
        new: *const sigset_t,
        old: *mut sigset_t,
    ) -> c_int {
        // SAFETY: the caller's places.
        unsafe {
            match current() {
                Some(thread) => set_mask(&thread, how, new, old),
                None => pthread_sigmask::next(how, new, old),
            }
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn sigpending(set: *mut sigset_t) -> c_int {
        // SAFETY: the caller's place.
        let answer = unsafe { sigpending::next(set) };
        if let Some(thread) = current().filter(|_| answer == 0) {
            let ours = thread.pending.kinds() & *thread.mask.lock();
            // SAFETY: as above; its first word has the kernel's signals.
            unsafe { *set.cast::<u64>() |= ours };
        }
        answer
    }
);

hook!(
    next,
    unsafe extern "C" fn sigprocmask(
        how: c_int,
        new: *const sigset_t,
        old: *mut sigset_t,
    ) -> c_int {
        let saved = errno();
        // SAFETY: the caller's places.
        let code = unsafe {
            match current() {
                Some(thread) => set_mask(&thread, how, new, old),
                None => return sigprocmask::next(how, new, old),
            }
        };
        set_errno(if code == 0 { saved } else { code });
        if code == 0 { 0 } else { -1 }
    }
);
