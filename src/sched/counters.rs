//! Per-worker counters, and their sum as users see it: [`Metrics`].
//!
//! All are listed once, at the end of this file.

use std::ops::Add;

use crate::shim::atomic::{AtomicU64, Ordering};

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

    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
        }

        impl Counters {
            /// Back to zero, for the next owner.
            pub(super) fn reset(&self) {
                $(self.$name.set(0);)+
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
    /// Shared stacks: times that a coroutine's frames were copied out.
    frame_saves: add,
    /// Shared stacks: times that they were copied back.
    frame_restores: add,
    /// Shared stacks: resumes that found the frames still in place.
    frame_hits: add,
    /// Shared stacks: bytes of the largest frames that were copied out.
    largest_frame: max,
    /// Shared stacks: bytes of frames that are copied out now.
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
