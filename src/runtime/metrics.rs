//! `Metrics`: what a runtime has counted, of all workers or of each.

use crate::runtime::handle::Handle;
use crate::runtime::run::Runtime;
use crate::sched::StackCounters;

pub use crate::sched::Metrics;

impl Handle {
    /// What the runtime has counted so far; all zero once it has been dropped.
    pub fn metrics(&self) -> Metrics {
        self.workers()
            .counters()
            .fold(Metrics::default(), Metrics::and)
    }

    /// As [`Handle::metrics`], for each worker.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().workers(2).build()?;
    /// runtime.run(|| {
    ///     let each = crore::Handle::current().unwrap().worker_metrics();
    ///     assert_eq!(each.len(), 2);
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn worker_metrics(&self) -> Vec<Metrics> {
        let one = |counters| Metrics::default().and(counters);
        self.workers().counters().map(one).collect()
    }
}

/// The stacks of one size: [`Handle::stack_metrics`].
///
/// ```
/// let runtime = crore::Runtime::builder().build()?;
/// runtime.run(|| ())?;
/// let sizes: Vec<crore::StackMetrics> = runtime.handle().stack_metrics();
/// assert_eq!(sizes.iter().map(|size| size.in_use).sum::<usize>(), 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackMetrics {
    /// Bytes that each has to run on.
    pub bytes: usize,
    /// Those that coroutines have, and the shared ones.
    pub in_use: usize,
    /// Unused ones that keep their memory for the next coroutine.
    pub warm: usize,
    /// Unused ones whose memory went back to the kernel.
    pub cold: usize,
}

impl Handle {
    /// The stacks of all workers by size, the smallest first, as of the workers' last
    /// looks at the kernel's events.
    ///
    /// ```
    /// let runtime = crore::Runtime::builder().build()?;
    /// runtime.run(|| crore::sleep(std::time::Duration::from_millis(1)))?;
    /// let [stacks] = runtime.handle().stack_metrics()[..] else { panic!() };
    /// assert_eq!((stacks.in_use, stacks.warm), (0, 1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn stack_metrics(&self) -> Vec<StackMetrics> {
        let mut sizes: Vec<StackMetrics> = Vec::new();
        let all = self.workers().counters().flat_map(|one| &one.stacks);
        for one in all.map(StackCounters::get).filter(|one| one.bytes > 0) {
            let place = sizes.binary_search_by_key(&one.bytes, |size| size.bytes);
            let place = place.unwrap_or_else(|place| {
                let none = StackMetrics {
                    bytes: one.bytes,
                    in_use: 0,
                    warm: 0,
                    cold: 0,
                };
                sizes.insert(place, none);
                place
            });
            sizes[place].in_use += one.in_use;
            sizes[place].warm += one.warm;
            sizes[place].cold += one.cold;
        }
        sizes
    }
}

impl Runtime {
    /// What the runtime has counted so far.
    pub fn metrics(&self) -> Metrics {
        self.handle.metrics()
    }
}
