//! Task labels: a task in words, for reports of what it did or suffered.

use std::fmt::{self, Display, Write};

use super::current::CurrentTask;
use super::interrupted::Region;
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
    pub(super) fn of(cx: CurrentTask) -> Self {
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

/// The coroutine that runs on this thread in words, unless it is a main one.
pub(crate) fn label_of_spawned() -> Option<String> {
    let cx = CurrentTask::running()?;
    let extras = cx.worker().extras.try_borrow().ok()?;
    let extra = extras.get(cx.slot().extra.get() as usize);
    let is_main = extra.and_then(|extra| extra.name.as_deref()) == Some("main");
    drop(extras);
    (!is_main).then(|| TaskLabel::of(cx).to_string())
}

/// Describes the coroutine that runs on this thread, or was interrupted there; `false` if
/// there is none, or `stack`, an address, does not lie in its stack.
pub(crate) fn describe_running(out: &mut SignalWriter, stack: Option<usize>) -> bool {
    let Some(cx) = CurrentTask::running_or_interrupted() else {
        return false;
    };
    if stack.is_some_and(|at| Region::of_coroutine() != Some(Region::of(at))) {
        return false;
    }
    // A `SignalWriter` takes all.
    let _ = write!(out, "{}", TaskLabel::of(cx));
    true
}
