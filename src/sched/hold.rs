//! Hold: for how long a coroutine has had its worker, from looks at the worker's thread.
//!
//! Held time is processor time, and time in which the thread waits in the kernel. What it
//! waits for a processor is neither: the kernel counts that (`run_delay` in `schedstat`), so
//!
//! ```text
//! waited = time - processor time - time for which it wanted a processor
//! ```
//!
//! That is true while it waits, whatever it did since it was first seen, and the looker may
//! itself be interrupted between any two readings: they are taken in an order in which that
//! only makes `waited` less. Where the kernel does not count it, a wait is what lies between
//! two looks that find the thread in the same system call.
//!
//! It knows no clock ([`Readings`]), so the tests have one of their own.

use std::time::Duration;

use crate::sys::kernel_thread::WaitsIn;

/// Looks in the time of the limit. A hold is seen at the first look after the switch, and a
/// wait is counted from the second on; so what lasts for two looks longer than the limit is
/// found.
const LOOKS: u32 = 16;

/// Where a hold may be over the limit sooner than at the next look, there is one then; but
/// not more often than so many times in that.
const FINER: u32 = 4;

/// How long until the next look, where holds are due in these times.
pub(super) fn next_look(limit: Duration, due: impl Iterator<Item = Duration>) -> Duration {
    let usual = limit / LOOKS;
    due.fold(usual, Duration::min).max(usual / FINER)
}

/// What can be read of a thread, each at the moment of the call.
pub(super) trait Readings {
    /// Since whatever.
    fn time(&self) -> Duration;
    /// The processor time that it has used.
    fn cpu(&self) -> Option<Duration>;
    /// For how long it has wanted a processor, without this time if it wants one now.
    fn delay(&self) -> Option<Duration>;
    /// The call that it waits in, if it does.
    fn waits_in(&self) -> Option<WaitsIn>;
}

/// A worker that has not switched since it was first seen so.
pub(super) struct WorkerHold {
    /// Processor time when it was first seen, and at the last look.
    began: Duration,
    cpu: Duration,
    looked: Duration,
    waited: Duration,
    /// The call that it waited in at the last look.
    pub(super) waits_in: Option<WaitsIn>,
    base: Option<WaitBase>,
    /// It is reported when it is held for so long.
    pub(super) report_at: Duration,
}

/// Readings that later ones are compared with.
struct WaitBase {
    cpu: Duration,
    delay: Duration,
    /// The last that was read.
    time: Duration,
}

impl WorkerHold {
    /// None if there is no such thread.
    pub(super) fn begin(thread: &impl Readings, report_at: Duration) -> Option<Self> {
        let cpu = thread.cpu()?;
        Some(Self {
            began: cpu,
            cpu,
            looked: thread.time(),
            waited: Duration::ZERO,
            waits_in: None,
            base: None,
            report_at,
        })
    }

    /// It has not switched since. None if there is no such thread any more.
    pub(super) fn look(&mut self, thread: &impl Readings) -> Option<()> {
        let time = thread.time();
        let cpu = thread.cpu()?;
        let (passed, ran) = (time.saturating_sub(self.looked), cpu - self.cpu);
        // One that computes is not asked what it waits for.
        let waits_in = if ran < passed / 2 {
            thread.waits_in()
        } else {
            None
        };
        if let Some(base) = &self.base {
            if waits_in.is_some() {
                self.waited = self.waited.max(base.waited(thread, time)?);
            }
        } else if waits_in.is_some() && waits_in == self.waits_in {
            self.waited += passed.saturating_sub(ran);
        }
        if self.base.is_none() {
            self.base = WaitBase::of(thread, cpu);
        }
        (self.looked, self.cpu, self.waits_in) = (time, cpu, waits_in);
        Some(())
    }

    pub(super) fn ran(&self) -> Duration {
        self.cpu - self.began
    }

    pub(super) fn held(&self) -> Duration {
        self.ran() + self.waited
    }

    /// It is not to be reported sooner.
    pub(super) fn due_in(&self) -> Duration {
        self.report_at.saturating_sub(self.held())
    }
}

impl WaitBase {
    fn of(thread: &impl Readings, cpu: Duration) -> Option<Self> {
        let delay = thread.delay()?;
        // Last: what happens between the readings is not counted as a wait.
        let time = thread.time();
        Some(Self { cpu, delay, time })
    }

    /// What it has waited until `time`, which was read before.
    fn waited(&self, thread: &impl Readings, time: Duration) -> Option<Duration> {
        let (cpu, delay) = (thread.cpu()?, thread.delay()?);
        let not = (cpu - self.cpu) + (delay - self.delay);
        Some(time.saturating_sub(self.time).saturating_sub(not))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
