//! Progress on stderr: a bar on a terminal, else a line a second.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const CELLS: u64 = 20;

/// Shows how far one step is, until it is dropped.
pub(crate) struct Bar {
    what: String,
    all: u64,
    terminal: bool,
    shown: Instant,
}

impl Bar {
    pub(crate) fn new(what: impl Into<String>, all: u64) -> Self {
        Self {
            what: what.into(),
            all,
            terminal: std::io::stderr().is_terminal(),
            shown: Instant::now(),
        }
    }

    /// Shows `done` of all and the text, unless the last time was just now.
    pub(crate) fn at(&mut self, done: u64, text: impl Display) {
        let pause = Duration::from_millis(if self.terminal { 50 } else { 1000 });
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        if self.terminal {
            eprint!("\r{} {} {text}\x1b[K", self.what, cells(done, self.all));
        } else {
            eprintln!("{}: {text}", self.what);
        }
    }
}

/// Takes the bar off the terminal.
impl Drop for Bar {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn cells(done: u64, all: u64) -> String {
    let full = done.min(all).saturating_mul(CELLS) / all.max(1);
    (0..CELLS)
        .map(|i| if i < full { '█' } else { '░' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_from_the_left() {
        for (done, all, full) in [
            (0, 0, 0),
            (0, 9, 0),
            (5, 10, 10),
            (10, 10, 20),
            (11, 10, 20),
        ] {
            let bar = cells(done, all);
            let expected = "█".repeat(full) + &"░".repeat(20 - full);
            assert_eq!(bar, expected, "{done} of {all}");
        }
    }
}
