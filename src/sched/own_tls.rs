//! Own thread-locals: coroutines that each have a TLS block, as a thread has.
//!
//! Lives here: the one place where a worker changes to such a coroutine's block
//! and back, and the end of what is in it. Does not live here: which block it has
//! (`tls_blocks.rs`), what a block is and why libc takes it for a thread's
//! (`sys/tls`).
//!
//! The rule that keeps the compiler out of it: **no frame outlives a change of
//! block and uses a thread-local on both sides.** A coroutine's frames see one
//! block only. The worker's loop sees the thread's own, before and after. What
//! is in between is one function that is never inlined and touches no
//! thread-local itself, [`change`]; and the carrier, which says so.
//!
//! What this crate keeps in thread-locals, and where it is looked for:
//!
//! | what | in a block |
//! |---|---|
//! | what is running, the worker, the carrier | written on every resume, by [`enter`] |
//! | a panic's payload on its way to the worker | taken out before the change back |
//! | the yielder of a new carrier, the copy boundary of a shared stack | not used |
//! | whose listener it is, the last host that was found, a random number | each coroutine's own |
//!
//! The thread keeps what the kernel knows it by, and malloc's caches: these
//! travel with it from block to block.

use std::any::Any;
use std::ptr::{self, NonNull};

use super::current::CurrentTask;
#[cfg(feature = "futex")]
use super::own_number;
use super::tls_blocks::OwnTls;
use super::worker::Worker;
#[cfg(feature = "futex")]
use super::worker_handle::WorkerHandle;
use crate::switch::{Carrier, EntryPoint, FpControl, SwitchReason, take_panic};
use crate::sys::simulated;
use crate::sys::tls::{self, ThreadPointer};
use crate::task::{Flags, Slot, set_running};
use crate::util::gate::barrier;

impl Worker {
    /// Runs a coroutine that has thread-locals of its own, until it suspends
    /// or ends.
    ///
    /// # Safety
    ///
    /// - As [`Carrier::resume`].
    #[inline(never)]
    pub(super) unsafe fn resume_own(
        &self,
        slot: &Slot,
        carrier: *mut Carrier,
        entry: *const EntryPoint,
    ) -> SwitchReason {
        let own = self.tls.of(slot);
        let entry = if entry.is_null() {
            own.entry.replace(ptr::null())
        } else {
            entry
        };
        let thread = FpControl::current();
        own.fp_control.get().replace(thread);
        // SAFETY: the caller's promises (I3); the block is this coroutine's.
        let reason = unsafe { change(own, self, slot, carrier, entry) };
        own.fp_control.set(FpControl::current());
        thread.replace(own.fp_control.get());
        match reason {
            // The destructors have run already, or this was them.
            SwitchReason::Panicked if own.ending.get() => SwitchReason::Panicked,
            // A child that the coroutine forked: there is no worker any more.
            SwitchReason::Panicked if Self::current().is_none() => SwitchReason::Panicked,
            // They run where nothing unwinds, on the coroutine's stack.
            SwitchReason::Panicked => {
                own.entry.set(&END);
                SwitchReason::Yielded
            }
            SwitchReason::Finished if self.has_unwound(slot) => SwitchReason::Panicked,
            reason => reason,
        }
    }

    fn has_unwound(&self, slot: &Slot) -> bool {
        let own = self.tls.of(slot);
        let payload = own.payload.take();
        let has = payload.is_some();
        own.payload.set(payload);
        has
    }

    /// The payload that came with [`SwitchReason::Panicked`].
    pub(super) fn payload(&self, slot: &Slot) -> Box<dyn Any + Send> {
        if !slot.has(Flags::OWN_TLS) {
            return take_panic();
        }
        let payload = self.tls.of(slot).payload.take();
        payload.expect("`change` kept it")
    }
}

/// Runs `f` as the thread, if this is a coroutine with thread-locals of its
/// own: for what must find its caller among glibc's threads. errno comes along.
/// Of the program no code may run in `f`.
#[inline(never)]
pub(crate) fn on_thread<R>(f: impl FnOnce() -> R) -> R {
    let Some(cx) = CurrentTask::running().filter(|cx| cx.has_own_tls()) else {
        return f();
    };
    let (slot, worker) = (cx.slot(), cx.worker());
    // SAFETY: this coroutine runs here; no thread-local is used in this frame after
    // the first change (I12).
    let own = unsafe { to_thread(worker, slot) };
    let result = f();
    // SAFETY: `to_thread` left the block of the running coroutine, which lives; as
    // above (I12).
    unsafe { to_block(&*own) };
    result
}

/// From a running coroutine's block to its thread's.
///
/// # Safety
///
/// - The coroutine runs, with its own block. [`to_block`] follows.
#[inline(never)]
pub(super) unsafe fn to_thread(worker: &Worker, slot: &Slot) -> *const OwnTls {
    let (own, thread) = (worker.tls.of(slot), worker.tls.thread);
    // SAFETY: the thread's own block, which no other thread uses; never inlined, no
    // thread-local in this frame (I12).
    unsafe {
        own.block.give_malloc_to(thread);
        thread.enter();
    }
    own
}

/// Back, with errno, which says how it went.
///
/// # Safety
///
/// - [`to_thread`] left the coroutine's block.
#[inline(never)]
pub(super) unsafe fn to_block(own: &OwnTls) {
    let block = &own.block;
    let thread = ThreadPointer::current();
    // SAFETY: the coroutine's block, complete, which no other thread uses; never
    // inlined, no thread-local in this frame (I12).
    unsafe {
        block.take_malloc_from(thread);
        block.take_errno_from(thread);
        block.pointer().enter();
    }
}

/// In a forked child, while the thread's block is in use: notes the thread, whose
/// number is another than its parent's.
#[inline(never)]
pub(super) fn note_child() {
    tls::register_thread(0);
}

/// In a forked child: makes glibc know the block that is in use.
///
/// # Safety
///
/// - The child has one thread, with the coroutine's block.
pub(super) unsafe fn enlist_in_child(own: &OwnTls) {
    // SAFETY: forwarded.
    unsafe { own.block.enlist_in_child() };
}

/// Changes to the coroutine's block, resumes, and changes back.
///
/// # Safety
///
/// - As [`Carrier::resume`], for a coroutine of this worker that has `own`.
#[inline(never)]
unsafe fn change(
    own: &OwnTls,
    worker: &Worker,
    slot: &Slot,
    carrier: *mut Carrier,
    entry: *const EntryPoint,
) -> SwitchReason {
    let thread = worker.tls.thread;
    // SAFETY: we run on the thread whose block is `thread`; the coroutine's is
    // complete, and used by it alone. Never inlined, no thread-local in this frame
    // (I12). The resume is the caller's promise (I3).
    unsafe {
        own.block.take_malloc_from(thread);
        // Before it can take a lock, and until it has let go of all or keeps
        // some while it is suspended.
        worker.handle.own_number.enter(own.block.number());
        own.block.pointer().enter();
        enter(worker, slot, carrier);
        let reason = Carrier::resume(carrier, entry);
        if reason == SwitchReason::Panicked {
            keep_payload(own);
        }
        own.block.give_malloc_to(thread);
        thread.enter();
        worker.handle.own_number.leave();
        reason
    }
}

/// Whether the coroutine that locks know by this number (as glibc's mutexes
/// know their holder) is suspended now. A caller that saw it
/// hold one that it locked while it ran sees that it runs, if it still does.
#[cfg(feature = "futex")]
pub(crate) fn is_suspended(number: u32) -> bool {
    let workers = WorkerHandle::all().map(|handle| &handle.own_number);
    number >= tls::FIRST_NUMBER && !own_number::runs(number, workers)
}

/// Sets the block's thread-locals to the worker and the task that run.
///
/// # Safety
///
/// - The carrier is that of the slot's task, which this worker resumes.
#[inline(never)]
unsafe fn enter(worker: &Worker, slot: &Slot, carrier: *mut Carrier) {
    Worker::set_local(worker, carrier);
    // A handler that finds it running looks at its carrier.
    barrier();
    set_running(slot);
    // SAFETY: it outlives the worker, which was made in it.
    unsafe { simulated::enter(worker.world) };
}

#[cold]
#[inline(never)]
fn keep_payload(own: &OwnTls) {
    let second = own.payload.replace(Some(take_panic()));
    // Of two the first is the reason; destructors of thread-locals abort
    // rather than unwind, so there is hardly ever a second.
    if second.is_some() {
        drop(own.payload.replace(second));
    }
}

/// Ends the thread-locals of a coroutine that has unwound.
static END: EntryPoint = EntryPoint { run: end };

unsafe fn end(_: NonNull<EntryPoint>) {
    if let Some(cx) = CurrentTask::running() {
        cx.end_own_tls();
    }
}

impl CurrentTask {
    /// Whether this coroutine has thread-locals of its own, so that libraries
    /// take it for a thread.
    #[inline(always)]
    pub(crate) fn has_own_tls(self) -> bool {
        self.slot().has(Flags::OWN_TLS)
    }

    /// What this coroutine has in place of a thread's number, if its
    /// thread-locals are its own: what locks note of their holder.
    pub(crate) fn own_number(self) -> Option<u32> {
        let own = self
            .has_own_tls()
            .then(|| self.worker().tls.of(self.slot()));
        own.map(|own| own.block.number())
    }

    /// Whether destructors of thread-locals run: waits must not unwind then.
    pub(super) fn ends_own_tls(self) -> bool {
        self.has_own_tls() && self.worker().tls.of(self.slot()).ending.get()
    }

    /// Runs the destructors of this coroutine's thread-locals. Not while it
    /// unwinds: they would be told so.
    pub(super) fn end_own_tls(self) {
        self.worker().tls.of(self.slot()).ending.set(true);
        // SAFETY: the coroutine's block is entered, and its closure is done.
        unsafe { tls::end_of_thread_locals() };
    }
}
