//! `Metrics`: what a runtime has counted, of all workers or of each.

use crate::runtime::handle::Handle;
use crate::runtime::run::Runtime;

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

impl Runtime {
    /// What the runtime has counted so far.
    pub fn metrics(&self) -> Metrics {
        self.handle.metrics()
    }
}
