//! What a runtime has counted, as users see it.

use crate::sched::Counters;

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
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that have ended, in whatever way.
    pub ended: u64,
    /// Those among them that ignored their cancellation and were abandoned.
    pub abandoned: u64,
    /// Times that a coroutine was resumed (or started).
    pub resumed: u64,
    /// Times that a worker asked the kernel for events.
    pub turns: u64,
    /// Shared stacks: times that a coroutine's frames were copied out.
    pub frame_saves: u64,
    /// Shared stacks: times that they were copied back.
    pub frame_restores: u64,
    /// Shared stacks: resumes that found the frames still in place.
    pub frame_hits: u64,
    /// Shared stacks: bytes of the largest frames that were copied out.
    pub largest_frame: u64,
    /// Shared stacks: bytes of frames that are copied out now.
    pub saved_bytes: u64,
    /// Shared stacks: the most that this has been.
    pub saved_bytes_peak: u64,
    /// Shared stacks: memory that the pool of saved frames holds.
    pub saved_bytes_held: u64,
    /// Dedicated stacks in use, and the shared ones.
    pub stacks_in_use: u64,
    /// Unused stacks that keep their memory for the next coroutine.
    pub stacks_warm: u64,
    /// Unused stacks whose memory went back to the kernel.
    pub stacks_cold: u64,
    /// Stacks of abandoned coroutines, which are never used again.
    pub stacks_lost: u64,
    /// Bytes of address space reserved for stacks; costs nothing until touched.
    pub stacks_reserved: u64,
}

impl Metrics {
    pub(crate) fn add(&mut self, counters: &Counters) {
        self.spawned += counters.spawned.get();
        self.ended += counters.ended.get();
        self.abandoned += counters.abandoned.get();
        self.resumed += counters.resumed.get();
        self.turns += counters.turns.get();
        self.frame_saves += counters.saves.get();
        self.frame_restores += counters.restores.get();
        self.frame_hits += counters.hits.get();
        self.largest_frame = self.largest_frame.max(counters.largest_frame.get());
        self.saved_bytes += counters.saved_bytes.get();
        self.saved_bytes_peak += counters.saved_bytes_peak.get();
        self.saved_bytes_held += counters.saved_bytes_held.get();
        self.stacks_in_use += counters.stacks_in_use.get();
        self.stacks_warm += counters.stacks_warm.get();
        self.stacks_cold += counters.stacks_cold.get();
        self.stacks_lost += counters.stacks_lost.get();
        self.stacks_reserved += counters.stacks_reserved.get();
    }
}
