//! Reports of waits that block more than they should, to standard error. Past
//! std: its lock may be what is waited for.

use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering};

use super::may_park::BlockReason;
use crate::sched::{CurrentTask, describe_running};
use crate::stack::report::SignalWriter;

/// One bit for each reason that was reported.
static REPORTED: AtomicU8 = AtomicU8::new(0);

fn first(reported: &AtomicU8, bit: u8) -> bool {
    reported.fetch_or(1 << bit, Ordering::Relaxed) & 1 << bit == 0
}

/// Reports, once for each reason, that a wait blocks the thread.
pub(super) fn blocked(reason: BlockReason, word: usize) {
    // A coroutine that is alone keeps no other from running.
    if CurrentTask::running().is_some_and(CurrentTask::is_alone) || !first(&REPORTED, reason as u8)
    {
        return;
    }
    let (what, instead) = match reason {
        BlockReason::Parker => (
            "in `std::thread::park`, which all coroutines of a thread have in common (std's \
             channels, scoped threads and clients with a thread of their own use it)",
            "use crore::sync, crore::park or crore::scope",
        ),
        BlockReason::ThreadLocal => (
            "for a lock that queues threads by their thread-locals, as those of parking_lot do",
            "use locks of std or of crore::sync",
        ),
        BlockReason::Unwinding => (
            "for a lock, while it unwinds from a panic or a cancellation",
            "let destructors try without waiting",
        ),
        BlockReason::NoPark => (
            "for a lock that the runtime's own code came to, in the global allocator for one",
            "build the allocator with spinning locks",
        ),
        BlockReason::Worker | BlockReason::Unhooked | BlockReason::Learning => (
            "for a lock in code that is no coroutine's, such as a future that is polled",
            "hold no lock of std across a wait that a future may meet; use crore::sync",
        ),
    };
    say(|out| {
        let _ = out.write_str("crore: ");
        if !describe_running(out, None) {
            let _ = out.write_str("a worker");
        }
        let _ = writeln!(
            out,
            " waits {what} (at {word:#x}), and its thread with all its other coroutines waits, \
             too: if one of them is to end the wait, that is a deadlock; {instead}, or have such \
             code run in crore::spawn_blocking. (Said once.)"
        );
    });
}

fn say(what: impl FnOnce(&mut SignalWriter)) {
    let mut out = SignalWriter::new();
    what(&mut out);
    out.flush();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once() {
        let reported = AtomicU8::new(0);
        for reason in [3, 0, 7, 5] {
            assert!(first(&reported, reason));
            assert!(!first(&reported, reason));
        }
        assert_eq!(reported.into_inner(), 0b1010_1001);
    }
}
