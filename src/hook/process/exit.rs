//! The end of the process: `exit` by one coroutine, while its handlers (`atexit`)
//! wait, and by others meanwhile. Left out of statically linked programs, where
//! libc's own could not be reached any more.
//!
//! Among threads the second one waits for the end, which the first one brings. std
//! and glibc tell the two apart by thread, so it matters what a thread is to them:
//!
//! - A coroutine with thread-locals of its own is one. Its handlers park, and the
//!   others go on; who comes second parks for good. (std has it `pause` for good.)
//! - All others of a worker are one thread, to which a second `exit` is one out of
//!   the first: std aborts. So nobody else may run there any more, and the
//!   handlers block the worker.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hook::libc::hook;
use crate::sched::CurrentTask;
use crate::task::set_unhooked;

/// The coroutine that ends the process, or [`A_THREAD`]; 0 before.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// No coroutine's address.
const A_THREAD: u64 = u64::MAX;

hook!(
    next,
    unsafe extern "C" fn exit(status: c_int) -> ! {
        match CurrentTask::running() {
            Some(cx) => begin(cx),
            None => _ = come_first(A_THREAD),
        }
        // SAFETY: the caller's status.
        unsafe { exit::next(status) }
    }
);

/// # Errors
///
/// Who came before.
fn come_first(me: u64) -> Result<u64, u64> {
    FIRST.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed)
}

/// Returns to the one that ends the process, also if a handler calls `exit` again.
fn begin(cx: CurrentTask) {
    let me = cx.identity().to_bits();
    match come_first(me) {
        Ok(_) if cx.has_own_tls() => {}
        Ok(_) => _ = set_unhooked(true),
        Err(first) if first == me => {}
        Err(_) => wait_for_the_end(cx),
    }
}

fn wait_for_the_end(cx: CurrentTask) {
    while cx.may_wait_on() && cx.on_own_stack() {
        cx.park_regardless_until(None);
    }
}

/// Who waits for nothing in particular once the process ends, waits for that.
pub(super) fn wait_if_ending(cx: CurrentTask) {
    if FIRST.load(Ordering::Relaxed) != 0 {
        wait_for_the_end(cx);
    }
}
