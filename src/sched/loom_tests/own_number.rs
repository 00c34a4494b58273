//! Models of who runs: a coroutine that holds a lock and runs is not taken for suspended.
//!
//! All run complete, without a bound on preemptions. The lock's note of its holder is
//! libc's, a plain store. `tests/mutants` breaks the code itself.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread::{self, JoinHandle};

use crate::sched::own_number::{OwnNumber, runs};

/// Two coroutines of one worker.
const HERE: u32 = 8;
const OTHER: u32 = 9;

/// Two workers, on the second of which another thread does this, and who holds a lock.
struct Bed {
    holder: AtomicU32,
    workers: [OwnNumber; 2],
}

fn beside(does: fn(&AtomicU32, &OwnNumber)) -> (Arc<Bed>, JoinHandle<()>) {
    let bed = Arc::new(Bed {
        holder: AtomicU32::new(0),
        workers: Default::default(),
    });
    let theirs = Arc::clone(&bed);
    let worker = thread::spawn(move || does(&theirs.holder, &theirs.workers[1]));
    (bed, worker)
}

impl Bed {
    /// Whether `number` was found to hold the lock, and then to run.
    fn found(&self, number: u32) -> Option<bool> {
        let holds = self.holder.load(Ordering::Relaxed) == number;
        holds.then(|| runs(number, &self.workers))
    }
}

/// It has run before, and then another did; now it takes the lock, and runs on.
#[test]
fn loom_a_holder_that_runs_is_not_suspended() {
    loom::model(|| {
        let (bed, worker) = beside(|holder, worker| {
            worker.enter(HERE);
            worker.leave();
            worker.enter(OTHER);
            worker.leave();
            worker.enter(HERE);
            holder.store(HERE, Ordering::Relaxed);
        });
        assert_ne!(bed.found(HERE), Some(false), "it runs");
        worker.join().unwrap();
        assert_eq!(bed.found(HERE), Some(true));
        assert!(!runs(OTHER, &bed.workers));
    });
}

/// It is suspended and keeps the lock, which another thread learns from what the worker
/// does next.
#[test]
fn loom_a_holder_that_is_suspended_is_found_so() {
    loom::model(|| {
        let (bed, worker) = beside(|holder, worker| {
            worker.enter(HERE);
            holder.store(HERE, Ordering::Relaxed);
            worker.leave();
            worker.enter(OTHER);
            holder.store(OTHER, Ordering::Relaxed);
        });
        // Of this one nothing is sure: it is suspended at some time.
        let _ = bed.found(HERE);
        if let Some(runs_now) = bed.found(OTHER) {
            assert!(runs_now, "it runs");
            assert!(!runs(HERE, &bed.workers), "it is suspended");
        }
        worker.join().unwrap();
    });
}
