//! Ends of descriptor numbers: how workers learn of them.
//!
//! `close` and `dup2` may be called in a signal handler, which has interrupted
//! anything: a worker that has its driver borrowed, a thread that holds the lock of a
//! mailbox, an allocator. So whoever ends a number touches atomics only: the
//! number's generation, which has moved before (`sys/fd/table.rs`), and this log.
//! Each worker reads the log at its own pace, on its own stack, and tells its waiters.
//!
//! ```text
//!  ended  ──►  log of the last 1 024 numbers, each with its place in the order
//!  worker ──►  reads from where it left off; was it overtaken, or is an entry not
//!              written yet, it looks at all its descriptors
//! ```
//!
//! Looking at all is always right, since the generations say whose number has
//! ended, and they move before the log does.
//!
//! No worker sleeps on an end: it is counted as asleep before it looks at the log for
//! the last time, and whoever logs looks at the count afterwards (a fence between, on both
//! sides), and rings the bell (`sys/fd/bell.rs`), which wakes all that sleep. Models:
//! `loom_tests/ends.rs`.

use std::cell::Cell;
use std::os::fd::RawFd;

use crate::shim::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::shim::{LOGGED, bell, fence_after_exchange, process_static, zeros};

/// No number: wake-ups were deferred, and some worker is to make them.
pub(super) const DEFERRED: RawFd = -1;

// An entry: the lower half of its place in the order, plus one, and the number.
process_static! {
    static LOG: [AtomicU64; LOGGED] = zeros();
}
// The place of the next entry.
process_static! {
    static NEXT: AtomicU64 = AtomicU64::new(0);
}
// Workers that sleep, or are about to.
process_static! {
    static ASLEEP: AtomicU32 = AtomicU32::new(0);
}

fn index(place: u64) -> usize {
    place as usize % LOGGED
}

fn entry(place: u64, fd: RawFd) -> u64 {
    (place + 1) << 32 | u64::from(fd as u32)
}

/// The generation of a registered number has moved: all workers learn of it. Lock-free,
/// and leaves errno alone.
#[cold]
pub(super) fn log(fd: RawFd) {
    // Release: who reads the place sees what has moved before.
    let place = NEXT.fetch_add(1, Ordering::Release);
    // Its partner is in `sleeping`.
    fence_after_exchange();
    LOG[index(place)].store(entry(place, fd), Ordering::Relaxed);
    if ASLEEP.load(Ordering::Acquire) > 0 {
        bell::ring();
    }
}

/// Workers that are counted as asleep.
pub(crate) fn sleepers() -> usize {
    ASLEEP.load(Ordering::Relaxed) as usize
}

/// In a forked child: no worker sleeps. Only a store.
pub(super) fn forget_sleepers() {
    ASLEEP.store(0, Ordering::Relaxed);
}

/// What a worker has not read yet.
#[derive(Debug)]
pub(super) enum Unread {
    /// This number has ended.
    Number(RawFd),
    /// There are deferred wake-ups.
    Deferred,
    /// Any number may have ended, and there may be deferred wake-ups.
    Any,
}

/// How far one worker has read.
#[derive(Debug)]
pub(super) struct Reader {
    place: Cell<u64>,
}

impl Reader {
    /// Has read all that there is.
    pub(super) fn new() -> Self {
        Self {
            place: Cell::new(NEXT.load(Ordering::Acquire)),
        }
    }

    /// Whether there is something to read. Cheap, may lag.
    #[inline(always)]
    pub(super) fn is_behind(&self) -> bool {
        NEXT.load(Ordering::Relaxed) != self.place.get()
    }

    /// What came next; `None` at the end.
    pub(super) fn read(&self) -> Option<Unread> {
        let (place, next) = (self.place.get(), NEXT.load(Ordering::Acquire));
        if place == next {
            return None;
        }
        let logged = LOG[index(place)].load(Ordering::Relaxed);
        let fd = logged as u32 as RawFd;
        if logged == entry(place, fd) {
            self.place.set(place + 1);
            Some(match fd {
                DEFERRED => Unread::Deferred,
                fd => Unread::Number(fd),
            })
        } else {
            self.place.set(next);
            Some(Unread::Any)
        }
    }

    /// Calls `sleep` as one that the bell wakes, unless there is something to read.
    pub(super) fn sleeping<T>(&self, sleep: impl FnOnce() -> T) -> Option<T> {
        struct Asleep;
        impl Drop for Asleep {
            fn drop(&mut self) {
                ASLEEP.fetch_sub(1, Ordering::Relaxed);
            }
        }
        // Release: who counts it finds the bell.
        ASLEEP.fetch_add(1, Ordering::Release);
        let _asleep = Asleep;
        // Its partner is in `log`.
        fence_after_exchange();
        (NEXT.load(Ordering::Relaxed) == self.place.get()).then(sleep)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// The log is global, and other tests close descriptors.
    fn numbers(reader: &Reader, of: impl Fn(RawFd) -> bool) -> (Vec<RawFd>, bool) {
        let (mut seen, mut any) = (Vec::new(), false);
        while let Some(unread) = reader.read() {
            match unread {
                Unread::Number(fd) if of(fd) => seen.push(fd),
                Unread::Number(_) | Unread::Deferred => {}
                Unread::Any => any = true,
            }
        }
        (seen, any)
    }

    #[test]
    fn each_reader_reads_each_number_or_looks_at_all() {
        const BASE: RawFd = 6_000_000;
        let readers = [Reader::new(), Reader::new()];
        for fd in BASE..BASE + 10 {
            log(fd);
        }
        for reader in &readers {
            assert!(reader.is_behind());
            let (seen, any) = numbers(reader, |fd| fd >= BASE);
            assert!(
                any || seen == (BASE..BASE + 10).collect::<Vec<_>>(),
                "{seen:?}"
            );
        }
        for fd in 0..2 * LOGGED as RawFd {
            log(BASE + fd);
        }
        assert!(readers[0].sleeping(|| ()).is_none());
        assert!(numbers(&readers[0], |_| true).1, "it was overtaken");
    }

    /// A place that was taken and is not written yet, as a handler leaves it that
    /// interrupts the writer.
    #[test]
    fn an_entry_that_is_not_written_makes_it_look_at_all() {
        let reader = Reader::new();
        NEXT.fetch_add(1, Ordering::SeqCst);
        log(6_100_000);
        let (seen, any) = numbers(&reader, |fd| fd == 6_100_000);
        assert!(any && seen.len() <= 1);
        assert!(!matches!(reader.read(), Some(Unread::Number(6_100_000))));
    }
}
