//! The futures that wait on one channel: [`SendFuture`] and [`RecvFuture`].
//! The blocking forms wait for them too.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{RecvError, SendError};
use std::task::{Context, Poll};

use super::state::{ChannelState, ChannelWaiter, Offer, Stop, Want};
use super::{Receiver, Sender};
use crate::shim::Lock;
use crate::sync::waiters::{WaiterKey, WakeList};

/// The future of [`Sender::send_async`]. Dropping it before it has ended
/// drops the value too, unless a receiver has it already.
///
/// ```
/// use crore::sync::channel::{SendFuture, bounded};
/// let (tx, rx) = bounded(1);
/// let future: SendFuture<'_, i32> = tx.send_async(7);
/// crore::run(|| crore::block_on(future)).unwrap().unwrap();
/// assert_eq!(rx.recv(), Ok(7));
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct SendFuture<'a, T> {
    channel: &'a Lock<ChannelState<T>>,
    /// The value, while it is not with the channel.
    value: Option<T>,
    key: Option<WaiterKey>,
}

// Nothing points into the future: the value moves to the channel to wait.
impl<T> Unpin for SendFuture<'_, T> {}

impl<'a, T> SendFuture<'a, T> {
    pub(super) fn new(sender: &'a Sender<T>, value: T) -> Self {
        Self {
            channel: &sender.channel,
            value: Some(value),
            key: None,
        }
    }

    /// Ends the wait: the value, if it was not accepted.
    pub(super) fn withdraw(&mut self) -> Option<T> {
        let removed = self
            .key
            .and_then(|_| self.channel.lock().leave_offers(&mut self.key));
        removed
            .and_then(|removed| removed.payload.what.into_value())
            .or(self.value.take())
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    /// # Panics
    ///
    /// When polled again after the end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waker = cx.waker().clone();
        let _old;
        let mut wakes = WakeList::new();
        let mut state = this.channel.lock();
        if let Some(key) = this.key {
            if matches!(state.offers.payload(key).what, Offer::Waiting(_)) {
                _old = state.offers.set_waker(key, waker);
                return Poll::Pending;
            }
            drop(state);
            return Poll::Ready(match this.withdraw() {
                None => Ok(()),
                Some(value) => Err(SendError(value)),
            });
        }
        // Without a value it would take a receiver off the queue for nothing.
        assert!(
            this.value.is_some(),
            "a SendFuture was polled after its end"
        );
        match state.send(&mut this.value, None, &mut wakes) {
            Err(Stop::Wait) => {}
            _ => {
                drop(state);
                return Poll::Ready(match this.value.take() {
                    None => Ok(()),
                    Some(value) => Err(SendError(value)),
                });
            }
        }
        if let Some(value) = this.value.take() {
            let node = ChannelWaiter {
                what: Offer::Waiting(value),
                select: None,
            };
            this.key = Some(state.offers.enqueue(node, Some(waker)));
        }
        Poll::Pending
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}

/// The future of [`Receiver::recv_async`]. A value that had been handed to it
/// when it is dropped goes back to the front of the channel. One that is
/// forgotten ([`std::mem::forget`]) while it waits keeps the value that it is
/// handed, and with it the channel open.
///
/// ```
/// use crore::sync::channel::{RecvFuture, bounded};
/// let (tx, rx) = bounded(1);
/// tx.send(7).unwrap();
/// let future: RecvFuture<'_, i32> = rx.recv_async();
/// assert_eq!(crore::run(|| crore::block_on(future)).unwrap(), Ok(7));
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct RecvFuture<'a, T> {
    channel: &'a Lock<ChannelState<T>>,
    key: Option<WaiterKey>,
}

impl<'a, T> RecvFuture<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> Self {
        Self {
            channel: &receiver.channel,
            key: None,
        }
    }

    /// Queues blindly: a mistake that the loom models must find.
    #[cfg(all(test, loom))]
    pub(in crate::sync) fn queue_without_a_look(&mut self, waker: std::task::Waker) {
        let node = ChannelWaiter {
            what: Want::Waiting,
            select: None,
        };
        self.key = Some(self.channel.lock().wants.enqueue(node, Some(waker)));
    }

    /// Ends the wait: what had come, which goes back if it is not to be kept.
    pub(super) fn withdraw(&mut self, keep: bool) -> Want<T> {
        if self.key.is_none() {
            return Want::Waiting;
        }
        let mut wakes = WakeList::new();
        let removed = self
            .channel
            .lock()
            .leave_wants(&mut self.key, keep, &mut wakes);
        removed.map_or(Want::Waiting, |removed| removed.payload.what)
    }
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waker = this.key.is_none().then(|| cx.waker().clone());
        let _old;
        let mut wakes = WakeList::new();
        let mut state = this.channel.lock();
        if let Some(key) = this.key {
            if matches!(state.wants.payload(key).what, Want::Waiting) {
                if state.wants.wakes(key, cx.waker()) {
                    return Poll::Pending;
                }
                drop(state);
                waker = Some(cx.waker().clone());
                state = this.channel.lock();
            }
            if matches!(state.wants.payload(key).what, Want::Waiting) {
                _old = state.wants.set_waker(key, waker);
                return Poll::Pending;
            }
            let removed = state.leave_wants(&mut this.key, true, &mut wakes);
            drop(state);
            return Poll::Ready(match removed.map(|removed| removed.payload.what) {
                Some(Want::Got(value)) => Ok(value),
                _ => Err(RecvError),
            });
        }
        match state.recv(None, &mut wakes) {
            Ok(value) => Poll::Ready(Ok(value)),
            Err(Stop::Wait) => {
                let node = ChannelWaiter {
                    what: Want::Waiting,
                    select: None,
                };
                this.key = Some(state.wants.enqueue(node, waker));
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(RecvError)),
        }
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        self.withdraw(false);
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvFuture").finish_non_exhaustive()
    }
}
