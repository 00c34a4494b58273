//! Waiting for a future where plain code runs: on a thread, by parking it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::shim::atomic::{AtomicBool, Ordering};
use crate::shim::{park_until, thread};

/// Wakes one call of [`block_on`].
struct Signal {
    set: AtomicBool,
    thread: thread::Thread,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.set.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// Runs `future` to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    drive(future, || {
        thread::park();
        true
    })
    .expect("no deadline")
}

/// Runs `future` to its end, or drops it when `deadline` has passed.
pub(crate) fn block_on_deadline<F: Future>(
    future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    match deadline {
        None => Some(block_on(future)),
        Some(deadline) => drive(future, || park_until(deadline)),
    }
}

/// Polls `future`; between polls calls `park` until the waker was called, or
/// until `park` says that time is up.
fn drive<F: Future>(future: F, park: impl Fn() -> bool) -> Option<F::Output> {
    let mut future = pin!(future);
    let signal = Arc::new(Signal {
        set: AtomicBool::new(false),
        thread: thread::current(),
    });
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        while !signal.set.swap(false, Ordering::AcqRel) {
            if !park() && !signal.set.swap(false, Ordering::AcqRel) {
                return None;
            }
        }
    }
}
