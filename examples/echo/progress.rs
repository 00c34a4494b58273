//! Progress on stderr: bars on a terminal, else a line a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::drive::{Config, Progress};

/// Shows what the driver tells.
pub(crate) struct Display<'a> {
    config: &'a Config,
    /// The phase shown, as its bar; `None` where stderr is no terminal.
    bar: Option<(&'static str, ProgressBar)>,
    terminal: bool,
    last_line: Instant,
}

impl<'a> Display<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self {
            config,
            bar: None,
            terminal: std::io::stderr().is_terminal(),
            last_line: Instant::now(),
        }
    }

    /// Shows one message of the driver.
    pub(crate) fn show(&mut self, progress: Progress) {
        let (phase, done, all, text) = match progress {
            Progress::Connecting(count) => {
                let all = self.config.connections;
                (
                    "connecting",
                    count as u64,
                    all as u64,
                    format!("{count} of {all} connections"),
                )
            }
            Progress::Loading(elapsed, requests) => {
                let load = self.config.load;
                let text = format!(
                    "{:.0} of {} s, {requests} requests",
                    elapsed.as_secs_f64(),
                    load.as_secs()
                );
                (
                    "driving",
                    elapsed.as_millis() as u64,
                    load.as_millis() as u64,
                    text,
                )
            }
        };
        if self.terminal {
            self.bar(phase, all).set_position(done);
            self.bar(phase, all).set_message(text);
        } else if self.last_line.elapsed() >= Duration::from_secs(1) {
            self.last_line = Instant::now();
            eprintln!("{phase}: {text}");
        }
    }

    /// The bar of this phase; a new one where the phase is new.
    fn bar(&mut self, phase: &'static str, all: u64) -> &ProgressBar {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            self.clear();
            let style = ProgressStyle::with_template("{prefix:>10} {wide_bar} {msg}");
            let bar = ProgressBar::new(all)
                .with_prefix(phase)
                .with_style(style.expect("a fixed template"));
            self.bar = Some((phase, bar));
        }
        &self.bar.as_ref().expect("just made").1
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
