//! A forked child lets go of its parent's workers.
//!
//! Their threads are not there, their epolls are the parent's. So the thread
//! that forked is a plain thread in the child, even if it was in the middle of
//! a coroutine, and no other worker is known: calls block, descriptors are
//! closed without telling anybody, wake-ups lead nowhere. A child that wants a
//! runtime starts one.
//!
//! A coroutine with thread-locals of its own forks as its thread: glibc writes
//! the thread's number in the child into the block in use, tells the kernel of
//! it, and forgets all other threads. So the thread's block is in use while
//! glibc forks, and the coroutine's again afterwards, in the child as well: it
//! is that thread's from then on.

use std::cell::Cell;
use std::ptr;

use super::cx::Cx;
use super::own;
use super::remote::Remote;
use super::worker::Worker;
use crate::sys::fork;
use crate::task::{RUNNING, Slot};

thread_local! {
    /// The coroutine that forks now, if its thread-locals are its own.
    static FORKING: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// Makes later forks be noticed; every worker calls it before it begins.
pub(super) fn watch() {
    fork::watch(before, in_parent, in_child);
}

extern "C" fn before() {
    if let Some(cx) = Cx::running().filter(|cx| cx.has_own_locals()) {
        // SAFETY: this coroutine runs here; `back` follows on the same thread.
        unsafe { own::to_thread(cx.slot(), cx.worker()) };
        forking(cx.slot());
    }
}

extern "C" fn in_parent() {
    back();
}

extern "C" fn in_child() {
    forget();
    Remote::forget_all();
    if let Some(slot) = back() {
        forget();
        // SAFETY: the child has one thread.
        unsafe { own::enlist_in_child(slot) };
    }
}

/// To the block that `before` has left, if it has: whose it is.
fn back() -> Option<&'static Slot> {
    // SAFETY: the coroutine that forks is alive, and slots stay where they are.
    let slot = unsafe { forking(ptr::null()).as_ref() }?;
    // SAFETY: the thread's block is in use since `before`.
    unsafe { own::to_block(slot) };
    Some(slot)
}

// What is called between two changes of block must not be inlined.

#[inline(never)]
fn forking(now: *const Slot) -> *const Slot {
    FORKING.replace(now)
}

#[inline(never)]
fn forget() {
    RUNNING.set(ptr::null());
    Worker::forget();
}
