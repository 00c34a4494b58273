//! Fork handlers (`pthread_atfork`): a child lets go of its parent's workers.
//!
//! Their threads are not there, their epolls are the parent's. So the thread
//! that forked is a plain thread in the child, even if it was in the middle of
//! a coroutine, and no other worker is known: calls block, descriptors are
//! closed without notice, wake-ups lead nowhere. A child that wants a
//! runtime starts one.
//!
//! A coroutine with thread-locals of its own forks as its thread: glibc writes
//! the thread's number in the child into the block in use, tells the kernel of
//! it, and forgets all other threads. So the thread's block is in use while
//! glibc forks, and the coroutine's again afterwards, in the child as well: it
//! is that thread's from then on.

use std::cell::Cell;
use std::ptr;

use super::current::CurrentTask;
use super::ends;
use super::own_tls;
use super::tls_blocks::OwnTls;
use super::worker::Worker;
use super::worker_handle::WorkerHandle;
use crate::sys::fd::{bell, own};
use crate::sys::fork;
use crate::task::set_running;
use crate::util::gate::Interrupted;

thread_local! {
    /// The coroutine that forks now, if its thread-locals are its own.
    static FORKING: Cell<*const OwnTls> = const { Cell::new(ptr::null()) };
}

/// Installs the handlers; every worker calls it before it begins, and who takes a lock
/// that a child needs.
pub(crate) fn watch_forks() {
    fork::watch(before, in_parent, in_child);
}

extern "C" fn before() {
    if let Some(cx) = CurrentTask::running_or_interrupted().filter(|cx| cx.has_own_tls()) {
        // SAFETY: this coroutine runs here, with its own block; `back` follows on
        // the same thread, and this frame uses no thread-local (I12).
        let own = unsafe { own_tls::to_thread(cx.worker(), cx.slot()) };
        forking(own);
    }
}

extern "C" fn in_parent() {
    back();
}

extern "C" fn in_child() {
    forget();
    WorkerHandle::forget_all();
    ends::forget_sleepers();
    bell::forget();
    own::forget();
    own_tls::note_child();
    if let Some(own) = back() {
        forget();
        // SAFETY: the child has one thread, with the coroutine's block.
        unsafe { own_tls::enlist_in_child(own) };
    }
}

/// To the block that `before` has left, if it has: the block's coroutine's.
fn back() -> Option<&'static OwnTls> {
    // SAFETY: the coroutine that forks is alive, and so is what it has.
    let own = unsafe { forking(ptr::null()).as_ref() }?;
    // SAFETY: the thread's block is in use since `before`; no thread-local is used
    // in this frame (I12).
    unsafe { own_tls::to_block(own) };
    Some(own)
}

// What is called between two changes of block must not be inlined.

#[inline(never)]
fn forking(now: *const OwnTls) -> *const OwnTls {
    FORKING.replace(now)
}

#[inline(never)]
fn forget() {
    set_running(ptr::null());
    Interrupted::forget();
    Worker::forget();
}
