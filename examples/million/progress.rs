//! How far a step is, as progress on stderr.

use std::time::Instant;

use crate::bar::Bar;
use crate::digits::grouped;

/// Shows how far one step is, until it is dropped.
pub(crate) struct Progress {
    bar: Bar,
    total: u64,
    begun: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        Self {
            bar: Bar::new(what, total as u64),
            total: total as u64,
            begun: Instant::now(),
        }
    }

    pub(crate) fn at(&mut self, done: usize) {
        let a_second = done as f64 / self.begun.elapsed().as_secs_f64();
        let (done, total) = (done as u64, grouped(self.total));
        let text = format!(
            "{} of {total}, {} a second",
            grouped(done),
            grouped(a_second as u64)
        );
        self.bar.at(done, text);
    }
}
