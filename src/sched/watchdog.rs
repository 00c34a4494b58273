//! The watchdog: a thread that looks at the workers, and reports a coroutine that does
//! not give its worker back.
//!
//! For how long a worker is held, by processor time and waits, says `hold.rs`. When that is
//! over the limit the thread is asked what it does (`sight.rs`), and the watchdog writes that
//! out.
//!
//! It only looks: to take the worker away from the coroutine would break whatever that is
//! in the middle of (an allocator, the loader).

use std::fmt::Write;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::hold::{self, Readings, WorkerHold};
use super::plan::{Config, Learn};
use super::sight;
use super::sighting::Seen;
use super::worker_handle::WorkerHandle;
use super::workers::Workers;
use crate::sys::kernel_thread::WaitsIn;
use crate::sys::report::{report, write_stderr};
use crate::sys::signal_mask::quietly;
use crate::sys::start_routine;
use crate::sys::symbols::Symbols;
use crate::sys::thread_files::ThreadFiles;

/// So many looks in a row at which all workers sleep, and the watchdog does, too.
const QUIET: u32 = 64;

/// The time between two reports, of which each takes some milliseconds.
const BETWEEN: Duration = Duration::from_secs(1);

/// A running watchdog; dropped, it ends.
pub(crate) struct Watchdog {
    workers: Arc<Workers>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Has the workers watched, if a thread can be started for it.
    pub(crate) fn start(workers: &Arc<Workers>, config: &Config) -> Option<Self> {
        let (limit, learn) = (config.watchdog?, config.threads.learn.clone());
        let ending = Arc::new(AtomicBool::new(false));
        let (all, end) = (Arc::clone(workers), Arc::clone(&ending));
        let builder = thread::Builder::new().name("crore-watchdog".into());
        let body = move || Looks::new(&all, limit, learn).until(&end);
        // No signal of the program's is this thread's.
        let thread = quietly(|| builder.spawn(body)).ok()?;
        let watchdog = thread.thread().clone();
        workers.doze.begin_watch(move || watchdog.unpark());
        Some(Self {
            workers: Arc::clone(workers),
            ending,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.workers.doze.end_watch();
        self.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic; and if it did, it has said so.
            let _ = thread.join();
        }
    }
}

/// The watchdog's thread: what it saw at its last look.
struct Looks<'a> {
    workers: &'a Workers,
    limit: Duration,
    learn: Option<Learn>,
    began: Instant,
    holds: Vec<Option<Watching>>,
    /// Looks in a row at which all workers slept.
    quiet: u32,
    reported: Option<Instant>,
    /// Holds since then that were not reported.
    unreported: u64,
}

/// A worker that has not switched.
struct Watching {
    thread: Arc<ThreadFiles>,
    /// What it had counted when it was first seen.
    switches: Switches,
    hold: WorkerHold,
}

/// How often a worker has switched.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Switches([u64; 2]);

impl Switches {
    /// None while the worker sleeps.
    fn of(handle: &WorkerHandle) -> Option<Self> {
        (!handle.watch.is_asleep()).then(|| Self(handle.switches()))
    }
}

/// Reads a thread's time by this clock.
struct Clocked<'a>(&'a ThreadFiles, Instant);

impl Readings for Clocked<'_> {
    fn time(&self) -> Duration {
        self.1.elapsed()
    }

    fn cpu(&self) -> Option<Duration> {
        self.0.thread().cpu_time().ok()
    }

    fn delay(&self) -> Option<Duration> {
        self.0.run_delay()
    }

    fn waits_in(&self) -> Option<WaitsIn> {
        self.0.waits_in()
    }
}

impl<'a> Looks<'a> {
    fn new(workers: &'a Workers, limit: Duration, learn: Option<Learn>) -> Self {
        Self {
            workers,
            limit,
            learn,
            began: Instant::now(),
            holds: workers.handles().iter().map(|_| None).collect(),
            quiet: 0,
            reported: None,
            unreported: 0,
        }
    }

    fn until(mut self, end: &AtomicBool) {
        while !end.load(Ordering::Acquire) {
            if self.quiet >= QUIET {
                self.doze();
            } else {
                let due = self.holds.iter().flatten().map(|one| one.hold.due_in());
                thread::park_timeout(hold::next_look(self.limit, due));
            }
            let awake = self.look();
            self.quiet = if awake { 0 } else { self.quiet + 1 };
        }
    }

    /// Sleeps until a worker wakes up.
    fn doze(&mut self) {
        let watches = self.workers.handles().iter().map(|handle| &handle.watch);
        self.workers.doze.doze(watches, thread::park);
        self.quiet = 0;
    }

    /// Looks at all workers; whether one is awake.
    fn look(&mut self) -> bool {
        let mut any_awake = false;
        for position in 0..self.holds.len() {
            let before = self.holds[position].take();
            let handle = self.workers.handles()[position];
            let switches = Switches::of(handle);
            any_awake |= switches.is_some();
            let awake = switches.zip(handle.watch.files());
            self.holds[position] = awake.and_then(|(switches, thread)| {
                let same = |held: &Watching| {
                    Arc::ptr_eq(&held.thread, &thread) && held.switches == switches
                };
                match before.filter(same) {
                    Some(held) => self.look_at(position, held),
                    None => self.begin(thread, switches),
                }
            });
        }
        any_awake
    }

    fn begin(&self, thread: Arc<ThreadFiles>, switches: Switches) -> Option<Watching> {
        let hold = WorkerHold::begin(&Clocked(&thread, self.began), self.limit)?;
        Some(Watching {
            thread,
            switches,
            hold,
        })
    }

    /// Looks again at a worker that has not switched; if it still has not, says so.
    fn look_at(&mut self, position: usize, mut held: Watching) -> Option<Watching> {
        let handle = self.workers.handles()[position];
        held.hold.look(&Clocked(&held.thread, self.began))?;
        // What was read while it switched is not one coroutine's.
        if Switches::of(handle) != Some(held.switches) {
            return None;
        }
        let time = held.hold.held();
        let longest = &handle.counters.longest_hold_micros;
        longest.raise(time.as_micros() as u64);
        if held.hold.due_in().is_zero() {
            self.report(position, &held);
            if held.hold.report_at == self.limit {
                handle.counters.holds.add(1);
            }
            held.hold.report_at = time * 10;
        }
        Some(held)
    }

    fn report(&mut self, position: usize, held: &Watching) {
        if self.reported.is_some_and(|last| last.elapsed() < BETWEEN) {
            self.unreported += 1;
            return;
        }
        let handle = self.workers.handles()[position];
        let seen = sight::who_runs(handle);
        // It may have switched before it was asked; and to be asked may have ended its wait.
        let switches = seen.as_ref().map(|seen| Switches(seen.switches));
        if switches.or_else(|| Switches::of(handle)) != Some(held.switches) {
            return;
        }
        let text = self.text(position, &held.hold, seen.as_ref());
        report(format_args!("{text}"));
        let waits = held.hold.waits_in.is_some_and(|call| call.for_others());
        let pattern = seen.as_ref().filter(|_| waits).and_then(pattern_of);
        if let Some((learn, pattern)) = self.learn.as_ref().zip(pattern) {
            learn(&pattern);
        }
        // Apart: the names take a while, and the process may end meanwhile.
        if let Some(seen) = seen {
            write_stderr(format!("{}", Symbols(seen.frames())).as_bytes());
        }
        self.reported = Some(Instant::now());
        self.unreported = 0;
    }

    fn text(&self, position: usize, hold: &WorkerHold, seen: Option<&Seen>) -> String {
        let who = seen.map(Seen::text).filter(|text| !text.is_empty());
        let who = who.unwrap_or_else(|| "a coroutine".into());
        let mut text = format!(
            "{who} has held worker {position} for {:?} ({:?} of processor time)",
            round(hold.held()),
            round(hold.ran()),
        );
        if let Some(call) = &hold.waits_in {
            let _ = write!(text, ", in the system call {call}");
        }
        text += "; meanwhile no other coroutine of it runs";
        if let Some(pattern) = seen.and_then(pattern_of) {
            let _ = write!(
                text,
                "; it stays a thread of the kernel's with `crore run --real '{pattern}'`, or by \
                 `keep_real`"
            );
        }
        if self.unreported > 0 {
            let _ = write!(text, " ({} more were not reported)", self.unreported);
        }
        text
    }
}

/// What `crore run --real` knows the thread by that was seen, if it was one.
fn pattern_of(seen: &Seen) -> Option<String> {
    start_routine::pattern(ptr::without_provenance(seen.start?))
}

/// For people.
fn round(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}
