//! Puts a name to the running coroutine, for the report of its overflow.

use std::fmt::Write;

use super::cx::Cx;
use crate::stack::overflow::SignalWriter;

/// "coroutine 'conn' (id 1:42:7), spawned at src/x.rs:10:5".
///
/// Runs in a signal handler, on a thread that may be anywhere: it only reads,
/// and leaves out what is just being changed.
pub(crate) fn describe_running(_guard: usize, out: &mut SignalWriter) {
    let Some(cx) = Cx::running() else {
        let _ = write!(out, "a coroutine's stack, touched from outside it");
        return;
    };
    let (worker, slot) = (cx.worker(), cx.slot());
    let _ = write!(out, "coroutine ");
    if let Ok(extras) = worker.extras.try_borrow() {
        if let Some(name) = extras
            .get(slot.extra.get() as usize)
            .and_then(|e| e.name.as_deref())
        {
            let _ = write!(out, "'{name}' ");
        }
    }
    let _ = write!(out, "(id {})", worker.addr(slot));
    if let Ok(sites) = worker.sites.try_borrow() {
        let _ = write!(out, ", spawned at {}", sites.get(slot.site.get()));
    }
}
