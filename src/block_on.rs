//! The parker: waits for a future in a coroutine or on a plain thread
//! ([`block_on`]). Locks, channels, joins and signals wait through it.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::sched::{CurrentTask, WaitMark, WaitsFor, Worker};
use crate::shim::Parker;

/// Waits for a future: parks the calling coroutine, or blocks the calling
/// thread, until it is ready.
///
/// Any future of any library will do, as long as something drives what it waits
/// for: tokio's sockets want a tokio runtime (on a thread of its own).
///
/// # Panics
///
/// When a thread that runs a worker calls it outside any coroutine. Unwinds
/// (without a panic message) when the coroutine is cancelled, or a
/// [`timeout`](crate::timeout) around this ends; the future is dropped then.
///
/// # Examples
///
/// ```
/// let answer = crore::run(|| {
///     let worker = crore::spawn(|| 6 * 7);
///     crore::block_on(async { worker.await.unwrap() })
/// })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    match block_on_deadline(future, None) {
        Some(output) => output,
        None => unreachable!("there was no deadline"),
    }
}

/// As [`block_on`], but gives up at `deadline`: `None`, and the future has
/// been dropped.
pub(crate) fn block_on_deadline<F: Future>(
    future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    match CurrentTask::running() {
        // The frames of a shared coroutine move away while it is parked, and a
        // future may be pinned because something points into it (I8).
        Some(cx) if cx.is_shared() => in_coroutine(cx, Box::pin(future).as_mut(), deadline),
        Some(cx) => in_coroutine(cx, pin!(future), deadline),
        None => on_thread(pin!(future), deadline),
    }
}

/// As [`block_on`], in a coroutine, for a future that may be moved between
/// polls: so nothing points into it, and it may lie in a frame that moves (I8).
///
/// All in the caller's frame: each return that a suspension cuts off from its
/// call is one that the processor predicts wrongly (5 to 7 ns).
#[inline(always)]
pub(crate) fn wait<F: Future + Unpin>(mut future: F, what: WaitsFor<'_>) -> F::Output {
    let cx = CurrentTask::running().expect("`waits_freely` was asked");
    // Dropping one of ours does nothing; not even asking is cheaper.
    let waker = ManuallyDrop::new(cx.waker());
    let mut poll = || Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
    if let Poll::Ready(output) = poll() {
        return output;
    }
    let mark = pin!(WaitMark::new());
    mark.leave(what);
    loop {
        let stuck = cx.unwind_if_ending();
        cx.park_for_output(stuck, None);
        if let Poll::Ready(output) = poll() {
            return output;
        }
    }
}

/// Waits for a future that may be moved between polls, until `limit` at the latest, and
/// polls it also when `again` says, which may change with each poll. Pins nothing, so it
/// allocates nothing.
pub(crate) fn wait_until<F: Future + Unpin>(
    future: &mut F,
    limit: Option<Instant>,
    again: impl Fn(&F) -> Option<Instant>,
) -> Option<F::Output> {
    let next = |future: &F| limit.into_iter().chain(again(future)).min();
    let Some(cx) = CurrentTask::running() else {
        loop {
            let at = next(future);
            let output = on_thread(Pin::new(&mut *future), at);
            if output.is_some() || limit.is_some_and(|limit| Instant::now() >= limit) {
                return output;
            }
        }
    };
    let waker = ManuallyDrop::new(cx.waker());
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let stuck = cx.unwind_if_ending();
        if cx.is_over(limit) {
            return None;
        }
        cx.park_for_output(stuck, next(future));
    }
}

/// Whether [`wait`] can be used: whether this is a coroutine. A thread makes a
/// waker before it waits, so it had better try what it wants first.
#[inline(always)]
pub(crate) fn waits_freely() -> bool {
    CurrentTask::present()
}

fn in_coroutine<F: Future>(
    cx: CurrentTask,
    mut future: Pin<&mut F>,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    // Dropping one of ours does nothing; not even asking is cheaper.
    let waker = ManuallyDrop::new(cx.waker());
    loop {
        let mut context = Context::from_waker(&waker);
        if let Poll::Ready(output) = cx.poll(|| future.as_mut().poll(&mut context)) {
            return Some(output);
        }
        let stuck = cx.unwind_if_ending();
        if cx.is_over(deadline) {
            return None;
        }
        cx.park_for_output(stuck, deadline);
    }
}

fn on_thread<F: Future>(mut future: Pin<&mut F>, deadline: Option<Instant>) -> Option<F::Output> {
    assert!(
        Worker::current().is_none(),
        "this would block a worker of crore for ever: a future given to spawn_future, or a \
         destructor that runs on the worker itself, waits by blocking (block_on, join, lock, \
         recv); await instead, or wait in a coroutine"
    );
    let signal = Arc::new(Signal(Parker::new()));
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if !signal.0.park(deadline) {
            return None;
        }
    }
}

/// Wakes a plain thread that waits in [`on_thread`].
struct Signal(Parker);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
