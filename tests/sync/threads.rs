//! Promise: `crore::sync` works between plain threads, without a runtime.

use crate::suite;
use std::thread;

struct Threads;

impl suite::Spawner for Threads {
    type Handle<T: Send + 'static> = thread::JoinHandle<T>;

    fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        thread::spawn(f)
    }

    fn try_join<T: Send + 'static>(&self, handle: Self::Handle<T>) -> Option<T> {
        handle.join().ok()
    }

    fn yield_now() {
        thread::yield_now();
    }
}

fn with_threads(body: impl FnOnce(&Threads)) {
    body(&Threads);
}

suite!(with_threads);
