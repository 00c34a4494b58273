//! What has happened: as one number, in words where somebody wants to read it, and
//! beside what happened in another run.

use std::backtrace::Backtrace;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crate::sys::syscall::{Answer, Errno};

/// What a simulation notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A coroutine goes on.
    Resumed,
    /// It waits, or lets others run.
    Suspends,
    /// A call of its has this result, or error number.
    Called(i64, Answer),
    /// A call of its fails, with this error number, before it is made.
    Fails(Errno),
    /// Something the test or the plan of faults did; which, by number.
    Fault(u64),
}

/// An event, the time, and whose it is: the coroutine's serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventEntry {
    pub(super) now: u64,
    pub(super) serial: usize,
    pub(super) event: Event,
}

/// Events that are shown before those that differ.
const CONTEXT: usize = 8;

/// The run so far.
#[derive(Default)]
pub(super) struct History {
    hash: u64,
    events: u64,
    /// Kept if somebody wants them: words.
    pub(super) lines: Option<TraceLines>,
    pub(super) probe: HistoryProbe,
}

/// What happened, in words.
pub(super) enum TraceLines {
    Kept(Vec<String>),
    Written(File),
}

impl Default for TraceLines {
    fn default() -> Self {
        Self::Kept(Vec::new())
    }
}

/// Whether a run is one of two that are to be the same.
#[derive(Default)]
pub(super) enum HistoryProbe {
    #[default]
    Off,
    /// The first.
    Records(Vec<EventEntry>),
    /// The second.
    Compares(Arc<Vec<EventEntry>>, Option<Box<Difference>>),
    /// A third: where is it at this event?
    Looks(u64, Option<Box<(EventEntry, Backtrace)>>),
}

/// The first event of a run that another did not have.
pub(super) struct Difference {
    pub(super) at: u64,
    pub(super) expected: Option<EventEntry>,
    /// The last that both had.
    before: Vec<EventEntry>,
    found: EventEntry,
    backtrace: Backtrace,
}

impl History {
    pub(super) fn new(lines: Option<TraceLines>, probe: HistoryProbe) -> Self {
        Self {
            lines,
            probe,
            ..Self::default()
        }
    }

    pub(super) fn note(&mut self, entry: EventEntry) {
        let (kind, what, result) = match entry.event {
            Event::Resumed => (1, 0, 0),
            Event::Called(number, Ok(count)) => (2, number as u64, count as u64),
            Event::Called(number, Err(code)) => (3, number as u64, code as u64),
            Event::Fault(number) => (4, number, 0),
            Event::Suspends => (5, 0, 0),
            Event::Fails(code) => (6, code as u64, 0),
        };
        for word in [entry.now, entry.serial as u64, kind, what, result] {
            // A rotation, and a multiplication by an odd number: every bit counts.
            self.hash = (self.hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.probe.see(self.events, entry);
        self.events += 1;
    }

    /// Adds a line, if lines are wanted.
    pub(super) fn say(&mut self, now: u64, who: &str, what: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            let now = Duration::from_nanos(now).as_secs_f64();
            let mut line = format!("t={now:.6} s {who}: ");
            let _ = line.write_fmt(what);
            match lines {
                TraceLines::Kept(all) => all.push(line),
                // What can't be written is missing there.
                TraceLines::Written(file) => drop(writeln!(file, "{line}")),
            }
        }
    }

    /// Those that are kept.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        match self.lines.take() {
            Some(TraceLines::Kept(all)) => all,
            _ => Vec::new(),
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

impl HistoryProbe {
    fn see(&mut self, at: u64, found: EventEntry) {
        match self {
            Self::Off => {}
            Self::Records(all) => all.push(found),
            Self::Looks(event, place) => {
                if *event == at {
                    *place = Some(Box::new((found, Backtrace::force_capture())));
                }
            }
            Self::Compares(first, difference) => {
                let expected = first.get(at as usize).copied();
                if difference.is_none() && expected != Some(found) {
                    let known = first.len().min(at as usize);
                    *difference = Some(Box::new(Difference {
                        at,
                        before: first[known.saturating_sub(CONTEXT)..known].to_vec(),
                        expected,
                        found,
                        backtrace: Backtrace::force_capture(),
                    }));
                }
            }
        }
    }
}

impl fmt::Display for EventEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = Duration::from_nanos(self.now).as_secs_f64();
        write!(f, "t={now:.9} s coroutine #{} ", self.serial)?;
        match self.event {
            Event::Resumed => write!(f, "goes on"),
            Event::Suspends => write!(f, "suspends"),
            Event::Called(number, Ok(count)) => write!(f, "system call {number} → {count}"),
            Event::Called(number, Err(code)) => {
                let why = io::Error::from_raw_os_error(code);
                write!(f, "system call {number} → {why}")
            }
            Event::Fails(code) => {
                let why = io::Error::from_raw_os_error(code);
                write!(f, "a call fails: {why}")
            }
            Event::Fault(number) => write!(f, "fault {number:#x}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, found, .. } = self;
        writeln!(f, "after")?;
        let mut before = self.before.iter();
        before.try_for_each(|entry| writeln!(f, "  {entry}"))?;
        match &self.expected {
            Some(expected) => writeln!(f, "event {at} was\n  {expected}\nand is now\n  {found}")?,
            None => writeln!(f, "event {at} is new:\n  {found}")?,
        }
        write!(f, "at\n{}", self.backtrace)
    }
}
