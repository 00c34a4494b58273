//! Task labels: a task in words, for reports of what it did or suffered.

use std::fmt::{self, Display, Write};

use super::current::Cx;
use super::worker::Worker;
use crate::stack::report::SignalWriter;
use crate::task::Slot;

/// "coroutine 'conn' (id 1:42:7), spawned at src/x.rs:10:5".
///
/// May be written by a signal handler on the worker's thread, wherever that
/// is: it only reads, and leaves out what is just being changed.
pub(super) struct TaskLabel<'a> {
    pub(super) worker: &'a Worker,
    pub(super) slot: &'a Slot,
}

impl TaskLabel<'_> {
    pub(super) fn of(cx: Cx) -> Self {
        Self {
            worker: cx.worker(),
            slot: cx.slot(),
        }
    }
}

impl Display for TaskLabel<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, slot } = self;
        write!(out, "coroutine ")?;
        if let Ok(extras) = worker.extras.try_borrow() {
            let extra = extras.get(slot.extra.get() as usize);
            if let Some(name) = extra.and_then(|extra| extra.name.as_deref()) {
                write!(out, "'{name}' ")?;
            }
        }
        write!(out, "(id {})", worker.addr(slot))?;
        if let Ok(spawn_locations) = worker.spawn_locations.try_borrow() {
            write!(
                out,
                ", spawned at {}",
                spawn_locations.get(slot.location.get())
            )?;
        }
        Ok(())
    }
}

/// Describes the coroutine that runs on this thread; `false` if none does.
pub(crate) fn describe_running(out: &mut SignalWriter) -> bool {
    let Some(cx) = Cx::running() else {
        return false;
    };
    // A `SignalWriter` takes all.
    let _ = write!(out, "{}", TaskLabel::of(cx));
    true
}
