//! Many coroutines at once: on one kernel thread, on several, on shared
//! stacks; and the checks of what they brought back.

use std::fmt::Debug;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, io};

/// What one request of the crowds waits for.
pub const MOMENT: Duration = Duration::from_millis(100);

/// Twice the default: `ureq` and `postgres` want it when they are built
/// without optimisation, nothing else here does.
pub const STACK: usize = 128 * 1024;

/// Runs `f` in a coroutine on this thread, with enough descriptors for a crowd.
///
/// # Panics
///
/// If the hooks are not active: then every test would only wait in line.
pub fn on_one_thread<T>(f: impl FnOnce() -> T) -> T {
    on_threads(1, f)
}

/// As [`on_one_thread`], with several kernel threads.
///
/// With `CRORE_CLIENTS_OWN=1` in the environment it is [`like_threads`], and so
/// the tests that need no thread-locals of their own run with them.
///
/// # Panics
///
/// If the hooks are not active.
pub fn on_threads<T>(workers: usize, f: impl FnOnce() -> T) -> T {
    run(workers, is_own(), f)
}

fn is_own() -> bool {
    env::var_os("CRORE_CLIENTS_OWN").is_some()
}

/// As [`on_threads`], and coroutines have thread-locals of their own, but for
/// the one that runs `f` and those of [`crore::spawn_local`].
///
/// # Panics
///
/// If the hooks are not active, or there can be no such thread-locals here.
pub fn like_threads<T>(workers: usize, f: impl FnOnce() -> T) -> T {
    run(workers, true, f)
}

fn run<T>(workers: usize, own: bool, f: impl FnOnce() -> T) -> T {
    assert_eq!(crore::hook::status(), crore::hook::Status::Active);
    rlimit::increase_nofile_limit(u64::MAX).expect("raise the limit of descriptors");
    let runtime = crore::Runtime::builder()
        .workers(workers)
        .own_thread_locals(own)
        .build();
    let result = runtime.and_then(|runtime| runtime.run(f));
    result.expect("the runtime starts")
}

/// Runs `one(0)`, `one(1)` … `one(n - 1)`, each in a coroutine of its own on
/// this thread, the only one, and returns what each returned and how long all
/// took together.
///
/// # Panics
///
/// If one of them does, or ran elsewhere.
pub fn crowd<T: Send + 'static>(
    n: usize,
    one: impl Fn(usize) -> T + Send + Sync + 'static,
) -> (Vec<T>, Duration) {
    let (one, spawner) = (Arc::new(one), thread::current().id());
    gather(n, |i| {
        let one = Arc::clone(&one);
        let as_wanted = move |i| {
            assert_eq!(thread::current().id() != spawner, is_own());
            one(i)
        };
        let job = on_this_thread(as_wanted, i);
        if is_own() {
            builder(i).spawn(job)
        } else {
            builder(i).spawn_local(job)
        }
    })
}

/// As [`crowd`], on shared stacks.
///
/// # Panics
///
/// If one of them does, or ran elsewhere.
///
/// # Safety
///
/// - The contract of [`crore::spawn_shared`] holds for `one`: while it waits,
///   nobody else uses a pointer to its local variables.
pub unsafe fn shared_crowd<T: 'static>(
    n: usize,
    one: impl Fn(usize) -> T + 'static,
) -> (Vec<T>, Duration) {
    let one = Rc::new(one);
    gather(n, |i| {
        let one = Rc::clone(&one);
        let job = on_this_thread(move |i| one(i), i);
        // SAFETY: the caller's promise for `one`; the job around it hands out
        // no pointers.
        unsafe { builder(i).spawn_shared(job) }
    })
}

/// As [`crowd`], on whichever of the runtime's threads has nothing to do.
///
/// # Panics
///
/// If one of them does.
pub fn spread_crowd<T: Send + 'static>(
    n: usize,
    one: impl Fn(usize) -> T + Send + Sync + 'static,
) -> (Vec<T>, Duration) {
    let one = Arc::new(one);
    gather(n, |i| {
        let one = Arc::clone(&one);
        builder(i).spawn(move || one(i))
    })
}

fn builder(i: usize) -> crore::Builder {
    crore::Builder::new()
        .name(format!("client {i}"))
        .stack_size(STACK)
}

fn on_this_thread<T>(one: impl Fn(usize) -> T, i: usize) -> impl FnOnce() -> T {
    let here = kernel_thread();
    move || {
        let result = one(i);
        assert_eq!(kernel_thread(), here, "moved to another thread");
        result
    }
}

/// The kernel's name for the thread that asks: std's may be the coroutine's.
///
/// # Panics
///
/// If there is no `/proc`.
pub fn kernel_thread() -> PathBuf {
    fs::read_link("/proc/thread-self").expect("the thread that asks")
}

fn gather<T>(
    n: usize,
    spawn: impl Fn(usize) -> io::Result<crore::JoinHandle<T>>,
) -> (Vec<T>, Duration) {
    let start = Instant::now();
    let all: Vec<_> = (0..n).map(spawn).collect();
    let join = |(i, handle): (usize, io::Result<crore::JoinHandle<T>>)| {
        let result = handle.expect("room for a coroutine").join();
        result.unwrap_or_else(|error| panic!("client {i}: {error}"))
    };
    let results = all.into_iter().enumerate().map(join).collect();
    (results, start.elapsed())
}

/// Fails unless `n` waits of a [`MOMENT`] overlapped: half the time that one
/// after the other needs is much more than a loaded machine does. What must
/// not depend on time at all is tested by counting.
#[track_caller]
pub fn overlapped(what: &str, n: usize, took: Duration) {
    overlapped_by(what, n, MOMENT, took);
}

/// As [`overlapped`], for waits of another length.
#[track_caller]
pub fn overlapped_by(what: &str, n: usize, wait: Duration, took: Duration) {
    let serial = wait * u32::try_from(n).expect("a crowd of sane size");
    println!("{what}: {n} waits of {wait:?} took {took:?}");
    assert!(took < serial / 2, "{took:?}, one by one is {serial:?}");
}

/// Fails unless `results` are what `expected` says of each place.
#[track_caller]
pub fn each<T: Debug + PartialEq>(results: &[T], expected: impl Fn(usize) -> T) {
    for (i, result) in results.iter().enumerate() {
        assert_eq!(*result, expected(i), "answer {i}");
    }
}
