//! What waits ask of threads that are coroutines: see `hook/wait/interrupt.rs`, which is
//! lower.

use super::thread::Thread;
use super::{interrupt, mask, number, to_process};
use crate::hook::wait::interrupt::{Actions, install};

/// A thread begins: from here on others may interrupt it.
pub(super) fn begin(thread: &Thread) {
    install(Actions {
        is_thread: || Thread::current().is_some(),
        number: number::own,
        settle: interrupt::settle,
        end_if_cancelled: interrupt::end_if_cancelled,
        pass_signals: to_process::pass,
        replace_mask: mask::replace,
    });
    to_process::begin();
    interrupt::begin(thread);
}
