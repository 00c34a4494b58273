//! The parker: waits for a future in a coroutine or on a plain thread
//! ([`block_on`]). Locks, channels, joins and signals wait through it.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::sched::{Cx, Worker};
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
    match Cx::running() {
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
pub(crate) fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
    let cx = Cx::running().expect("`waits_freely` was asked");
    // Dropping one of ours does nothing; not even asking is cheaper.
    let waker = ManuallyDrop::new(cx.waker());
    loop {
        let mut context = Context::from_waker(&waker);
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut context) {
            return output;
        }
        cx.unwind_if_ending();
        cx.park_for_output(None);
    }
}

/// Whether [`wait`] can be used: whether this is a coroutine. A thread makes a
/// waker before it waits, so it had better try what it wants first.
#[inline(always)]
pub(crate) fn waits_freely() -> bool {
    Cx::running().is_some()
}

fn in_coroutine<F: Future>(
    cx: Cx,
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
        cx.unwind_if_ending();
        if cx.is_over(deadline) {
            return None;
        }
        cx.park_for_output(deadline);
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
