//! What the tables of the process still hold: asked by tests at their end, when all runtimes
//! have ended.
//!
//! Each `static` of the library that has an entry for each task, wait, worker or stack is
//! counted here. Not counted is what stays by design:
//!
//! - worker handles, entries of ranges and of provisional ids that are free, and the nodes of
//!   the futex table: never freed, used again (I4);
//! - the arena of generators' stacks, and its ranges; the bell and the signals' eventfd; signal
//!   handlers and what was there before: they are the process's;
//! - idle helper threads, and so threads that wait in the kernel at a futex: they leave when
//!   nobody needed them for some seconds;
//! - wake-ups that a signal handler has deferred: one too many is allowed;
//! - what is known of descriptor numbers, and shared listeners: the program's, until it closes
//!   them.

use crate::generator;
use crate::helpers;
#[cfg(feature = "hook")]
use crate::hook;
use crate::sched::{self, WorkerHandle};
use crate::shim::IN_MODELS;
use crate::signal;
use crate::stack;
use crate::sys::fd::{bell, own};
use crate::sys::{signal_relay, tls};
use crate::task::provisional_id;

/// The tables that are not empty, and how many entries each has.
#[doc(hidden)]
pub fn left_over() -> Vec<(&'static str, usize)> {
    if IN_MODELS {
        // Each model has tables of its own.
        return Vec::new();
    }
    let [workers, mail, tasks] = WorkerHandle::left_over();
    let (lasting_ranges, generators) = generator::stack_counts();
    let lasting_fds = usize::from(bell::is_there()) + usize::from(signal_relay::is_prepared());
    let mut left = vec![
        ("workers", workers),
        ("mail of workers that have ended", mail),
        ("tasks of workers that have ended", tasks),
        ("sleeping workers", sched::sleepers()),
        ("provisional ids", provisional_id::count()),
        ("ranges of stacks", stack::ranges() - lasting_ranges),
        ("stacks of generators", generators),
        ("signal waits", signal::waiting()),
        ("jobs in line for helper threads", helpers::queued()),
        ("measurements of lock waits", sched::is_measuring().into()),
        ("descriptors of runtimes", own::all().count() - lasting_fds),
        ("blocks of thread-locals", tls::blocks()),
        ("threads that change blocks", tls::registered_threads()),
    ];
    #[cfg(feature = "hook")]
    left.extend(hook::left_over());
    left.retain(|&(_, count)| count > 0);
    left
}
