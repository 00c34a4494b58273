//! What it costs to be seen: `cargo run --release -p crore-benches --bin inside [SECONDS]`.
//!
//! - What the watchdog finds with a limit of 40 ms: 50 ms of computing, a sleep without hooks,
//!   a read of a FIFO by a system call of the program's own, a hundred times each. (Its
//!   reports are on standard error.)
//! - A dump of 100 000 parked coroutines while others echo, every byte checked: how long
//!   it takes, and the longest that an echo took meanwhile.
//! - The watchdog on and off, in turns: nanoseconds a yield and an echo, of processor time;
//!   and the metrics read each millisecond, or never. (They are always kept up.)
//! - 100 000 coroutines each in a span of `tracing` of its own, at the same time: parents
//!   that are wrong, and bytes of the heap for each.
//! - With SECONDS: false alarms of the watchdog in that time, beside 20 threads that
//!   compute. No coroutine holds its worker for longer than half of the limit.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crore::{Handle, Runtime};

const PARKED: usize = 100_000;
const PAIRS: usize = 50;
const TURNS: usize = 15;
const YIELDS: u32 = 300_000;
const ECHOES: u32 = 20_000;
const LIMIT: Duration = Duration::from_millis(40);
const ROUNDS: u32 = 100;
const BURNERS: usize = 20;

fn main() {
    finds();
    dump_beside_traffic();
    on_and_off("the watchdog", |on| costs(on.then_some(LIMIT), false));
    on_and_off("a reader of metrics", |on| costs(None, on));
    for count in [25_000, PARKED] {
        spans::open(count);
    }
    if let Some(seconds) = std::env::args().nth(1) {
        false_alarms(Duration::from_secs(seconds.parse().expect("seconds")));
    }
}

/// Echoes until it is told to stop: how many, and the longest.
fn echoes(stop: &AtomicBool) -> (u64, Duration) {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let answers = crore::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = there.read(&mut buffer) {
            there.write_all(&buffer[..n]).unwrap();
        }
    });
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        let sent = count.to_le_bytes();
        here.write_all(&sent).unwrap();
        let mut back = [0; 8];
        here.read_exact(&mut back).unwrap();
        assert_eq!(back, sent, "an echo is wrong");
        count += 1;
        longest = longest.max(begun.elapsed());
    }
    drop(here);
    answers.join().unwrap();
    (count, longest)
}

/// Each in a runtime of its own.
fn finds() {
    let computes = || {
        let begun = cpu();
        while cpu() - begun < Duration::from_millis(50) {
            black_box((0..1_000_u64).sum::<u64>());
        }
    };
    found("50 ms of computing", computes);
    let sleeps = || crore::unhooked(|| thread::sleep(Duration::from_millis(50)));
    found("a sleep of 50 ms without hooks", sleeps);
    found("a read of a FIFO by an inline system call", reads_a_fifo);
}

fn found(what: &str, holds: fn()) {
    let (mut found, mut longest) = (0, 0);
    for _ in 0..ROUNDS {
        let runtime = Runtime::builder().watchdog(Some(LIMIT)).build().unwrap();
        let named = crore::Builder::new().name("holds the worker".into());
        let ran = runtime.run(|| named.spawn(holds).unwrap().join().unwrap());
        ran.unwrap();
        let metrics = runtime.metrics();
        found += metrics.holds;
        longest = longest.max(metrics.longest_hold_micros);
    }
    println!(
        "{what}: {found} of {ROUNDS} found by a limit of {LIMIT:?}, the longest seen {:.0?}",
        Duration::from_micros(longest)
    );
}

/// A byte comes after 50 ms.
fn reads_a_fifo() {
    let path = std::env::temp_dir().join(format!("crore-inside-{}", std::process::id()));
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let fifo = std::fs::File::options().read(true).write(true).open(&path);
    let mut fifo = fifo.unwrap();
    std::fs::remove_file(&path).unwrap();
    let number = fifo.as_raw_fd();
    let writes = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        fifo.write_all(&[7]).unwrap();
        fifo
    });
    assert_eq!(read_inline(number), 1);
    drop(crore::unhooked(|| writes.join().unwrap()));
}

/// As programs do that have no libc.
#[cfg(target_arch = "x86_64")]
fn read_inline(fd: i32) -> isize {
    let (mut byte, result) = ([0_u8; 1], &mut 0_isize);
    // SAFETY: `read` into a byte of ours.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_read as isize => *result,
            in("rdi") fd as isize,
            in("rsi") byte.as_mut_ptr(),
            in("rdx") 1_usize,
            out("rcx") _,
            out("r11") _,
        );
    }
    *result
}

#[cfg(not(target_arch = "x86_64"))]
fn read_inline(fd: i32) -> isize {
    let mut byte = [0_u8; 1];
    // SAFETY: `read` into a byte of ours.
    crore::unhooked(|| unsafe { libc::read(fd, byte.as_mut_ptr().cast(), 1) })
}

fn dump_beside_traffic() {
    let runtime = Runtime::builder()
        .workers(2)
        .watchdog(None)
        .build()
        .unwrap();
    let ran = runtime.run(|| {
        let parked: Vec<_> = (0..PARKED).map(|_| crore::spawn(crore::park)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let traffic: Vec<_> = (0..PAIRS)
            .map(|_| {
                let stop = Arc::clone(&stop);
                crore::spawn(move || echoes(&stop))
            })
            .collect();
        let handle = Handle::current().unwrap();
        let asks = crore::spawn_blocking(move || {
            while handle.metrics().parked < PARKED as u64 {
                thread::sleep(Duration::from_millis(10));
            }
            thread::sleep(Duration::from_millis(500));
            let begun = Instant::now();
            let dump = handle.dump();
            let took = begun.elapsed();
            let text = dump.to_string();
            (dump.len(), took, begun.elapsed(), text.len())
        });
        let (count, took, printed, bytes) = asks.join().unwrap();
        stop.store(true, Relaxed);
        let all: Vec<_> = traffic.into_iter().map(|one| one.join().unwrap()).collect();
        let echoed: u64 = all.iter().map(|one| one.0).sum();
        let longest = all.iter().map(|one| one.1).max().unwrap();
        assert!(count > PARKED, "the dump has {count}");
        println!(
            "dump of {count} coroutines: taken in {took:.2?}, in words ({bytes} bytes) after \
             {printed:.2?}; {echoed} echoes meanwhile, none wrong, the longest {longest:.2?}"
        );
        parked.iter().for_each(|one| one.coroutine().unpark());
    });
    ran.unwrap();
}

/// Nanoseconds of this thread's processor time for each of `count`.
fn each(count: u32, f: impl FnOnce()) -> f64 {
    let begun = cpu();
    f();
    (cpu() - begun).as_nanos() as f64 / f64::from(count)
}

fn cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A yield and an echo, in nanoseconds, perhaps while another thread reads the metrics.
fn costs(watchdog: Option<Duration>, read: bool) -> [f64; 2] {
    let runtime = Runtime::builder().watchdog(watchdog).build().unwrap();
    let (handle, ended) = (runtime.handle(), Arc::new(AtomicBool::new(!read)));
    let end = Arc::clone(&ended);
    let reader = thread::spawn(move || {
        while !end.load(Relaxed) {
            black_box(handle.worker_metrics());
            thread::sleep(Duration::from_millis(1));
        }
    });
    let ran = runtime.run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let other = crore::spawn(move || {
            while !theirs.load(Relaxed) {
                crore::yield_now();
            }
        });
        let yields = each(2 * YIELDS, || (0..YIELDS).for_each(|_| crore::yield_now()));
        stop.store(true, Relaxed);
        other.join().unwrap();
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let answers = crore::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = there.read(&mut buffer) {
                there.write_all(&buffer[..n]).unwrap();
            }
        });
        let echo = each(ECHOES, || {
            for _ in 0..ECHOES {
                here.write_all(&[7; 64]).unwrap();
                here.read_exact(&mut [0; 64]).unwrap();
            }
        });
        drop(here);
        answers.join().unwrap();
        [yields, echo]
    });
    ended.store(true, Relaxed);
    reader.join().unwrap();
    ran.unwrap()
}

fn on_and_off(what: &str, costs: impl Fn(bool) -> [f64; 2]) {
    let mut turns: Vec<[f64; 4]> = Vec::new();
    for _ in 0..TURNS {
        let [off, on] = [false, true].map(&costs);
        turns.push([off[0], on[0], off[1], on[1]]);
    }
    let median = |of: &dyn Fn(&[f64; 4]) -> f64| {
        let mut all: Vec<_> = turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "yield: {:.1} ns without {what}, {:.1} with it, {:+.2} ns in paired runs",
        median(&|one| one[0]),
        median(&|one| one[1]),
        median(&|one| one[1] - one[0])
    );
    println!(
        "echo: {:.0} ns without {what}, {:.0} with it, {:+.2} % in paired runs",
        median(&|one| one[2]),
        median(&|one| one[3]),
        median(&|one| (one[3] / one[2] - 1.0) * 100.0)
    );
}

fn false_alarms(time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..BURNERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    black_box((0..1_000_u64).sum::<u64>());
                }
            })
        })
        .collect();
    let runtime = Runtime::builder().workers(2).watchdog(Some(LIMIT));
    let runtime = runtime.build().unwrap();
    let turns = AtomicU64::new(0);
    let ran = runtime.run(|| {
        let end = Instant::now() + time;
        crore::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    while Instant::now() < end {
                        // So much processor time, however long it takes.
                        let begun = cpu();
                        while cpu() - begun < LIMIT / 40 {
                            black_box((0..1_000_u64).sum::<u64>());
                        }
                        crore::sleep(Duration::from_millis(5));
                        turns.fetch_add(1, Relaxed);
                    }
                });
            }
        });
    });
    ran.unwrap();
    stop.store(true, Relaxed);
    burners.into_iter().for_each(|one| one.join().unwrap());
    let metrics = runtime.metrics();
    println!(
        "watchdog beside {BURNERS} threads that compute: {} alarms in {time:.0?} and {} slices of \
         {:?}; the longest hold that it saw {:?}",
        metrics.holds,
        turns.load(Relaxed),
        LIMIT / 40,
        Duration::from_micros(metrics.longest_hold_micros)
    );
}

/// Spans of `tracing` by coroutine.
mod spans {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::fmt;
    use std::sync::Once;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
    use std::time::Instant;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id};
    use tracing::{Subscriber, info_span};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};
    use tracing_subscriber::registry::LookupSpan;
    use tracing_subscriber::util::SubscriberInitExt;

    /// Counts what is on the heap.
    struct Counting;

    static HEAP: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: the system's, and a number beside.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            HEAP.fetch_add(layout.size(), Relaxed);
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            HEAP.fetch_sub(layout.size(), Relaxed);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(place, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    static RIGHT: AtomicU64 = AtomicU64::new(0);
    static WRONG: AtomicU64 = AtomicU64::new(0);

    /// The number of the coroutine that a span is of.
    #[derive(Default)]
    struct Of(u64);

    impl Visit for Of {
        fn record_u64(&mut self, _: &Field, value: u64) {
            self.0 = value;
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }

    /// Compares a span with the one around it.
    struct Compares;

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Compares {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            let mut of = Of::default();
            attributes.record(&mut of);
            let span = context.span(id).unwrap();
            if attributes.metadata().name() == "inner" {
                let around = span.parent();
                let right =
                    around.is_some_and(|around| around.extensions().get::<Of>().unwrap().0 == of.0);
                [&WRONG, &RIGHT][usize::from(right)].fetch_add(1, Relaxed);
            }
            span.extensions_mut().insert(of);
        }
    }

    /// All are in their spans at the same time.
    pub(crate) fn open(count: usize) {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| crore_tracing::registry().with(Compares).init());
        [&RIGHT, &WRONG]
            .iter()
            .for_each(|one| one.store(0, Relaxed));
        let runtime = crore::Runtime::builder().watchdog(None).build().unwrap();
        let begun = Instant::now();
        let ran = runtime.run(|| {
            let before = HEAP.load(Relaxed);
            let in_spans = |who: u64| {
                let _outer = info_span!("outer", who).entered();
                crore::park();
                drop(info_span!("inner", who).entered());
            };
            let all: Vec<_> = (0..count as u64)
                .map(|who| crore::spawn(move || in_spans(who)))
                .collect();
            crore::yield_now();
            let bytes = HEAP.load(Relaxed) - before;
            all.iter().for_each(|one| one.coroutine().unpark());
            all.into_iter().for_each(|one| one.join().unwrap());
            bytes / count
        });
        println!(
            "{count} coroutines in spans: {} parents right, {} wrong, {} bytes of heap for each, \
             {:.2?} in all",
            RIGHT.load(Relaxed),
            WRONG.load(Relaxed),
            ran.unwrap(),
            begun.elapsed()
        );
    }
}
