//! A soak: for a given time, four workers spawn, wake, cancel and drop at
//! random; then every count must balance exactly, and memory must have stayed
//! flat. `scripts/soak.sh [SECONDS [SEED]]`

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crore::sync::channel::{Receiver, Sender, bounded, unbounded};
use crore::{CoroutineId, Handle, JoinError, JoinHandle, Runtime};

const WORKERS: usize = 4;
/// Units alive at most.
const CROWD: i64 = 20_000;
/// Units that one round of a spawner makes.
const ROUND: u64 = 64;

/// A small generator; `below` is fair enough for our purpose.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

#[derive(Default)]
struct Counts {
    /// Units made; each then ends in exactly one of the three ways below.
    made: AtomicU64,
    unstarted: AtomicU64,
    returned: AtomicU64,
    unwound: AtomicU64,
    alive: AtomicI64,
    /// Joins begun, and what came of them.
    joins: AtomicU64,
    joined: [AtomicU64; 3],
    /// Messages made, and dropped, by whomever.
    messages: AtomicU64,
    messages_dropped: AtomicU64,
    /// Coroutine locals begun and ended.
    locals: AtomicU64,
    locals_dropped: AtomicU64,
    cancels: AtomicU64,
    unparks: AtomicU64,
}

/// What all share.
struct World {
    counts: Counts,
    stop: AtomicBool,
    handle: Handle,
    /// Those who park, to be unparked.
    parked: Sender<CoroutineId>,
    /// Those who wait for a waker to be called by another thread.
    waiting: Sender<(Arc<AtomicBool>, Waker)>,
    /// To be joined by a plain thread.
    left: Sender<JoinHandle<u64>>,
    to: Sender<Message>,
    from: Receiver<Message>,
}

struct Message(Arc<World>);

impl Message {
    fn new(world: &Arc<World>) -> Self {
        world.counts.messages.fetch_add(1, Relaxed);
        Self(Arc::clone(world))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.0.counts.messages_dropped.fetch_add(1, Relaxed);
    }
}

/// One spawned thing, from its making to its end.
struct Unit {
    world: Arc<World>,
    started: bool,
    returned: bool,
}

impl Unit {
    fn new(world: &Arc<World>) -> Self {
        world.counts.made.fetch_add(1, Relaxed);
        world.counts.alive.fetch_add(1, Relaxed);
        Self {
            world: Arc::clone(world),
            started: false,
            returned: false,
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let counts = &self.world.counts;
        let end = match (self.started, self.returned) {
            (false, _) => &counts.unstarted,
            (true, false) => &counts.unwound,
            (true, true) => &counts.returned,
        };
        end.fetch_add(1, Relaxed);
        counts.alive.fetch_sub(1, Relaxed);
    }
}

struct Local(Arc<World>);

impl Drop for Local {
    fn drop(&mut self) {
        self.0.counts.locals_dropped.fetch_add(1, Relaxed);
    }
}

crore::coroutine_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

fn use_a_local(world: &Arc<World>) {
    if LOCAL.with_borrow(Option::is_none) {
        world.counts.locals.fetch_add(1, Relaxed);
        LOCAL.set(Some(Local(Arc::clone(world))));
    }
}

/// What a coroutine does.
fn body(mut unit: Unit, seed: u64, depth: u32) -> u64 {
    unit.started = true;
    let world = Arc::clone(&unit.world);
    let mut random = Random::new(seed);
    for _ in 0..random.below(4) {
        match random.below(10) {
            0 => (0..random.below(20)).for_each(|_| crore::yield_now()),
            1 => crore::sleep(Duration::from_micros(random.below(3_000))),
            2 => {
                world.parked.send(crore::current().id()).unwrap();
                crore::park();
            }
            3 => crore::park_timeout(Duration::from_micros(random.below(2_000))),
            4 => {
                let patience = Duration::from_micros(random.below(1_000));
                let _ = world.to.send_timeout(Message::new(&world), patience);
            }
            5 => {
                let patience = Duration::from_micros(random.below(1_000));
                let _ = world.from.recv_timeout(patience);
            }
            6 => {
                let woken = Arc::new(AtomicBool::new(false));
                let mut sent = false;
                crore::block_on(poll_fn(|cx| {
                    if woken.load(Relaxed) {
                        return Poll::Ready(());
                    }
                    if !std::mem::replace(&mut sent, true) {
                        let pair = (Arc::clone(&woken), cx.waker().clone());
                        world.waiting.send(pair).unwrap();
                    }
                    Poll::Pending
                }));
            }
            7 if depth < 2 => {
                let handle = make(&world, random.next(), depth + 1);
                dispose(&world, handle, &mut random, true);
            }
            8 => use_a_local(&world),
            9 if random.below(4) == 0 => std::panic::resume_unwind(Box::new("as planned")),
            _ => {}
        }
    }
    unit.returned = true;
    seed
}

/// What a future does.
async fn future(mut unit: Unit, seed: u64) -> u64 {
    unit.started = true;
    let world = Arc::clone(&unit.world);
    let mut random = Random::new(seed);
    for _ in 0..random.below(4) {
        match random.below(5) {
            0 => {
                let mut left = random.below(20);
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    left = left.saturating_sub(1);
                    if left == 0 {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
            1 => {
                let coroutine = make(&world, random.next(), 2);
                world.counts.joins.fetch_add(1, Relaxed);
                let guard = Unjoined(&world);
                count(&world, &coroutine.await);
                std::mem::forget(guard);
            }
            2 => {
                // Sends, unless a receiver's turn comes late: then gives up.
                let mut sending = world.to.send_async(Message::new(&world));
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    cx.waker().wake_by_ref();
                    let sent = std::pin::Pin::new(&mut sending).poll(cx).is_ready();
                    if sent || polls == 50 {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
            3 => drop(world.from.try_recv()),
            _ if random.below(8) == 0 => std::panic::resume_unwind(Box::new("as planned")),
            _ => {}
        }
    }
    unit.returned = true;
    seed
}

/// Spawns one unit of a random kind from within the runtime.
fn make(world: &Arc<World>, seed: u64, depth: u32) -> JoinHandle<u64> {
    let unit = Unit::new(world);
    match seed >> 60 {
        0..=5 => crore::spawn(move || body(unit, seed, depth)),
        6..=8 => crore::spawn_local(move || body(unit, seed, depth)),
        9..=10 => crore::spawn_future(future(unit, seed)),
        11 => crore::spawn_future_local(future(unit, seed)),
        12 => world.handle.spawn(move || body(unit, seed, depth)),
        // SAFETY: what the body shows to others is on the heap: counters, ids,
        // wakers, handles and messages.
        _ => unsafe { crore::spawn_shared(move || body(unit, seed, depth)) },
    }
}

fn count(world: &World, result: &Result<u64, JoinError>) {
    let index = match result {
        Ok(_) => 0,
        Err(error) if error.is_panic() => 1,
        Err(error) => {
            assert!(error.is_cancelled(), "{error}");
            2
        }
    };
    world.counts.joined[index].fetch_add(1, Relaxed);
}

/// Joins the unit, leaves it, cancels it, or hands it on.
fn dispose(world: &Arc<World>, handle: JoinHandle<u64>, random: &mut Random, may_wait: bool) {
    if random.below(4) == 0 {
        world.counts.cancels.fetch_add(1, Relaxed);
        if random.below(2) == 0 {
            handle.cancel();
        } else {
            handle.coroutine().id().cancel();
        }
    }
    match random.below(3) {
        0 => drop(handle),
        1 if may_wait => {
            world.counts.joins.fetch_add(1, Relaxed);
            // If this one is unwound in the wait, nobody learns the result.
            let guard = Unjoined(world);
            count(world, &handle.join());
            std::mem::forget(guard);
        }
        _ => {
            world.counts.joins.fetch_add(1, Relaxed);
            world.left.send(handle).unwrap();
        }
    }
}

/// Takes a join back whose caller is unwound, or dropped.
struct Unjoined<'a>(&'a World);

impl Drop for Unjoined<'_> {
    fn drop(&mut self) {
        self.0.counts.joins.fetch_sub(1, Relaxed);
    }
}

/// Makes units until it is time to stop.
fn spawner(world: &Arc<World>, seed: u64) {
    let mut random = Random::new(seed);
    while !world.stop.load(Relaxed) {
        if world.counts.alive.load(Relaxed) > CROWD {
            crore::sleep(Duration::from_millis(1));
            continue;
        }
        for _ in 0..ROUND {
            let handle = make(world, random.next(), 0);
            dispose(world, handle, &mut random, false);
        }
        crore::yield_now();
    }
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().unwrap());
    let time = Duration::from_secs(arguments.next().unwrap_or(600));
    let seed = arguments.next().unwrap_or(1);
    // No backtraces or messages of planned panics: they use `resume_unwind`.
    // Few stacks are kept warm: a crowd that a busy machine lets grow once
    // would else be seen in the resident memory from then on.
    let runtime = Runtime::builder().workers(WORKERS).warm_stacks(256);
    let runtime = runtime.build().unwrap();
    let (parked, to_unpark) = unbounded();
    let (waiting, to_wake) = unbounded();
    let (left, to_join) = unbounded();
    let (to, from) = bounded(64);
    let world = Arc::new(World {
        counts: Counts::default(),
        stop: AtomicBool::new(false),
        handle: runtime.handle(),
        parked,
        waiting,
        left,
        to,
        from,
    });

    let (ended, end) = bounded::<()>(0);
    let samples = thread::scope(|scope| {
        // Plain threads that unpark, wake, join, and shoot at old ids.
        scope.spawn({
            let (world, end) = (Arc::clone(&world), end.clone());
            move || {
                let mut random = Random::new(seed + 100);
                let mut old: Vec<CoroutineId> = Vec::new();
                while !end.is_disconnected_or_empty(&to_unpark) {
                    let Ok(id) = to_unpark.recv_timeout(Duration::from_millis(5)) else {
                        continue;
                    };
                    id.unpark();
                    world.counts.unparks.fetch_add(1, Relaxed);
                    match old.len() {
                        1_000 => old[random.below(1_000) as usize] = id,
                        _ => old.push(id),
                    }
                    let shot = old[random.below(old.len() as u64) as usize];
                    match random.below(20) {
                        0 => shot.cancel(),
                        1..=5 => shot.unpark(),
                        _ => {}
                    }
                }
            }
        });
        scope.spawn({
            let end = end.clone();
            move || {
                while !end.is_disconnected_or_empty(&to_wake) {
                    if let Ok((flag, waker)) = to_wake.recv_timeout(Duration::from_millis(5)) {
                        waker.wake_by_ref(); // too early
                        flag.store(true, Relaxed);
                        waker.wake();
                    }
                }
            }
        });
        scope.spawn({
            let (world, end) = (Arc::clone(&world), end.clone());
            move || {
                while !end.is_disconnected_or_empty(&to_join) {
                    if let Ok(handle) = to_join.recv_timeout(Duration::from_millis(5)) {
                        count(&world, &handle.join());
                    }
                }
            }
        });

        let samples = runtime.run(|| soak(&world, time, seed)).unwrap();
        drop(ended);
        samples
    });
    report(&world, &runtime, &samples);
}

/// Whether a helper thread may end: told to, and nothing left to do.
trait Ending {
    fn is_disconnected_or_empty<T>(&self, work: &Receiver<T>) -> bool;
}

impl Ending for Receiver<()> {
    fn is_disconnected_or_empty<T>(&self, work: &Receiver<T>) -> bool {
        let told = matches!(
            self.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        );
        told && work.is_empty()
    }
}

/// The main coroutine: resident KiB, second by second.
fn soak(world: &Arc<World>, time: Duration, seed: u64) -> Vec<u64> {
    let spawners: Vec<_> = (0..WORKERS as u64)
        .map(|i| {
            let world = Arc::clone(world);
            crore::spawn(move || spawner(&world, seed * 10 + i))
        })
        .collect();
    let start = Instant::now();
    let mut samples = Vec::new();
    while start.elapsed() < time {
        crore::sleep(Duration::from_secs(1));
        samples.push(resident_kib());
        if samples.len() % 10 == 0 {
            let made = world.counts.made.load(Relaxed);
            println!(
                "{:>4} s  {made:>12} made  {:>6} alive  {:>7} KiB",
                samples.len(),
                world.counts.alive.load(Relaxed),
                samples.last().unwrap()
            );
        }
    }
    world.stop.store(true, Relaxed);
    spawners.into_iter().for_each(|one| one.join().unwrap());
    // Those that are left end by themselves; a lost wake-up would show here.
    let patience = Instant::now() + Duration::from_secs(60);
    while world.counts.alive.load(Relaxed) > 0 {
        assert!(
            Instant::now() < patience,
            "{} units wait for a wake-up that was lost",
            world.counts.alive.load(Relaxed)
        );
        crore::sleep(Duration::from_millis(5));
    }
    samples
}

fn report(world: &World, runtime: &Runtime, samples: &[u64]) {
    let counts = &world.counts;
    let get = |count: &AtomicU64| count.load(Relaxed);
    let (made, ends) = (
        get(&counts.made),
        [&counts.unstarted, &counts.returned, &counts.unwound].map(get),
    );
    let (joins, joined) = (get(&counts.joins), counts.joined.each_ref().map(get));
    while world.from.try_recv().is_ok() {}
    println!("made {made}: unstarted, returned, unwound {ends:?}");
    println!("joins {joins}: returned, panicked, cancelled {joined:?}");
    println!(
        "messages {}, locals {}, cancels {}, unparks {}",
        get(&counts.messages),
        get(&counts.locals),
        get(&counts.cancels),
        get(&counts.unparks)
    );
    let metrics = runtime.metrics();
    println!("{metrics:?}");
    assert_eq!(ends.iter().sum::<u64>(), made, "every unit ends once");
    assert_eq!(joined.iter().sum::<u64>(), joins, "every join has a result");
    assert_eq!(get(&counts.messages), get(&counts.messages_dropped));
    assert_eq!(get(&counts.locals), get(&counts.locals_dropped));
    assert_eq!(metrics.spawned, metrics.ended);
    assert_eq!(metrics.abandoned, 0);

    // Flat: the last quarter needs no more than the second one did, give or
    // take a tenth.
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let quarter = samples.len() / 4;
    let (early, late) = (
        most(&samples[quarter..2 * quarter]),
        most(&samples[3 * quarter..]),
    );
    println!("resident: {early} KiB at most in the second quarter, {late} KiB in the last");
    assert!(late <= early + early / 10, "memory grows");
    println!("balanced");
}
