//! The clock of the workloads, and the gate that many tasks pass together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

static OF_THE_PROCESS: AtomicBool = AtomicBool::new(false);

/// From now on [`now`] is the processor time of this process, all threads,
/// instead of the time on the wall. A busy machine does not stretch it.
pub fn use_processor_time() {
    OF_THE_PROCESS.store(true, Relaxed);
}

/// The time since some moment.
pub fn now() -> Duration {
    read(if OF_THE_PROCESS.load(Relaxed) {
        libc::CLOCK_PROCESS_CPUTIME_ID
    } else {
        libc::CLOCK_MONOTONIC
    })
}

/// Processor time so far, of all threads.
pub fn processor_time() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the answer.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Many tasks that yield. The time is taken from when the last of them has
/// begun until the last one has ended, in whatever order they are run.
pub struct Gate {
    tasks: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    /// Nanoseconds.
    begin: AtomicU64,
    end: AtomicU64,
}

impl Gate {
    pub fn new(tasks: u64) -> Self {
        Self {
            tasks,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            begin: AtomicU64::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// How many there are.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// One more has begun. It yields until [`is_open`](Self::is_open), then so
    /// many times, less the one in which it saw that.
    pub fn begin(&self) {
        if self.begun.fetch_add(1, Relaxed) + 1 == self.tasks {
            self.begin.store(now().as_nanos() as u64, Relaxed);
        }
    }

    /// Whether all have begun.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.begun.load(Relaxed) == self.tasks
    }

    /// One more has ended.
    pub fn end(&self) {
        if self.ended.fetch_add(1, Relaxed) + 1 == self.tasks {
            self.end.store(now().as_nanos() as u64, Relaxed);
        }
    }

    /// The time of all, once they are joined.
    pub fn time(&self) -> Duration {
        assert_eq!(self.ended.load(Relaxed), self.tasks);
        Duration::from_nanos(self.end.load(Relaxed) - self.begin.load(Relaxed))
    }
}
