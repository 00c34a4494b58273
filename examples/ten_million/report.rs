//! The table, the JSON, and the progress bars.

use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crore::Metrics;

use crate::args::Args;
use crate::bar::Bar;
use crate::digits::grouped;
use crate::json::Object;

/// Bytes of a coroutine's slot.
const SLOT: u64 = 32;
/// Bytes of the id that this program keeps of each.
const ID: u64 = 8;

/// How far the present step is; written by the coroutines.
pub(crate) static COUNT: AtomicU64 = AtomicU64::new(0);

/// A bar for one step. A thread of its own draws it from [`COUNT`], so that
/// what is measured does not wait for a terminal.
pub(crate) struct Progress {
    drawer: JoinHandle<()>,
    done: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new(what: String, total: usize) -> Self {
        COUNT.store(0, Relaxed);
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let drawer = thread::spawn(move || {
            let all = total as u64;
            let mut bar = Bar::new(what, all);
            while !seen.load(Relaxed) {
                let done = COUNT.load(Relaxed);
                bar.at(done, format!("{} of {}", grouped(done), grouped(all)));
                thread::park_timeout(Duration::from_millis(100));
            }
        });
        Self { drawer, done }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.done.store(true, Relaxed);
        self.drawer.thread().unpark();
        self.drawer
            .join()
            .expect("the drawing thread does not panic");
    }
}

/// All that was measured: bytes, and nanoseconds a coroutine.
pub(crate) struct Report {
    coroutines: u64,
    stacks: u32,
    depth: u32,
    before: u64,
    rss: u64,
    frames: u64,
    largest_frame: u64,
    pub(crate) spawn: f64,
    pub(crate) first_run: f64,
    pub(crate) in_order: Vec<f64>,
    pub(crate) random: Vec<f64>,
    pub(crate) end: f64,
    pub(crate) after: u64,
    pub(crate) verified: bool,
}

impl Report {
    pub(crate) fn new(args: &Args, before: u64) -> Self {
        Self {
            coroutines: args.coroutines as u64,
            stacks: args.stacks,
            depth: args.depth,
            before,
            rss: 0,
            frames: 0,
            largest_frame: 0,
            spawn: 0.0,
            first_run: 0.0,
            in_order: Vec::new(),
            random: Vec::new(),
            end: 0.0,
            after: 0,
            verified: true,
        }
    }

    /// Takes down what is resident while all are parked.
    pub(crate) fn parked(&mut self, rss: u64, metrics: &Metrics) {
        self.rss = rss;
        self.frames = metrics.saved_bytes_held;
        self.largest_frame = metrics.largest_frame;
    }

    /// Whether the memory is back: within 5 % and 16 MiB of the start.
    pub(crate) fn returned(&self) -> bool {
        self.after <= self.before + self.before / 20 + (16 << 20)
    }

    fn each(&self, bytes: u64) -> f64 {
        bytes as f64 / self.coroutines as f64
    }

    fn bytes_per_coroutine(&self) -> f64 {
        self.each(self.rss.saturating_sub(self.before))
    }

    pub(crate) fn print(&self, json: bool) {
        println!(
            "{} coroutines, each parked {} calls deep, on {} shared stacks of one kernel thread\n",
            grouped(self.coroutines),
            self.depth,
            self.stacks
        );
        self.print_times();
        self.print_memory();
        if json {
            println!("{}", self.json());
        }
    }

    fn print_times(&self) {
        println!("nanoseconds a coroutine");
        println!("  spawn                {:8.1}", self.spawn);
        println!("  first run, park      {:8.1}", self.first_run);
        println!("  resume in order      {}", rounds(&self.in_order));
        println!("  resume random order  {}", rounds(&self.random));
        println!("  resume, return, end  {:8.1}\n", self.end);
        let verified = if self.verified { "yes" } else { "NO" };
        println!("every value right after every resume: {verified}\n");
    }

    fn print_memory(&self) {
        let (slots, ids) = (SLOT * self.coroutines, ID * self.coroutines);
        let grown = self.rss.saturating_sub(self.before);
        let rest = grown.saturating_sub(slots + self.frames + ids);
        println!("resident while all are parked        bytes each         MiB");
        for (what, bytes) in [
            ("slots", slots),
            ("frames", self.frames),
            ("ids that this program keeps", ids),
            ("the rest", rest),
            ("in all", grown),
        ] {
            println!("  {what:30} {:13.1} {:11}", self.each(bytes), bytes >> 20);
        }
        println!("  largest frames {} bytes\n", self.largest_frame);
        println!("for scale, published figures");
        println!("  libaco, shared stack, 10 000 000 of 120 bytes:  2.8 GB, 280 bytes each");
        println!("  Java's Loom: 200 to 240 bytes each, and the stack on the heap besides\n");
        println!(
            "process: {} MiB at the start, {} MiB with all parked, {} MiB after the last has ended: {}",
            self.before >> 20,
            self.rss >> 20,
            self.after >> 20,
            if self.returned() {
                "given back"
            } else {
                "NOT given back"
            }
        );
    }

    fn json(&self) -> Object<15> {
        Object([
            ("coroutines", self.coroutines.into()),
            ("stacks", u64::from(self.stacks).into()),
            ("depth", u64::from(self.depth).into()),
            ("rss_bytes", self.rss.into()),
            ("rss_bytes_before", self.before.into()),
            ("rss_bytes_after", self.after.into()),
            ("rss_returned", self.returned().into()),
            ("bytes_per_coroutine", self.bytes_per_coroutine().into()),
            ("frame_bytes", self.largest_frame.into()),
            ("spawn_ns", self.spawn.into()),
            ("first_run_ns", self.first_run.into()),
            ("resume_in_order_ns", least(&self.in_order).into()),
            ("resume_random_ns", least(&self.random).into()),
            ("end_ns", self.end.into()),
            ("verified", self.verified.into()),
        ])
    }
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The fastest round, then all, sorted.
fn rounds(times: &[f64]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let all: Vec<String> = sorted.iter().map(|time| format!("{time:.1}")).collect();
    format!("{:8.1}   (rounds: {})", sorted[0], all.join(", "))
}
