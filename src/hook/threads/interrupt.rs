//! Interruptions of threads that are coroutines, by signals and by cancellation; and
//! the calls that say whether one may be cancelled.
//!
//! That a thread is cancelled is noted here, and not in its block, until it comes to a
//! cancellation point: then it cancels itself, and libc does the rest as ever. (libc's own
//! way to another thread is a signal, which would come to whatever runs on the worker.)

use std::cell::Cell;
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::Ordering;

use libc::pthread_t;

use super::thread::Thread;
use crate::hook::libc::hook;
use crate::hook::wait::interrupt::Verdict;
use crate::sched::{self, CurrentTask};
use crate::sys::syscall::{KERNEL_SIGSET_BYTES, sys};
use crate::task::Addr;
use crate::task::provisional_id::TaskRequest;

// `PTHREAD_CANCEL_…`, which the crate libc lacks.
const ENABLE: c_int = 0;
const DISABLE: c_int = 1;
const DEFERRED: c_int = 0;
const ASYNCHRONOUS: c_int = 1;

thread_local! {
    /// The thread sends itself what others have sent it.
    static SENDS_ITSELF: Cell<bool> = const { Cell::new(false) };
}

/// Whether the signal that comes now is such a one: for nobody else.
pub(super) fn sends_itself() -> bool {
    SENDS_ITSELF.get()
}

/// A thread begins.
pub(super) fn begin(thread: &Thread) {
    let Some(cx) = CurrentTask::running() else {
        return;
    };
    thread.set_task(cx.addr());
    // What came before.
    if thread.is_cancelled() || thread.has_sent() {
        cx.interrupt();
    }
}

/// Interrupts another thread in its wait, or in its next one.
pub(super) fn interrupt(thread: &Thread) {
    if let Some(task) = thread.task() {
        sched::request(TaskRequest::Interrupt, task);
    }
}

/// Sends the calling thread what it lets in now and others have sent.
pub(super) fn deliver(thread: &Thread) {
    let mask = *thread.mask.lock();
    while let Some(sent) = thread.take_pending(!mask) {
        let disposition = Disposition::of(sent.signal);
        // What it ends in, if it fails, is for nobody.
        SENDS_ITSELF.set(true);
        let _ = sent.send(thread.tid());
        SENDS_ITSELF.set(false);
        if disposition.is_handled() {
            thread.note_handled(disposition.restarts());
        }
    }
}

/// Whether it is the calling thread.
pub(super) fn is_running(thread: &Thread) -> bool {
    // SAFETY: no preconditions.
    thread.id() == unsafe { libc::pthread_self() }
}

/// What the kernel does with a signal.
pub(super) struct Disposition {
    handler: usize,
    flags: u64,
}

impl Disposition {
    pub(super) fn of(signal: c_int) -> Self {
        // As the kernel has it: handler, flags, restorer, mask.
        let mut action = [0_u64; 4];
        let place = action.as_mut_ptr();
        // SAFETY: no new action; a place for the present one.
        let _ = unsafe { sys!(SYS_rt_sigaction, signal, 0, place, KERNEL_SIGSET_BYTES) };
        Self {
            handler: action[0] as usize,
            flags: action[1],
        }
    }

    /// Whether a function of the program's runs.
    pub(super) fn is_handled(&self) -> bool {
        self.handler != libc::SIG_DFL && self.handler != libc::SIG_IGN
    }

    pub(super) fn restarts(&self) -> bool {
        self.flags & libc::SA_RESTART as u64 != 0
    }
}

pub(super) fn settle() -> Verdict {
    let Some(thread) = Thread::current() else {
        return Verdict::Fail;
    };
    deliver(&thread);
    let verdict = thread.take_handled();
    if thread.is_cancelled() && may_be_cancelled() {
        return Verdict::Cancel;
    }
    verdict
}

/// Whether the calling thread lets itself be cancelled.
fn may_be_cancelled() -> bool {
    let mut state = DISABLE;
    // SAFETY: a place of ours; what it was is put back.
    unsafe {
        pthread_setcancelstate::next(DISABLE, &mut state);
        pthread_setcancelstate::next(state, ptr::null_mut());
    }
    state == ENABLE
}

/// The calling thread's block says from here on that it is cancelled, if it is.
fn tell_libc() -> bool {
    match Thread::current() {
        Some(thread) if may_be_cancelled() && thread.take_cancellation() => {
            let id = thread.id();
            drop(thread);
            // SAFETY: the calling thread, which may end in this.
            unsafe { pthread_cancel::next(id) };
            true
        }
        _ => false,
    }
}

/// The calling thread has cancelled itself: it ends at its next cancellation point, or now
/// if it may at any time.
fn cancelled_itself() {
    let mut kind = DEFERRED;
    // SAFETY: a place of ours; what it was is put back.
    unsafe {
        pthread_setcanceltype::next(DEFERRED, &mut kind);
        pthread_setcanceltype::next(kind, ptr::null_mut());
    }
    if kind == ASYNCHRONOUS {
        tell_libc();
    }
    look_again();
}

hook!(
    next,
    /// The calling thread ends in this if it may be cancelled at any time.
    unsafe extern "C-unwind" fn pthread_cancel(thread: pthread_t) -> c_int {
        if let Some(ours) = Thread::find(thread) {
            ours.set_cancelled();
            if is_running(&ours) {
                drop(ours);
                cancelled_itself();
            } else {
                interrupt(&ours);
            }
            return 0;
        }
        // SAFETY: the caller's thread.
        unsafe { pthread_cancel::next(thread) }
    }
);

pub(super) fn end_if_cancelled() {
    if tell_libc() {
        // SAFETY: no frame of ours owns anything here.
        unsafe { pthread_testcancel::next() };
    }
}

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_testcancel() {
        tell_libc();
        // SAFETY: no preconditions.
        unsafe { pthread_testcancel::next() }
    }
);

/// The calling thread has changed how it may be cancelled: a cancellation that waits for
/// that is to be found by its next call.
fn look_again() {
    let thread = Thread::current();
    let cancelled = thread.is_some_and(|thread| thread.is_cancelled());
    if let Some(cx) = CurrentTask::running().filter(|_| cancelled) {
        cx.interrupt();
    }
}

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int {
        // SAFETY: the caller's place.
        let code = unsafe { pthread_setcancelstate::next(state, old) };
        look_again();
        code
    }
);

hook!(
    next,
    /// As soon as it may be cancelled at any time it is, if it waits for that.
    unsafe extern "C-unwind" fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int {
        // SAFETY: the caller's place.
        let code = unsafe { pthread_setcanceltype::next(kind, old) };
        if code == 0 && kind == ASYNCHRONOUS {
            tell_libc();
        }
        code
    }
);

impl Thread {
    /// Whether its task is the one with these bits.
    pub(super) fn is_task(&self, bits: u64) -> bool {
        bits != 0 && self.task.load(Ordering::SeqCst) == bits
    }

    fn set_task(&self, task: Addr) {
        self.task.store(task.to_bits(), Ordering::SeqCst);
    }

    /// None before it begins: then it looks itself.
    fn task(&self) -> Option<Addr> {
        match self.task.load(Ordering::SeqCst) {
            0 => None,
            bits => Some(Addr::from_bits(bits)),
        }
    }

    fn set_cancelled(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn take_cancellation(&self) -> bool {
        self.cancelled.swap(false, Ordering::SeqCst)
    }
}
