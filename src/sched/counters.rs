//! What a worker counts, for others to read.

use crate::shim::atomic::{AtomicU64, Ordering};

/// One number: written by the worker alone, read by anybody. A plain load and
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

/// See [`Metrics`](crate::Metrics) for what they mean.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) ended: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) resumed: Counter,
    pub(crate) turns: Counter,
    pub(crate) saves: Counter,
    pub(crate) restores: Counter,
    pub(crate) hits: Counter,
    pub(crate) largest_frame: Counter,
    pub(crate) saved_bytes: Counter,
    pub(crate) saved_bytes_peak: Counter,
    pub(crate) saved_bytes_held: Counter,
    pub(crate) stacks_in_use: Counter,
    pub(crate) stacks_warm: Counter,
    pub(crate) stacks_cold: Counter,
    pub(crate) stacks_lost: Counter,
    pub(crate) stacks_reserved: Counter,
}

impl Counters {
    /// Back to zero, for the next owner.
    pub(super) fn reset(&self) {
        let Self {
            spawned,
            ended,
            abandoned,
            resumed,
            turns,
            saves,
            restores,
            hits,
            largest_frame,
            saved_bytes,
            saved_bytes_peak,
            saved_bytes_held,
            stacks_in_use,
            stacks_warm,
            stacks_cold,
            stacks_lost,
            stacks_reserved,
        } = self;
        let all = [
            spawned,
            ended,
            abandoned,
            resumed,
            turns,
            saves,
            restores,
            hits,
            largest_frame,
            saved_bytes,
            saved_bytes_peak,
            saved_bytes_held,
            stacks_in_use,
            stacks_warm,
            stacks_cold,
            stacks_lost,
            stacks_reserved,
        ];
        all.into_iter().for_each(|counter| counter.set(0));
    }
}
