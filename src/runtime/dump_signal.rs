//! Dumps on a signal: a thread that waits for it, and writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::{io, mem};

use crate::runtime::handle::Handle;
use crate::signal::SignalPlace;
use crate::sys::report::write_stderr;
use crate::sys::signal_mask::quietly;

/// As long as it lives the signal is heard.
pub(super) struct DumpOnSignal {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DumpOnSignal {
    /// # Errors
    ///
    /// Those of [`signal::wait`](crate::signal::wait), and no thread can be started.
    pub(super) fn start(handle: Handle, signal: i32) -> io::Result<Self> {
        let mut place = SignalPlace::new(&[signal])?;
        // From here on it is heard.
        place.has_come(None);
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let body = move || {
            let waker = Waker::from(Arc::new(DumpWaker(thread::current())));
            while !end.load(Ordering::Acquire) {
                if place.has_come(Some(&waker)) {
                    place.take();
                    write_stderr(format!("crore: signal {signal}: {}\n", handle.dump()).as_bytes());
                } else {
                    thread::park();
                }
            }
        };
        let builder = thread::Builder::new().name("crore-dump".into());
        let thread = Some(quietly(|| builder.spawn(body))?);
        Ok(Self { ending, thread })
    }
}

impl Drop for DumpOnSignal {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        if let Some(thread) = mem::take(&mut self.thread) {
            thread.thread().unpark();
            // It does not panic; and if it did, it has said so.
            let _ = thread.join();
        }
    }
}

struct DumpWaker(Thread);

impl Wake for DumpWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
