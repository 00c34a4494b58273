//! The cell of a closure, which runs as a coroutine on a stack.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Header, JoinRef, TaskCell, TaskRef, VTable, Work, allocate};
use crate::switch::EntryPoint;
use crate::sys::fork;
use crate::task::{Addr, JoinError, Slot, running};

/// A closure that is run as a coroutine.
pub(crate) struct Closure<F>(pub(crate) F);

impl<F: FnOnce() -> T, T> Work for Closure<F> {
    type Output = T;

    fn into_cell(self, addr: Option<Addr>, name: Option<Arc<str>>) -> (NonNull<Header>, JoinRef) {
        let (run, vtable) = (TaskCell::<F, T>::run, &TaskCell::<F, T>::CLOSURE);
        allocate::<F, T>(self.0, EntryPoint { run }, vtable, addr, name)
    }
}

impl<F: FnOnce() -> T, T> TaskCell<F, T> {
    const CLOSURE: VTable = Self::vtable(None);

    /// The entry point: runs on the coroutine's stack; may unwind.
    ///
    /// Small on purpose: its frame is part of every parked coroutine.
    unsafe fn run(entry: NonNull<EntryPoint>) {
        let header = entry.cast::<Header>();
        // SAFETY: `entry` is the head of a cell of this type, which lives while
        // its task runs (I14). `allocate` put the closure there; it is read once,
        // here, and the stage holds nothing afterwards.
        let closure: F = unsafe { Self::stage::<F>(header).read() };
        Self::deliver(closure());
    }

    /// The end of a task that returned: the result goes to the joiner.
    #[inline(never)]
    fn deliver(value: T) {
        if running().is_null() {
            fork::end_child(0);
        }
        let cell = running_slot().cell.replace(ptr::null());
        // SAFETY: null or the task's side of a live cell (I14), which the slot
        // gives up.
        if let Some(cell) = unsafe { TaskRef::from_slot(cell) } {
            // SAFETY: this is the cell that `run` of this very type started
            // from (a slot never changes its cell but to null), its stage
            // holds nothing, and before DONE that is the task's side's (I14).
            unsafe { Self::stage::<Result<T, JoinError>>(cell.0).write(Ok(value)) };
            cell.complete();
        }
    }
}

/// A started task whose handle is gone goes on without its cell. Called by
/// the worker, not by `run`: what that keeps in its frame every parked
/// coroutine keeps.
///
/// # Safety
///
/// - The slot holds its task's side of the cell, or null; the task has
///   started.
pub(crate) unsafe fn detach_if_unjoinable(slot: &Slot) {
    // SAFETY: null, or TASK is set and the header lives (I14).
    let joinable = unsafe { slot.cell.get().as_ref() }.is_some_and(Header::is_joinable);
    if !joinable {
        let cell = slot.cell.replace(ptr::null());
        // SAFETY: the task's side, which the slot gives up.
        drop(unsafe { TaskRef::from_slot(cell) });
    }
}

fn running_slot() -> &'static Slot {
    // SAFETY: an entry point runs only while its worker has set its slot as what
    // is running, and slots stay where they are (I2).
    unsafe { &*running() }
}
