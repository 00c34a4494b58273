//! Select: waiting for the first of several channel operations.
//!
//! Each case is tried; if none can go on, all queue at their channels with one
//! [token](super::select_token), which a partner claims before it completes a
//! case. So exactly one case is done, and two `select`s can meet at a rendezvous.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{RecvError, SendError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::select_token::{Claim, SelectToken, SelectWaiter, claim};
use super::state::{ChannelState, ChannelWaiter, Offer, Stop, Want};
use super::{Receiver, Sender};
use crate::block_on::wait_until;
use crate::sched::CurrentTask;
use crate::shim::{Arc, Lock, pick};
use crate::sync::waiters::{WaiterKey, WakeList};

/// A channel operation that [`select`] can wait for: [`Receiver::case`] or
/// [`Sender::case`]. Nobody else implements it.
///
/// ```
/// use crore::sync::channel::{Case, bounded, try_select};
/// let channels: Vec<_> = (0..3).map(|_| bounded::<u32>(1)).collect();
/// channels[2].0.send(7).unwrap();
/// let mut cases: Vec<_> = channels.iter().map(|(_, rx)| rx.case()).collect();
/// let mut list: Vec<&mut dyn Case> = cases.iter_mut().map(|case| case as _).collect();
/// assert_eq!(try_select(&mut list), Some(2));
/// ```
pub trait Case: Operation {}

/// What a case does for `select`; not for callers.
pub trait Operation {
    /// Does the operation, if that needs no waiting. In a `select`, only if its
    /// token can be claimed; and if the operation has to wait, queues with it.
    #[doc(hidden)]
    fn attempt(&mut self, context: Option<SelectContext<'_>>) -> bool;

    /// The select was woken, and no partner has done any of its cases: as `attempt`, for
    /// a case that is nobody else's.
    #[doc(hidden)]
    fn look_again(&mut self, _context: &SelectContext<'_>) -> bool {
        false
    }

    /// Whether it is looked at before the others.
    #[doc(hidden)]
    fn goes_first(&self) -> bool {
        false
    }

    /// When it is to be looked at again without a wake-up.
    #[doc(hidden)]
    fn ask_again(&self) -> Option<Instant> {
        None
    }

    /// Sets whom to wake, if it is queued.
    #[doc(hidden)]
    fn set_waker(&mut self, waker: &Waker);

    /// Leaves the queue, and remembers what came; with `keep` off, a value
    /// that was received goes back.
    #[doc(hidden)]
    fn settle(&mut self, keep: bool);
}

/// What a `select` queues with at each channel; not for callers.
pub struct SelectContext<'a> {
    waiter: SelectWaiter,
    pub(super) waker: &'a Waker,
}

impl SelectContext<'_> {
    /// Claims the select for the case that asks.
    pub(super) fn claim(&self) -> bool {
        claim(Some(&self.waiter), None) == Claim::Won
    }
}

/// Waits until one of `cases` is done, and says which. Parks the coroutine it
/// is called in, or the thread outside of one.
///
/// If several can go on at once, one of them is taken, another one each time.
/// A case whose channel is disconnected can go on: with an error.
///
/// # Panics
///
/// Without cases.
///
/// # Examples
///
/// ```
/// use crore::sync::channel::{self, select};
/// let (tx, numbers) = channel::bounded(1);
/// let (_keep, words) = channel::bounded::<String>(1);
/// tx.send(5).unwrap();
///
/// let (mut number, mut word) = (numbers.case(), words.case());
/// match select(&mut [&mut number, &mut word]) {
///     0 => assert_eq!(number.take(), Some(Ok(5))),
///     _ => panic!("{:?}", word.take()),
/// }
/// ```
pub fn select(cases: &mut [&mut dyn Case]) -> usize {
    match select_until(cases, None) {
        Some(done) => done,
        None => unreachable!("there is no limit"),
    }
}

/// Does one of `cases` if that needs no waiting, and says which.
///
/// ```
/// use crore::sync::channel::{bounded, try_select};
/// let (_tx, rx) = bounded::<u32>(1);
/// assert_eq!(try_select(&mut [&mut rx.case()]), None);
/// ```
pub fn try_select(cases: &mut [&mut dyn Case]) -> Option<usize> {
    order(cases).find(|&case| cases[case].attempt(None))
}

/// In which order the cases are looked at: another one each time.
fn order<C: Case + ?Sized>(cases: &[&mut C]) -> impl Iterator<Item = usize> + use<C> {
    let n = cases.len();
    let first = cases.iter().position(|case| case.goes_first());
    let start = if n == 0 { 0 } else { pick(n) };
    let others = (0..n).map(move |i| (start + i) % n);
    let others = others.filter(move |&case| first != Some(case));
    first.into_iter().chain(others)
}

/// As [`select`], for at most `timeout`.
///
/// ```
/// use crore::sync::channel::{bounded, select_timeout};
/// let (_tx, rx) = bounded::<u32>(1);
/// let late = select_timeout(&mut [&mut rx.case()], std::time::Duration::from_millis(1));
/// assert_eq!(late, None);
/// ```
pub fn select_timeout(cases: &mut [&mut dyn Case], timeout: Duration) -> Option<usize> {
    select_until(cases, Instant::now().checked_add(timeout))
}

fn select_until(cases: &mut [&mut dyn Case], limit: Option<Instant>) -> Option<usize> {
    if let Some(done) = try_select(cases) {
        // Whose selects never wait is to give way now and then.
        CurrentTask::running().inspect(|cx| cx.spend());
        return Some(done);
    }
    let mut future = Select {
        cases,
        queued: None,
    };
    wait_until(&mut future, limit, Select::ask_again).or_else(|| future.withdraw(true))
}

/// As [`select`], as a future. When it is dropped before it has ended, a value
/// that had just been received goes back, but one that had just been sent stays
/// so: the case says it. When it is forgotten ([`std::mem::forget`]), its cases
/// go on waiting until they are asked for their results, used again or dropped.
///
/// # Panics
///
/// When polled without cases.
///
/// # Examples
///
/// ```
/// use crore::sync::channel::{Receiver, RecvError, select_async};
///
/// async fn either(a: &Receiver<u32>, b: &Receiver<u32>) -> Result<u32, RecvError> {
///     let (mut a, mut b) = (a.case(), b.case());
///     select_async(&mut [&mut a, &mut b]).await;
///     a.take().or(b.take()).expect("one of them is done")
/// }
/// ```
pub fn select_async<'a, 'c>(cases: &'a mut [&'c mut (dyn Case + Send + 'c)]) -> Select<'a, 'c> {
    Select {
        cases,
        queued: None,
    }
}

/// The future of [`select_async`].
///
/// ```
/// use crore::sync::channel::{bounded, select_async};
/// let (tx, rx) = bounded(1);
/// tx.send(7).unwrap();
/// let first = crore::run(|| crore::block_on(select_async(&mut [&mut rx.case()]))).unwrap();
/// assert_eq!(first, 0);
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct Select<'a, 'c, C: Case + ?Sized = dyn Case + Send + 'c> {
    cases: &'a mut [&'c mut C],
    queued: Option<(Arc<SelectToken>, Waker)>,
}

impl<C: Case + ?Sized> Select<'_, '_, C> {
    /// Ends the wait: the case that has won, if one has.
    fn withdraw(&mut self, keep: bool) -> Option<usize> {
        let (token, _) = self.queued.take()?;
        let winner = token.withdraw();
        for case in self.cases.iter_mut() {
            case.settle(keep);
        }
        SelectToken::give(token);
        winner
    }

    /// Queues the cases one after the other, until one of them has won.
    fn enter(&mut self, waker: &Waker) {
        let token = SelectToken::take();
        // From here on `withdraw` cleans up.
        self.queued = Some((token.clone(), waker.clone()));
        for case in order(self.cases) {
            let waiter = SelectWaiter {
                token: token.clone(),
                case,
            };
            if self.cases[case].attempt(Some(SelectContext { waiter, waker })) {
                return;
            }
        }
    }

    /// After a wake-up that may have been for a case that nobody else completes.
    fn look_again(&mut self, waker: &Waker) {
        let Some((token, _)) = &self.queued else {
            return;
        };
        if token.winner().is_some() {
            return;
        }
        for case in order(self.cases) {
            let waiter = SelectWaiter {
                token: token.clone(),
                case,
            };
            if self.cases[case].look_again(&SelectContext { waiter, waker }) {
                return;
            }
        }
    }

    /// When to poll without having been woken.
    fn ask_again(&self) -> Option<Instant> {
        self.cases.iter().filter_map(|case| case.ask_again()).min()
    }

    /// Makes all queues wake `waker`.
    fn move_to(&mut self, waker: &Waker) {
        let Some((_, old)) = &mut self.queued else {
            return;
        };
        if !old.will_wake(waker) {
            old.clone_from(waker);
            for case in self.cases.iter_mut() {
                case.set_waker(waker);
            }
        }
    }
}

impl<C: Case + ?Sized> Future for Select<'_, '_, C> {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        assert!(
            !self.cases.is_empty(),
            "select without cases would wait for ever"
        );
        if self.queued.is_none() {
            self.enter(cx.waker());
        } else {
            self.move_to(cx.waker());
            self.look_again(cx.waker());
        }
        // Only now: a claim before the wakers were set woke another.
        if self
            .queued
            .as_ref()
            .is_none_or(|(token, _)| token.winner().is_none())
        {
            return Poll::Pending;
        }
        self.withdraw(true).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<C: Case + ?Sized> Drop for Select<'_, '_, C> {
    fn drop(&mut self) {
        self.withdraw(false);
    }
}

impl<C: Case + ?Sized> fmt::Debug for Select<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("cases", &self.cases.len())
            .finish_non_exhaustive()
    }
}

/// Receiving, as a case; see [`Receiver::case`]. It can be used again after
/// its result was taken; a value that is never taken goes back to the front
/// of the channel.
///
/// ```
/// use crore::sync::channel::{RecvCase, bounded, select};
/// let (tx, rx) = bounded(1);
/// tx.send(7).unwrap();
/// let mut case: RecvCase<'_, i32> = rx.case();
/// select(&mut [&mut case]);
/// assert_eq!(case.take(), Some(Ok(7)));
/// ```
pub struct RecvCase<'a, T> {
    channel: &'a Lock<ChannelState<T>>,
    key: Option<WaiterKey>,
    result: Option<Result<T, RecvError>>,
}

impl<'a, T> RecvCase<'a, T> {
    pub(super) fn new(receiver: &'a Receiver<T>) -> Self {
        Self {
            channel: &receiver.channel,
            key: None,
            result: None,
        }
    }

    /// What was received, if this case was done.
    pub fn take(&mut self) -> Option<Result<T, RecvError>> {
        self.leave_forgotten();
        self.result.take()
    }

    /// A `select` that was forgotten did not settle its cases.
    #[inline]
    fn leave_forgotten(&mut self) {
        if self.key.is_some() {
            self.settle(true);
        }
    }
}

impl<T> Case for RecvCase<'_, T> {}

impl<T> Operation for RecvCase<'_, T> {
    fn attempt(&mut self, context: Option<SelectContext<'_>>) -> bool {
        self.leave_forgotten();
        if self.result.is_some() {
            self.return_untaken();
        }
        let mut wakes = WakeList::new();
        let waker = context.as_ref().map(|context| context.waker.clone());
        let mut state = self.channel.lock();
        match state.recv(context.as_ref().map(|context| &context.waiter), &mut wakes) {
            Ok(value) => self.result = Some(Ok(value)),
            Err(Stop::Disconnected) => self.result = Some(Err(RecvError)),
            Err(Stop::Elsewhere) => return true,
            Err(Stop::Wait) => {
                if let Some(SelectContext { waiter, .. }) = context {
                    let node = ChannelWaiter {
                        what: Want::Waiting,
                        select: Some(waiter),
                    };
                    self.key = Some(state.wants.enqueue(node, waker));
                }
                return false;
            }
        }
        true
    }

    fn set_waker(&mut self, waker: &Waker) {
        if let Some(key) = self.key {
            let waker = waker.clone();
            let _old = self.channel.lock().wants.set_waker(key, waker);
        }
    }

    fn settle(&mut self, keep: bool) {
        if self.key.is_none() {
            return;
        }
        let mut wakes = WakeList::new();
        let removed = self
            .channel
            .lock()
            .leave_wants(&mut self.key, keep, &mut wakes);
        match removed.map(|removed| removed.payload.what) {
            Some(Want::Got(value)) => self.result = Some(Ok(value)),
            Some(Want::Closed) => self.result = Some(Err(RecvError)),
            Some(Want::Waiting) | None => {}
        }
    }
}

impl<T> RecvCase<'_, T> {
    fn return_untaken(&mut self) {
        if let Some(Ok(value)) = self.result.take() {
            let mut wakes = WakeList::new();
            self.channel.lock().put_back(value, &mut wakes);
        }
    }
}

impl<T> Drop for RecvCase<'_, T> {
    fn drop(&mut self) {
        self.leave_forgotten();
        self.return_untaken();
    }
}

impl<T> fmt::Debug for RecvCase<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvCase").finish_non_exhaustive()
    }
}

/// Sending, as a case; see [`Sender::case`]. While it is not done it keeps
/// the value, and can be used again.
///
/// ```
/// use crore::sync::channel::{SendCase, bounded, try_select};
/// let (tx, _rx) = bounded(0);
/// let mut case: SendCase<'_, i32> = tx.case(7);
/// assert_eq!(try_select(&mut [&mut case]), None); // nobody receives
/// assert_eq!(case.into_value(), Some(7));
/// ```
pub struct SendCase<'a, T> {
    channel: &'a Lock<ChannelState<T>>,
    key: Option<WaiterKey>,
    /// The value, while it is not with the channel.
    value: Option<T>,
    /// Whether it was done, by success or by disconnection.
    done: bool,
}

impl<'a, T> SendCase<'a, T> {
    pub(super) fn new(sender: &'a Sender<T>, value: T) -> Self {
        Self {
            channel: &sender.channel,
            key: None,
            value: Some(value),
            done: false,
        }
    }

    /// The result, if this case was done.
    pub fn take(&mut self) -> Option<Result<(), SendError<T>>> {
        self.leave_forgotten();
        if !std::mem::take(&mut self.done) {
            return None;
        }
        Some(
            self.value
                .take()
                .map_or(Ok(()), |value| Err(SendError(value))),
        )
    }

    /// The value, if it was not sent.
    pub fn into_value(mut self) -> Option<T> {
        self.leave_forgotten();
        self.value.take()
    }

    /// A `select` that was forgotten did not settle its cases.
    #[inline]
    fn leave_forgotten(&mut self) {
        if self.key.is_some() {
            self.settle(true);
        }
    }
}

impl<T> Case for SendCase<'_, T> {}

impl<T> Operation for SendCase<'_, T> {
    fn attempt(&mut self, context: Option<SelectContext<'_>>) -> bool {
        self.leave_forgotten();
        assert!(
            self.value.is_some(),
            "the value of this case was sent already: make another case"
        );
        let mut wakes = WakeList::new();
        let waker = context.as_ref().map(|context| context.waker.clone());
        let mut state = self.channel.lock();
        match state.send(
            &mut self.value,
            context.as_ref().map(|context| &context.waiter),
            &mut wakes,
        ) {
            Ok(()) | Err(Stop::Disconnected) => self.done = true,
            Err(Stop::Elsewhere) => {}
            Err(Stop::Wait) => {
                if let Some(SelectContext { waiter, .. }) = context {
                    if let Some(value) = self.value.take() {
                        let node = ChannelWaiter {
                            what: Offer::Waiting(value),
                            select: Some(waiter),
                        };
                        self.key = Some(state.offers.enqueue(node, waker));
                    }
                }
                return false;
            }
        }
        true
    }

    fn set_waker(&mut self, waker: &Waker) {
        if let Some(key) = self.key {
            let waker = waker.clone();
            let _old = self.channel.lock().offers.set_waker(key, waker);
        }
    }

    fn settle(&mut self, _keep: bool) {
        let removed = self
            .key
            .and_then(|_| self.channel.lock().leave_offers(&mut self.key));
        if let Some(removed) = removed {
            let offer = removed.payload.what;
            self.done = !matches!(offer, Offer::Waiting(_));
            self.value = offer.into_value();
        }
    }
}

impl<T> Drop for SendCase<'_, T> {
    fn drop(&mut self) {
        self.leave_forgotten();
    }
}

impl<T> fmt::Debug for SendCase<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendCase").finish_non_exhaustive()
    }
}
