//! Progress on stderr: a bar on a terminal, else a line a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::digits::grouped;

/// Shows how far one step is, until it is dropped.
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    /// `None` where stderr is no terminal.
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>18} {wide_bar} {human_pos} of {human_len}, {per_sec}",
        );
        let bar = std::io::stderr().is_terminal().then(|| {
            ProgressBar::new(total as u64)
                .with_prefix(what)
                .with_style(style.expect("a fixed template"))
        });
        Self {
            what,
            total: total as u64,
            bar,
            last_line: Instant::now(),
        }
    }

    pub(crate) fn at(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if self.last_line.elapsed() >= Duration::from_secs(1) {
            self.last_line = Instant::now();
            let (done, total) = (grouped(done as u64), grouped(self.total));
            eprintln!("{}: {done} of {total}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
