//! Per-worker counters, and their sum as users see it: [`Metrics`].
//!
//! All are listed once, at the end of this file.

use std::ops::Add;

use crate::shim::atomic::{AtomicU64, Ordering};
use crate::stack::{ClassCounts, MAX_CLASSES};

/// One number: written by the worker alone, read by any thread. A plain load and
/// store on the writer's side, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[cold]
    pub(super) fn raise(&self, value: u64) {
        // By any thread: what another has raised it to stays.
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The stacks of one size; all zero where there is none.
#[derive(Debug, Default)]
pub(crate) struct StackCounters {
    bytes: Counter,
    in_use: Counter,
    warm: Counter,
    cold: Counter,
}

impl StackCounters {
    pub(super) fn set(&self, counts: ClassCounts) {
        self.bytes.set(counts.bytes as u64);
        self.in_use.set(counts.in_use as u64);
        self.warm.set(counts.warm as u64);
        self.cold.set(counts.cold as u64);
    }

    pub(crate) fn get(&self) -> ClassCounts {
        let number = |counter: &Counter| counter.get() as usize;
        ClassCounts {
            bytes: number(&self.bytes),
            in_use: number(&self.in_use),
            warm: number(&self.warm),
            cold: number(&self.cold),
        }
    }
}

/// Makes [`Counters`] and [`Metrics`] from one list: of each counter what it
/// means, its name, and how those of several workers become one number.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident: $fold:ident,)+) => {
        /// What one worker counts. [`Metrics`] says what each means.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            /// Of each size of stack that there is.
            pub(crate) stacks: [StackCounters; MAX_CLASSES],
        }

        impl Counters {
            /// Back to zero, for the next owner.
            pub(super) fn reset(&self) {
                $(self.$name.set(0);)+
                self.stacks.iter().for_each(|one| one.set(ClassCounts::default()));
            }
        }

        /// What a runtime has counted. Those about frames and stacks are as of the
        /// worker's last look at the kernel's events.
        ///
        /// ```
        /// let runtime = crore::Runtime::builder().build()?;
        /// runtime.run(|| (0..10).for_each(|_| crore::spawn(|| ()).join().unwrap()))?;
        /// let metrics = runtime.metrics();
        /// assert!(metrics.spawned >= 10 && metrics.ended == metrics.spawned);
        /// # std::io::Result::Ok(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Metrics {
            /// Coroutines that are alive.
            ///
            /// ```
            /// let live = || crore::Handle::current().unwrap().metrics().live();
            /// assert_eq!(crore::run(live)?, 1);
            /// # std::io::Result::Ok(())
            /// ```
            pub fn live(&self) -> u64 {
                self.spawned.saturating_sub(self.ended)
            }

            /// Each number with its name, in the order in which they are listed here.
            ///
            /// ```
            /// let mut all = crore::Metrics::default().named();
            /// assert!(all.any(|(name, number)| name == "spawned" && number == 0));
            /// ```
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }

            /// With what one more worker has counted.
            pub(crate) fn and(self, counters: &Counters) -> Self {
                Self {
                    $($name: self.$name.$fold(counters.$name.get()),)+
                }
            }
        }
    };
}

counters! {
    /// Coroutines spawned.
    spawned: add,
    /// Coroutines that have ended, in whatever way.
    ended: add,
    /// Those among them that ignored their cancellation and were abandoned.
    abandoned: add,
    /// Times that a coroutine was resumed (or started).
    resumed: add,
    /// Times that a worker asked the kernel for events.
    turns: add,
    /// Tasks that a worker has taken from others that had not come to them.
    steals: add,
    /// Coroutines that waited for their turn when the worker last asked for events.
    runnable: add,
    /// Coroutines that waited for something else then.
    parked: add,
    /// How long the one that was last in the run queue has waited for its turn, the last
    /// time, in microseconds. It is measured from one look at the kernel's events to the
    /// next, so up to 200 too high; no coroutine ran for longer without a break.
    queue_wait_micros: max,
    /// The longest that this has been.
    longest_queue_wait_micros: max,
    /// Timers that were set when the worker last asked for events: of sleeps, of time
    /// limits.
    timers: add,
    /// Descriptors that were registered with the kernel's event queue then, because
    /// somebody has waited for them.
    descriptors: add,
    /// Processor time that the workers' threads have used while they ran, in microseconds.
    busy_micros: add,
    /// Times that a coroutine held its worker for longer than the
    /// [watchdog](crate::RuntimeBuilder::watchdog)'s limit.
    holds: add,
    /// The longest that the watchdog has seen a worker held, in microseconds; what is
    /// shorter than a sixteenth of its limit it does not see.
    longest_hold_micros: max,
    /// Shared stacks: times that a coroutine's frames were copied out.
    frame_saves: add,
    /// Shared stacks: times that they were copied back.
    frame_restores: add,
    /// Shared stacks: resumes that found the frames still in place.
    frame_hits: add,
    /// Shared stacks: bytes of the largest frames that were copied out.
    largest_frame: max,
    /// Shared stacks: bytes that are kept of frames that are copied out now.
    saved_bytes: add,
    /// Shared stacks: the most that this has been.
    saved_bytes_peak: add,
    /// Shared stacks: memory that the pool of saved frames holds.
    saved_bytes_held: add,
    /// Dedicated stacks in use, and the shared ones.
    stacks_in_use: add,
    /// Unused stacks that keep their memory for the next coroutine.
    stacks_warm: add,
    /// Unused stacks whose memory went back to the kernel.
    stacks_cold: add,
    /// Stacks of abandoned coroutines, which are never used again.
    stacks_lost: add,
    /// Bytes of address space reserved for stacks; costs nothing until touched.
    stacks_reserved: add,
}
