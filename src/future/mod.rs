//! Waiting for a future where plain code runs: on a thread, by parking it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::shim::Parker;

/// Wakes one call of [`block_on`].
struct Signal(Parker);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    block_on_deadline(future, None).expect("without a deadline there is no end before the end")
}

/// Runs `future` to its end, or drops it when `deadline` has passed.
pub(crate) fn block_on_deadline<F: Future>(
    future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let signal = Arc::new(Signal(Parker::new()));
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !signal.0.park(deadline) {
            return None;
        }
    }
}
