//! Promise: no coroutine suspends inside the runtime's own code. Here every
//! allocation takes a lock of std, which is fought over by workers and plain
//! threads: a coroutine that parked while the runtime has a table borrowed, or
//! an internal lock held, would make the next one panic or spin for ever.
//!
//! In debug builds `CurrentTask::suspend` asserts the same.
#![cfg(feature = "futex")]

#[path = "common/left_over.rs"]
mod left_over;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Locked;

static LOCK: Mutex<()> = Mutex::new(());
static FOUGHT: AtomicUsize = AtomicUsize::new(0);

impl Locked {
    /// Holds the lock for long enough that others meet it.
    fn held<T>(f: impl FnOnce() -> T) -> T {
        let guard = LOCK.try_lock().unwrap_or_else(|_| {
            FOUGHT.fetch_add(1, Ordering::Relaxed);
            LOCK.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        });
        (0..50).for_each(|_| hint::spin_loop());
        let result = f();
        drop(guard);
        result
    }
}

// SAFETY: the system's allocator, under a lock.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        Self::held(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's block.
        Self::held(|| unsafe { System.dealloc(at, layout) })
    }
}

#[global_allocator]
static ALLOCATOR: Locked = Locked;

fn everything_that_allocates(round: u64) {
    let (tx, rx) = crore::sync::channel::unbounded();
    let mutex = Arc::new(crore::sync::Mutex::new(Vec::new()));
    let some: Vec<_> = (0..20)
        .map(|i| {
            let (tx, mutex) = (tx.clone(), mutex.clone());
            crore::spawn(move || {
                mutex.lock().unwrap().push(vec![i; 10]);
                crore::sleep(Duration::from_micros(50 * (i % 3)));
                assert!(!crore::is_cancelled());
                tx.send(vec![i; 100]).unwrap();
                crore::yield_now();
                i
            })
        })
        .collect();
    let one = crore::Builder::new().name(format!("named {round}"));
    let one = one.spawn(|| crore::current().id()).unwrap();
    let sum: u64 = (0..20).map(|_| rx.recv().unwrap()[0]).sum();
    assert_eq!(sum, 190);
    assert_eq!(
        some.into_iter().map(|h| h.join().unwrap()).sum::<u64>(),
        190
    );
    assert_eq!(mutex.lock().unwrap().len(), 20);
    one.join().unwrap();
    locks_of_files();
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let echo = crore::spawn(move || std::io::copy(&mut &there, &mut &there).unwrap());
    std::io::Write::write_all(&mut &here, &[7; 64]).unwrap();
    std::io::Read::read_exact(&mut &here, &mut [0; 64]).unwrap();
    drop(here);
    assert_eq!(echo.join().unwrap(), 64);
}

/// What is noted of a lock that was waited for is not noted where nothing may allocate.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn locks_of_files() {
    unsafe extern "C" {
        fn flockfile(file: *mut libc::FILE);
        fn funlockfile(file: *mut libc::FILE);
    }
    #[derive(Clone, Copy)]
    struct Shared(*mut libc::FILE);
    // SAFETY: libc locks it.
    unsafe impl Send for Shared {}

    // SAFETY: C strings.
    let file = Shared(unsafe { libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()) });
    let others = (0..10).map(|_| {
        crore::spawn(move || {
            let file = { file }.0;
            // SAFETY: an open file.
            unsafe { flockfile(file) };
            crore::yield_now();
            // SAFETY: its lock is held.
            unsafe { funlockfile(file) };
        })
    });
    let others: Vec<_> = others.collect();
    others.into_iter().for_each(|other| other.join().unwrap());
    // SAFETY: nobody uses it any more.
    unsafe { libc::fclose(file.0) };
}

#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
fn locks_of_files() {}

fn hammer(workers: usize) {
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let done = done.clone();
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    drop(hint::black_box(vec![0; 100]));
                }
            })
        })
        .collect();
    let runtime = crore::Runtime::builder().workers(workers).build().unwrap();
    let before = FOUGHT.load(Ordering::Relaxed);
    runtime
        .run(|| {
            let mut round = 0;
            // Until it was fought over often, and at least so many rounds.
            while round < 30 || FOUGHT.load(Ordering::Relaxed) < before + 500 {
                everything_that_allocates(round);
                round += 1;
            }
        })
        .unwrap();
    done.store(true, Ordering::Relaxed);
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn one_worker() {
    hammer(1);
}

#[test]
fn four_workers() {
    hammer(4);
}
