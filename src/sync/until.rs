//! `Until`: the wait for a state under a lock, by those who are all woken at each change.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::waiters::{WaiterKey, Waiters, WakeList};
use crate::shim::Lock;

/// A state that many wait for.
pub(super) trait Observed {
    fn waiters(&mut self) -> &mut Waiters<()>;

    /// The state has changed: all are to look at it.
    fn wake_all(&mut self, wakes: &mut WakeList) {
        while self.waiters().take_first(wakes).is_some() {}
    }
}

/// A place in the queue of a state, or none.
pub(super) struct QueuePlace<'a, S: Observed> {
    state: &'a Lock<S>,
    key: Option<WaiterKey>,
}

impl<'a, S: Observed> QueuePlace<'a, S> {
    pub(super) fn new(state: &'a Lock<S>) -> Self {
        Self { state, key: None }
    }

    /// What `look` finds; if that is nothing, the waker is woken at the next change.
    pub(super) fn look<R>(
        &mut self,
        waker: Option<&Waker>,
        look: impl FnOnce(&mut S) -> Option<R>,
    ) -> Option<R> {
        // Cloned and dropped outside the lock.
        let waker = waker.cloned();
        let left;
        let mut state = self.state.lock();
        left = self.key.take().map(|key| state.waiters().remove(key));
        let found = look(&mut state);
        if found.is_none() && waker.is_some() {
            self.key = Some(state.waiters().enqueue((), waker));
        }
        drop(state);
        drop(left);
        found
    }

    pub(super) fn leave(&mut self) {
        let Some(key) = self.key.take() else { return };
        // The guard goes first.
        let _left = self.state.lock().waiters().remove(key);
    }
}

impl<S: Observed> Drop for QueuePlace<'_, S> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The future of what `look` finds.
pub(super) struct Until<'a, S: Observed, F> {
    place: QueuePlace<'a, S>,
    look: F,
}

impl<'a, S: Observed, F> Until<'a, S, F> {
    pub(super) fn new(state: &'a Lock<S>, look: F) -> Self {
        Self {
            place: QueuePlace::new(state),
            look,
        }
    }
}

// Nothing points into it.
impl<S: Observed, F> Unpin for Until<'_, S, F> {}

impl<S: Observed, F: FnMut(&mut S) -> Option<R>, R> Future for Until<'_, S, F> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = &mut *self;
        let found = this.place.look(Some(cx.waker()), &mut this.look);
        found.map_or(Poll::Pending, Poll::Ready)
    }
}
