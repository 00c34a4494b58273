//! The promise: what a coroutine does is in the spans that it has entered, and in no
//! other's, however many there are.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, info, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, filter_fn};
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

/// What the layer has seen.
static RIGHT: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Spans and events carry the number of their coroutine, as `who`, and how many spans
/// are around them, as `depth`.
#[derive(Default)]
struct Said {
    who: u64,
    depth: u64,
}

impl Visit for Said {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "who" => self.who = value,
            "depth" => self.depth = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

struct Checks;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Checks {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        let span = context.span(id).unwrap();
        let scope = span
            .scope()
            .skip(1)
            .map(|one| one.extensions().get::<Said>().unwrap().who);
        let around: Vec<_> = scope.collect();
        count(&said, &around);
        span.extensions_mut().insert(said);
        OPEN.fetch_add(1, Relaxed);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let scope = context.event_scope(event).into_iter().flatten();
        let scope = scope.map(|one| one.extensions().get::<Said>().unwrap().who);
        count(&said, &scope.collect::<Vec<_>>());
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

fn count(said: &Said, around: &[u64]) {
    let right = around.len() as u64 == said.depth && around.iter().all(|&who| who == said.who);
    [&WRONG, &RIGHT][usize::from(right)].fetch_add(1, Relaxed);
}

/// One test at a time; the layers, once.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static ONCE: Once = Once::new();
    let alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    ONCE.call_once(|| {
        // A filter of a layer's own goes through the registry, too.
        let hidden = filter_fn(|metadata| metadata.name() != "hidden");
        let layers =
            crore_tracing::registry().with(Checks.with_filter(hidden.and(filter_fn(|_| true))));
        layers.init();
    });
    for counter in [&RIGHT, &WRONG] {
        counter.store(0, Relaxed);
    }
    alone
}

/// Checked by each coroutine.
const CHECKS: u64 = 5;

fn in_spans(who: u64, wait: impl Fn()) {
    let _outer = info_span!("outer", who, depth = 0u64).entered();
    let _hidden = info_span!("hidden").entered();
    wait();
    info!(who, depth = 1u64);
    {
        let _inner = info_span!("inner", who, depth = 1u64).entered();
        wait();
        info!(who, depth = 2u64);
    }
    info!(who, depth = 1u64);
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    OwnStack,
    Shared,
    OwnLocals,
    Future,
}

/// All are in their spans at the same time, twice; the heap that they take there.
fn run(kind: Kind, count: u64) -> usize {
    let runtime = crore::Runtime::builder().watchdog(None).build().unwrap();
    let heap = runtime.run(|| {
        let before = HEAP.load(Relaxed);
        let all: Vec<_> = (0..count).map(|who| spawn(kind, who)).collect();
        // Once all are parked in the outer span.
        let waits = || OPEN.load(Relaxed) < count as usize;
        while waits() {
            crore::yield_now();
        }
        let heap = HEAP.load(Relaxed) - before;
        for _ in 0..2 {
            all.iter().for_each(|one| one.coroutine().unpark());
            crore::yield_now();
        }
        all.into_iter().for_each(|one| one.join().unwrap());
        heap
    });
    assert_eq!(WRONG.load(Relaxed), 0, "{kind:?}");
    assert_eq!(RIGHT.load(Relaxed), CHECKS * count, "{kind:?}");
    assert_eq!(OPEN.load(Relaxed), 0, "{kind:?}: all are closed");
    heap.unwrap()
}

fn spawn(kind: Kind, who: u64) -> crore::JoinHandle<()> {
    let body = move || in_spans(who, crore::park);
    let builder = crore::Builder::new().stack_size(64 << 10);
    match kind {
        Kind::OwnStack => crore::spawn(body),
        // SAFETY: spans are on the heap: nothing points into its frames.
        Kind::Shared => unsafe { crore::spawn_shared(body) },
        Kind::OwnLocals => builder.own_thread_locals(true).spawn(body).unwrap(),
        Kind::Future => crore::spawn_future(async move {
            let span = info_span!("outer", who, depth = 0u64);
            for _ in 0..2 {
                // Left while the future waits, as an instrumented one's is.
                let mut polled = false;
                std::future::poll_fn(|context| {
                    let _in = span.enter();
                    info!(who, depth = 1u64);
                    if std::mem::replace(&mut polled, true) {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            }
        }),
    }
}

#[test]
fn a_hundred_thousand_on_stacks_of_their_own() {
    let _alone = alone();
    run(Kind::OwnStack, 100_000);
}

#[test]
fn a_hundred_thousand_on_shared_stacks() {
    let _alone = alone();
    run(Kind::Shared, 100_000);
}

#[test]
fn a_hundred_thousand_futures() {
    let _alone = alone();
    run(Kind::Future, 100_000);
}

/// To the table of spans each is a thread, of which it knows 4 096 at one time.
#[test]
fn three_thousand_with_thread_locals_of_their_own() {
    if crore::local::own_thread_locals().is_err() {
        return; // not here
    }
    let _alone = alone();
    run(Kind::OwnLocals, 3_000);
}

#[test]
fn their_memory_grows_with_their_number() {
    let _alone = alone();
    run(Kind::OwnStack, 10_000); // what is kept for the next ones
    RIGHT.store(0, Relaxed);
    let few = run(Kind::OwnStack, 20_000);
    RIGHT.store(0, Relaxed);
    let many = run(Kind::OwnStack, 80_000);
    // The tables double, so up to twice as much for each.
    assert!(many <= 8 * few, "{few} bytes for 20 000, {many} for 80 000");
}

#[test]
fn a_plain_thread_has_its_own_too() {
    let _alone = alone();
    let threads: Vec<_> = (0..4)
        .map(|who| std::thread::spawn(move || in_spans(who, std::thread::yield_now)))
        .collect();
    threads.into_iter().for_each(|one| one.join().unwrap());
    assert_eq!((WRONG.load(Relaxed), RIGHT.load(Relaxed)), (0, 4 * CHECKS));
}

/// It unwinds out of its spans.
#[test]
fn one_that_is_cancelled_leaves_them() {
    let _alone = alone();
    crore::run(|| {
        let one = crore::spawn(|| in_spans(7, crore::park));
        crore::yield_now();
        assert_eq!(OPEN.load(Relaxed), 1);
        one.cancel();
        assert!(one.join().unwrap_err().is_cancelled());
    })
    .unwrap();
    assert_eq!(OPEN.load(Relaxed), 0);
    assert_eq!(WRONG.load(Relaxed), 0);
}
