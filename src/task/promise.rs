//! Promises (oneshots): a task cell without a task, whose result another thread
//! brings.

use super::cell::{Closure, JoinRef, TaskCell, TaskRef, Work};
use super::{JoinError, provisional_id};

/// Its owner owes a result to the join handle. Dropped without one, the
/// handle learns that the work was cancelled.
pub(crate) struct Promise<T> {
    /// Taken when the result is there.
    cell: Option<TaskRef>,
    _result: std::marker::PhantomData<fn(T)>,
}

// SAFETY: the promise only writes a `T` that its thread has, and touches the
// shared word by atomics; its other parts are the task's side's alone (I14).
unsafe impl<T: Send> Send for Promise<T> {}

/// A closure's type for a cell whose closure is never called.
type Never<T> = fn() -> T;

/// A promise, and the handle's side of it. Only a `public` one, whose handle
/// goes to the user, has an identity: a provisional id that is never resolved.
pub(crate) fn promise<T>(public: bool) -> (Promise<T>, JoinRef) {
    let never: Never<T> = || unreachable!("a promise has no task");
    let (header, join) = Closure(never).into_cell(public.then(provisional_id::create), None);
    // SAFETY: a new cell's task side, ours alone.
    let cell = unsafe { TaskRef::from_slot(header.as_ptr()) };
    let promise = Promise {
        cell,
        _result: std::marker::PhantomData,
    };
    (promise, join)
}

impl<T> Promise<T> {
    fn cell(&self) -> &TaskRef {
        self.cell.as_ref().expect("taken at the end only")
    }

    /// The handle is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        !self.cell().header().is_joinable()
    }

    /// The handle's `cancel` was called.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cell()
            .header()
            .known()
            .is_some_and(provisional_id::is_cancelled)
    }

    /// Keeps the promise.
    pub(crate) fn fulfil(mut self, result: Result<T, JoinError>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<T, JoinError>) {
        let Some(cell) = self.cell.take() else {
            return;
        };
        // SAFETY: `promise` made a cell of these types, whose stage is the
        // task's side's before DONE (I14). A function pointer needs no drop, so
        // the stage counts as empty, and only this fills it.
        unsafe { TaskCell::<Never<T>, T>::stage::<Result<T, JoinError>>(cell.0).write(result) };
        cell.complete();
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(JoinError::cancelled()));
    }
}
