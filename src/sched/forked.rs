//! A forked child lets go of its parent's workers.
//!
//! Their threads are not there, their epolls are the parent's. So the thread
//! that forked is a plain thread in the child, even if it was in the middle of
//! a coroutine, and no other worker is known: calls block, descriptors are
//! closed without telling anybody, wake-ups lead nowhere. A child that wants a
//! runtime starts one.

use std::ptr;

use super::remote::Remote;
use super::worker::Worker;
use crate::sys::fork;
use crate::task::RUNNING;

/// Makes later forks be noticed; every worker calls it before it begins.
pub(super) fn watch() {
    extern "C" fn forget() {
        RUNNING.set(ptr::null());
        Worker::forget();
        Remote::forget_all();
    }
    fork::watch(forget);
}
