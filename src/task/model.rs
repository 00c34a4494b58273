//! A task for models: a cell whose closure was never run, and both of its sides.

use std::sync::{Arc, Mutex};

use super::cell::{Closure, JoinRef, TaskRef, Work};
use super::{Addr, Header, JoinError};

/// How many closures were dropped, outside of the model's view.
pub(crate) type Drops = Arc<Mutex<usize>>;

/// Counts its drop.
struct Counted(Drops);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// The task's side, to be sent.
pub(crate) struct TaskSide(*const Header);

// SAFETY: the closures of these models are `Send`, and one thread has it.
unsafe impl Send for TaskSide {}

impl TaskSide {
    /// Ends the task without running it: drops the closure, leaves an error.
    pub(crate) fn end(self) {
        // SAFETY: the task's side of a cell whose closure is inside.
        unsafe {
            let cell = TaskRef::from_slot(self.0).expect("not null");
            cell.discard(JoinError::cancelled());
        }
    }
}

/// A task that is known by an address already, or is not.
pub(crate) fn cell(drops: &Drops, known: Option<Addr>) -> (TaskSide, JoinRef) {
    let counted = Counted(Arc::clone(drops));
    let (task, join) = Closure(move || drop(counted)).into_cell(known, None);
    (TaskSide(task.as_ptr()), join)
}
