//! One child of a scope: its closure on the way in, its result on the way out.
//!
//! The result lives in a cell of the scope's and not in the task's own, because
//! it may borrow as the closure does: when the task's cell is done, a result
//! that no handle can take is gone already.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::{ChildKey, Shared};
use crate::block_on::block_on;
use crate::sched::why_unwound;
use crate::shim::Lock;
use crate::task::{Coroutine, JoinError};

/// Waits for a scoped coroutine to end, after [`std::thread::ScopedJoinHandle`].
///
/// Dropping it leaves the joining to the scope. It is a [`Future`] as well.
///
/// ```
/// crore::run(|| {
///     let names = vec!["a", "bb"];
///     let total = crore::scope(|scope| {
///         let handles: Vec<_> = names.iter().map(|name| scope.spawn(|| name.len())).collect();
///         handles.into_iter().map(|handle| handle.join().unwrap()).sum::<usize>()
///     });
///     assert_eq!(total, 3);
/// }).unwrap();
/// ```
pub struct ScopedJoinHandle<'scope, T> {
    cell: Arc<ChildCell<'scope, T>>,
    key: ChildKey,
    coroutine: Coroutine,
}

/// What a child and its join handle share.
struct ChildCell<'scope, T> {
    shared: &'scope Shared,
    state: Lock<ChildState<T>>,
}

struct ChildState<T> {
    ended: bool,
    /// `None` before the end, and once taken.
    result: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

impl<T> ChildCell<'_, T> {
    fn finish(&self, result: Result<T, JoinError>) {
        let waker = {
            let mut state = self.state.lock();
            state.ended = true;
            state.result = Some(result);
            state.waker.take()
        };
        self.shared.closure_gone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl<T> Drop for ChildCell<'_, T> {
    fn drop(&mut self) {
        let result = self.state.lock().result.take();
        if matches!(&result, Some(Err(error)) if error.is_panic()) {
            self.shared.panicked.store(true, Ordering::Relaxed);
        }
    }
}

/// A child before its run. Dropped unrun, it ends without a value.
pub(super) struct Child<'scope, F, T> {
    closure: Option<F>,
    cell: Arc<ChildCell<'scope, T>>,
}

impl<F: FnOnce() -> T, T> Child<'_, F, T> {
    pub(super) fn run(mut self) {
        let closure = self.closure.take().expect("a child runs once");
        let result = catch_unwind(AssertUnwindSafe(closure));
        self.cell.finish(result.map_err(why_unwound));
    }
}

impl<F, T> Drop for Child<'_, F, T> {
    fn drop(&mut self) {
        /// Also when the closure's destructor panics.
        struct Finish<'a, 'scope, T>(&'a ChildCell<'scope, T>);
        impl<T> Drop for Finish<'_, '_, T> {
            fn drop(&mut self) {
                self.0.finish(Err(JoinError::cancelled()));
            }
        }
        if let Some(closure) = self.closure.take() {
            let _finish = Finish(&self.cell);
            drop(closure);
        }
    }
}

/// A child of the scope, not spawned yet; and its cell, for its handle.
pub(super) fn prepare<'scope, F: FnOnce() -> T, T>(
    shared: &'scope Shared,
    closure: F,
) -> (Child<'scope, F, T>, Unkeyed<'scope, T>) {
    shared.expect_child();
    let cell = Arc::new(ChildCell {
        shared,
        state: Lock::new(ChildState {
            ended: false,
            result: None,
            waker: None,
        }),
    });
    let child = Child {
        closure: Some(closure),
        cell: Arc::clone(&cell),
    };
    (child, Unkeyed(cell))
}

/// A handle on a child that has not been spawned.
pub(super) struct Unkeyed<'scope, T>(Arc<ChildCell<'scope, T>>);

impl<'scope, T> Unkeyed<'scope, T> {
    pub(super) fn spawned(
        self,
        key: ChildKey,
        coroutine: Coroutine,
    ) -> ScopedJoinHandle<'scope, T> {
        ScopedJoinHandle {
            cell: self.0,
            key,
            coroutine,
        }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the coroutine to end: parks the calling coroutine, or blocks
    /// the calling thread. One that is abandoned never ends, nor does the wait
    /// for it, unless by a cancellation.
    ///
    /// # Errors
    ///
    /// The coroutine panicked (then the scope does not panic for it), or was
    /// cancelled, or could not start.
    ///
    /// # Examples
    ///
    /// ```
    /// crore::run(|| {
    ///     let failed = crore::scope(|scope| scope.spawn(|| panic!("lost")).join());
    ///     assert!(failed.unwrap_err().is_panic()); // joined, so the scope does not panic
    /// }).unwrap();
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        block_on(self)
    }

    /// Whether the coroutine has ended, so that [`ScopedJoinHandle::join`]
    /// would return at once.
    pub fn is_finished(&self) -> bool {
        self.cell.has_ended()
    }

    /// The coroutine itself.
    ///
    /// ```
    /// crore::run(|| {
    ///     crore::scope(|scope| {
    ///         let child = scope.spawn(crore::park);
    ///         child.thread().unpark();
    ///     });
    /// }).unwrap();
    /// ```
    pub fn thread(&self) -> &Coroutine {
        &self.coroutine
    }

    /// Cancels the coroutine; see [`JoinHandle::cancel`](crate::JoinHandle::cancel).
    ///
    /// ```
    /// crore::run(|| {
    ///     crore::scope(|scope| {
    ///         let child = scope.spawn(crore::park);
    ///         child.cancel();
    ///         assert!(child.join().unwrap_err().is_cancelled());
    ///     });
    /// }).unwrap();
    /// ```
    pub fn cancel(&self) {
        self.cell.shared.cancel_one(self.key);
    }
}

impl<T> Future for ScopedJoinHandle<'_, T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// When polled again after the end.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Cloned and dropped outside the lock: both may be foreign code.
        let fresh = context.waker().clone();
        let mut state = self.cell.state.lock();
        if state.ended {
            let result = state.result.take();
            drop(state);
            return Poll::Ready(result.expect("a ScopedJoinHandle was polled after its end"));
        }
        let old = state.waker.replace(fresh);
        drop(state);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("finished", &self.is_finished())
            .finish()
    }
}
