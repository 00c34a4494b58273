//! What an operation costs as there are more: ten times as many, and so on, up
//! to what memory allows. `cargo run --release -p crore-benches --bin growth
//! [most [part of a name]]` prints a table in Markdown: nanoseconds of
//! processor time, and how many times that of the smallest number.
//!
//! - **resume**: all are woken, in order or at random, and run once. Only the
//!   running is counted, until the last one has parked again.
//! - **wake**: the calls of `unpark` that do so.
//! - **timer, set**: each goes to sleep until a deadline that is the same for all.
//! - **timer, fired**: the deadline has come; each is woken and run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crore::{CoroutineId, Runtime};
use crore_benches::on_crore::{Kind, Own, Shared};
use crore_peers::clock::processor_time;

/// On stacks of their own there are no more than this: 4 KiB each.
const MOST_OWN: u64 = 1_000_000;

/// Time for all to go to sleep, at least.
const PATIENCE: Duration = Duration::from_millis(20);
/// And for each of many, in microseconds: more if the machine is that busy.
static PATIENCE_FOR_EACH: AtomicU64 = AtomicU64::new(1);

/// How many have run.
static RAN: AtomicU64 = AtomicU64::new(0);
/// When the sleepers wake, in nanoseconds since [`base`].
static DEADLINE: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of one operation of each kind.
type Figures = [f64; 6];

const NAMES: [&str; 6] = [
    "wake, in order",
    "resume, in order",
    "wake, at random",
    "resume, at random",
    "timer, set",
    "timer, fired",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let most = arguments.next().map_or(10_000_000, |text| {
        text.parse().expect("the first argument is a number")
    });
    let wanted = arguments.next().unwrap_or_default();
    let counts: Vec<u64> = (3..=9)
        .map(|power| 10u64.pow(power))
        .filter(|&count| count <= most)
        .collect();
    println!(
        "| | {} |",
        counts.iter().map(grouped).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|{}", "---|".repeat(counts.len()));
    let kinds: [(&str, u64, fn(u64) -> Figures); 2] = [
        ("own stacks", MOST_OWN.min(most), best::<Own>),
        ("shared stacks", most, best::<Shared>),
    ];
    for (name, most, measure) in kinds {
        if !name.contains(&wanted) {
            continue;
        }
        let figures: Vec<Figures> = counts
            .iter()
            .filter(|&&count| count <= most)
            .map(|&count| measure(count))
            .collect();
        for (at, what) in NAMES.iter().enumerate() {
            let cells = figures.iter().map(|figure| {
                let (each, first) = (figure[at], figures[0][at]);
                if each.is_finite() {
                    format!("{each:.0} ns ({:.1})", each / first)
                } else {
                    "the machine was too busy".into()
                }
            });
            let cells: Vec<String> = cells.collect();
            println!("| {name}: {what} | {} |", cells.join(" | "));
        }
    }
}

fn grouped(count: &u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(" ")
}

/// The least of several runs, fewer of those that take long.
fn best<K: Kind>(count: u64) -> Figures {
    let runs = (3_000_000 / count).clamp(3, 200);
    let mut least = [f64::INFINITY; 6];
    let runtime = Runtime::builder().warm_stacks(1 << 20).build();
    let runtime = runtime.expect("a worker can be had");
    runtime
        .run(|| {
            for figure in (0..runs).map(|_| measure::<K>(count)) {
                for (least, each) in least.iter_mut().zip(figure) {
                    *least = each.min(*least);
                }
            }
        })
        .expect("this thread can run coroutines");
    least
}

/// One run, in a coroutine: those that it makes run when it yields, and it goes
/// on when all of them have.
fn measure<K: Kind>(count: u64) -> Figures {
    let mut ids: Vec<CoroutineId> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let task = K::spawn_small(|| {
            for _ in 0..3 {
                ran();
                crore::park();
            }
            crore::sleep_until(deadline());
            ran();
            crore::park();
        });
        ids.push(task.coroutine().id());
    }
    let run = || {
        RAN.store(0, Relaxed);
        crore::yield_now();
        assert_eq!(RAN.load(Relaxed), count, "each runs once");
    };
    let wake = |ids: &[CoroutineId]| ids.iter().for_each(|id| id.unpark());
    run();

    let wake_in_order = time(count, || wake(&ids));
    let resume_in_order = time(count, run);
    shuffle(&mut ids);
    let wake_at_random = time(count, || wake(&ids));
    let resume_at_random = time(count, run);

    wake(&ids);
    RAN.store(0, Relaxed);
    let patience = Duration::from_micros(PATIENCE_FOR_EACH.load(Relaxed) * count);
    let at = Instant::now() + patience.max(PATIENCE);
    set_deadline(at);
    let set = time(count, crore::yield_now);
    let all_slept = Instant::now() < at;
    let fired = time(count, || {
        crore::sleep_until(at);
        while RAN.load(Relaxed) < count {
            crore::yield_now();
        }
    });

    wake(&ids);
    crore::yield_now();
    // A machine so busy that the deadline came too soon: no figures.
    let timers = if all_slept {
        [set, fired]
    } else {
        [f64::INFINITY; 2]
    };
    [
        wake_in_order,
        resume_in_order,
        wake_at_random,
        resume_at_random,
        timers[0],
        timers[1],
    ]
}

/// Nanoseconds of processor time for one of `count`.
fn time(count: u64, work: impl FnOnce()) -> f64 {
    let start = processor_time();
    work();
    (processor_time() - start).as_nanos() as f64 / count as f64
}

/// Fisher and Yates, with a fixed seed.
fn shuffle(ids: &mut [CoroutineId]) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for i in (1..ids.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ids.swap(i, (state % (i as u64 + 1)) as usize);
    }
}

/// One more has run. There is one thread: no need to count atomically.
#[inline]
fn ran() {
    RAN.store(RAN.load(Relaxed) + 1, Relaxed);
}

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

fn set_deadline(at: Instant) {
    DEADLINE.store((at - base()).as_nanos() as u64, Relaxed);
}

#[inline(never)]
fn deadline() -> Instant {
    base() + Duration::from_nanos(DEADLINE.load(Relaxed))
}
