//! What the driver tells, as progress on stderr.

use crate::bar::Bar;
use crate::drive::{Config, Progress};

/// Shows what the driver tells.
pub(crate) struct Display<'a> {
    config: &'a Config,
    /// The phase shown, and its bar.
    bar: Option<(&'static str, Bar)>,
}

impl<'a> Display<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, bar: None }
    }

    /// Shows one message of the driver.
    pub(crate) fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Connecting(count) => {
                let all = self.config.connections;
                let text = format!("{count} of {all} connections");
                self.bar("connecting", all as u64).at(count as u64, text);
            }
            Progress::Loading(elapsed, requests) => {
                let load = self.config.load;
                let (elapsed_seconds, seconds) = (elapsed.as_secs_f64(), load.as_secs());
                let text = format!("{elapsed_seconds:.0} of {seconds} s, {requests} requests");
                self.bar("driving", load.as_millis() as u64)
                    .at(elapsed.as_millis() as u64, text);
            }
        }
    }

    /// The bar of this phase; a new one where the phase is new.
    fn bar(&mut self, phase: &'static str, all: u64) -> &mut Bar {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            self.bar = Some((phase, Bar::new(phase, all)));
        }
        &mut self.bar.as_mut().expect("just made").1
    }
}
