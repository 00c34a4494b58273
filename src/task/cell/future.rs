//! The cell of a future: the future is pinned in it, and polled where it is.
//!
//! Lives here: one poll, from the cell's side. Does not live here: when a
//! future is polled, and what a panic in it means; that is the worker's.

use std::future::Future;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Header, JoinRef, TaskCell, TaskRef, Work, allocate};
use crate::switch::EntryPoint;
use crate::task::{Addr, JoinError};
use crate::util::ignore_panic;

/// A future that is polled by the worker itself.
pub(crate) struct PolledFuture<F>(pub(crate) F);

impl<F: Future> Work for PolledFuture<F> {
    type Output = F::Output;

    fn into_cell(self, addr: Option<Addr>, name: Option<Arc<str>>) -> (NonNull<Header>, JoinRef) {
        let run = TaskCell::<F, F::Output>::never_run;
        let vtable = &TaskCell::<F, F::Output>::FUTURE;
        allocate::<F, F::Output>(self.0, EntryPoint { run }, vtable, addr, name)
    }
}

impl<F: Future> TaskCell<F, F::Output> {
    const FUTURE: super::VTable = Self::vtable(Some(Self::poll));

    unsafe fn never_run(_: NonNull<EntryPoint>) {
        unreachable!("a future is polled, not run");
    }

    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the cell is of this type and lives (I14).
        let future = unsafe { Self::stage::<F>(header) };
        // SAFETY: the future is there, and before DONE only the task's side has a
        // reference to it (I14); it is on the heap, and is dropped where it is.
        let Poll::Ready(output) = unsafe { Pin::new_unchecked(&mut *future) }.poll(cx) else {
            return Poll::Pending;
        };
        // A destructor that panics does not take the output from the joiner.
        //
        // SAFETY: dropped once: from here on the stage holds nothing.
        ignore_panic(|| unsafe { ptr::drop_in_place(future) });
        // SAFETY: the stage holds nothing, and is the task's side's before DONE
        // (I14).
        unsafe { Self::stage::<Result<F::Output, JoinError>>(header).write(Ok(output)) };
        Poll::Ready(())
    }
}

/// Polls the future of a task once. It may panic; then it is still there.
///
/// # Safety
///
/// - `cell` is the task's side of a [`PolledFuture`] future's cell, not ended.
/// - It is not being polled.
pub(crate) unsafe fn poll(cell: *const Header, cx: &mut Context<'_>) -> Poll<()> {
    let header = NonNull::new(cell.cast_mut()).expect("a future's task has its cell");
    // SAFETY: TASK is set, so the header lives (I14).
    let poll = unsafe { header.as_ref() }.vtable.poll;
    // SAFETY: the cell's own function, and the caller's word.
    unsafe { poll.expect("only a future is polled")(header, cx) }
}

impl TaskRef {
    /// Publishes the output of a future that was ready, and wakes the joiner.
    ///
    /// # Safety
    ///
    /// - [`poll`] has said that it is ready.
    pub(crate) unsafe fn ready(self) {
        self.complete();
    }
}
