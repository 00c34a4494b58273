//! Models of who runs: a coroutine that holds a lock and runs is not taken for suspended.
//!
//! All run complete, without a bound on preemptions. The lock's note of its holder is
//! libc's, a plain store. `tests/mutants` breaks the code itself.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use crate::sched::own_number::{OwnNumber, runs};

/// Two coroutines of one worker.
const HERE: u32 = 8;
const OTHER: u32 = 9;

/// Whether `number` was found to hold the lock, and then to run.
fn found(number: u32, holder: &AtomicU32, workers: &[OwnNumber; 2]) -> Option<bool> {
    let holds = holder.load(Ordering::Relaxed) == number;
    holds.then(|| runs(number, workers))
}

/// It has run before, and then another did; now it takes the lock, and runs on.
#[test]
fn loom_a_holder_that_runs_is_not_suspended() {
    loom::model(|| {
        let lock = Arc::new((AtomicU32::new(0), [(); 2].map(|()| OwnNumber::default())));
        let theirs = Arc::clone(&lock);
        let worker = thread::spawn(move || {
            let (holder, workers) = &*theirs;
            workers[1].enter(HERE);
            workers[1].leave();
            workers[1].enter(OTHER);
            workers[1].leave();
            workers[1].enter(HERE);
            holder.store(HERE, Ordering::Relaxed);
        });
        let (holder, workers) = &*lock;
        assert_ne!(found(HERE, holder, workers), Some(false), "it runs");
        worker.join().unwrap();
        assert_eq!(found(HERE, holder, workers), Some(true));
        assert!(!runs(OTHER, workers));
    });
}

/// It is suspended and keeps the lock, which another thread learns from what the worker
/// does next.
#[test]
fn loom_a_holder_that_is_suspended_is_found_so() {
    loom::model(|| {
        let lock = Arc::new((AtomicU32::new(0), [(); 2].map(|()| OwnNumber::default())));
        let theirs = Arc::clone(&lock);
        let worker = thread::spawn(move || {
            let (holder, workers) = &*theirs;
            workers[0].enter(HERE);
            holder.store(HERE, Ordering::Relaxed);
            workers[0].leave();
            workers[0].enter(OTHER);
            holder.store(OTHER, Ordering::Relaxed);
        });
        let (holder, workers) = &*lock;
        // Of this one nothing is sure: it is suspended at some time.
        let _ = found(HERE, holder, workers);
        if let Some(runs_now) = found(OTHER, holder, workers) {
            assert!(runs_now, "it runs");
            assert!(!runs(HERE, workers), "it is suspended");
        }
        worker.join().unwrap();
    });
}
