//! What a worker tells the watchdog (`watchdog.rs`): when it sleeps, and which thread
//! it is; and how the watchdog sleeps while all workers do. Models:
//! `loom_tests/watch.rs`.

use std::sync::Arc;

use super::counters::Counters;
use super::sighting::Sighting;
use crate::shim::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::shim::{NoParkMutex, fence_after_exchange};
use crate::sys::kernel_thread::KernelThread;
use crate::sys::thread_files::ThreadFiles;

/// One worker's part.
#[derive(Default)]
pub(crate) struct Watched {
    /// It has nothing to do and waits for the kernel.
    asleep: AtomicBool,
    /// Its thread while it runs, else 0.
    thread: AtomicU32,
    /// What the kernel tells of its thread, if there is to be a watchdog.
    files: NoParkMutex<Option<Arc<ThreadFiles>>>,
    /// Microseconds of the thread's processor time that are not the worker's.
    before: AtomicU64,
    /// Its thread waits for another's sighting.
    asks: AtomicBool,
    pub(super) sighting: Sighting,
}

impl Watched {
    /// It runs until the guard is dropped.
    pub(super) fn begin<'a>(&'a self, counters: &'a Counters) -> impl Drop + use<'a> {
        struct Runs<'a>(&'a Watched, &'a Counters);
        impl Drop for Runs<'_> {
            fn drop(&mut self) {
                self.0.count_time(self.1);
                self.0.thread.store(0, Ordering::Release);
            }
        }
        self.asleep.store(false, Ordering::Relaxed);
        let here = KernelThread::here();
        let before = micros(here).saturating_sub(counters.busy_micros.get());
        self.before.store(before, Ordering::Relaxed);
        self.thread.store(here.number(), Ordering::Release);
        Runs(self, counters)
    }

    /// Brings the count of its processor time up to now. Any thread may: it only grows.
    pub(super) fn count_time(&self, counters: &Counters) {
        if let Some(thread) = self.thread() {
            let before = self.before.load(Ordering::Relaxed);
            counters
                .busy_micros
                .raise(micros(thread).saturating_sub(before));
        }
    }

    pub(super) fn thread(&self) -> Option<KernelThread> {
        let number = self.thread.load(Ordering::Acquire);
        (number != 0).then(|| KernelThread::from_number(number))
    }

    /// For the watchdog, of the calling thread, which is the worker's.
    pub(super) fn open_files(&self) {
        *self.files.lock() = Some(Arc::new(ThreadFiles::open(KernelThread::here())));
    }

    pub(super) fn close_files(&self) {
        self.files.lock().take();
    }

    /// Of its thread, while it runs.
    pub(super) fn files(&self) -> Option<Arc<ThreadFiles>> {
        self.thread().and_then(|_| self.files.lock().clone())
    }

    /// Its thread asks for a sighting until the guard is dropped.
    pub(super) fn ask(&self) -> impl Drop + use<'_> {
        struct Asks<'a>(&'a AtomicBool);
        impl Drop for Asks<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        self.asks.store(true, Ordering::Relaxed);
        Asks(&self.asks)
    }

    pub(super) fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Calls `sleep`, in which the worker waits; then wakes a watchdog that dozes
    /// because all did.
    #[inline]
    pub(super) fn asleep<T>(&self, doze: &Doze, sleep: impl FnOnce() -> T) -> T {
        if !doze.watched.load(Ordering::Relaxed) {
            return sleep();
        }
        self.asleep.store(true, Ordering::Relaxed);
        let result = sleep();
        // Before the look at the doze, as the watchdog says that it dozes before it
        // looks here: one of the two sees the other. Partner: the fence in `doze`.
        self.asleep.swap(false, Ordering::Relaxed);
        fence_after_exchange();
        doze.end();
        result
    }
}

/// Processor time; 0 of a thread that is gone.
fn micros(thread: KernelThread) -> u64 {
    thread.cpu_time().map_or(0, |time| time.as_micros() as u64)
}

/// What all workers of a runtime know of their watchdog.
#[derive(Default)]
pub(crate) struct Doze {
    /// There is one.
    watched: AtomicBool,
    dozes: AtomicBool,
    /// Ends its wait, now or when it waits next.
    wake: NoParkMutex<Option<Box<dyn Fn() + Send>>>,
}

impl Doze {
    pub(super) fn begin_watch(&self, wake: impl Fn() + Send + 'static) {
        *self.wake.lock() = Some(Box::new(wake));
        self.watched.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_watch(&self) {
        self.watched.store(false, Ordering::Relaxed);
        self.wake.lock().take();
    }

    /// Calls `park`, in which the watchdog waits until a worker wakes up, unless one is
    /// awake.
    pub(super) fn doze<'a>(
        &self,
        workers: impl IntoIterator<Item = &'a Watched>,
        park: impl FnOnce(),
    ) {
        self.dozes.store(true, Ordering::Relaxed);
        // Partner: the fence in `asleep`.
        fence(Ordering::SeqCst);
        let sleeps = |worker: &Watched| worker.is_asleep() || worker.thread().is_none();
        if workers.into_iter().all(sleeps) {
            park();
        }
        self.dozes.store(false, Ordering::Relaxed);
    }

    #[inline]
    fn end(&self) {
        if self.dozes.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        self.dozes.store(false, Ordering::Relaxed);
        if let Some(wake) = &*self.wake.lock() {
            wake();
        }
    }
}
