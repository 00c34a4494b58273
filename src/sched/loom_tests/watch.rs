//! Models of the watchdog's doze: it does not sleep on while a worker is awake.
//!
//! All run complete, without a bound on preemptions. As in the models of mailboxes, its
//! sleep lets the others end, and then it must have been woken. `tests/mutants` breaks the
//! code itself.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::{self, JoinHandle};

use crate::sched::counters::Counters;
use crate::sched::watch::{Doze, Watched};

/// A worker that runs, and the token that ends the watchdog's sleep.
struct Bed {
    doze: Doze,
    worker: Watched,
    woken: Arc<AtomicBool>,
}

fn bed() -> Arc<Bed> {
    let woken = Arc::new(AtomicBool::new(false));
    let (doze, token) = (Doze::default(), Arc::clone(&woken));
    // An exchange: loom may order a store before one that did not see it.
    doze.begin_watch(move || _ = token.swap(true, Ordering::Release));
    let worker = Watched::default();
    std::mem::forget(worker.begin(&Counters::default()));
    Arc::new(Bed {
        doze,
        worker,
        woken,
    })
}

impl Bed {
    /// The watchdog dozes, until the worker has ended if nothing wakes it.
    fn dozes(&self, worker: &mut Option<JoinHandle<()>>) {
        let take = || self.woken.swap(false, Ordering::Acquire);
        self.doze.doze([&self.worker], || {
            if !take() {
                worker.take().into_iter().for_each(|it| it.join().unwrap());
                assert!(take(), "overslept");
            }
        });
    }
}

/// The worker sleeps so often and is awake from then on, while the watchdog dozes as often.
fn dozes_against_sleeps(times: usize) {
    loom::model(move || {
        let here = bed();
        let theirs = Arc::clone(&here);
        let mut worker = Some(thread::spawn(move || {
            (0..times).for_each(|_| theirs.worker.asleep(&theirs.doze, || ()));
        }));
        (0..times).for_each(|_| here.dozes(&mut worker));
    });
}

#[test]
fn loom_a_worker_that_wakes_up_ends_the_doze() {
    dozes_against_sleeps(1);
}

/// What the first doze has left behind does not spoil the second.
#[test]
fn loom_a_second_doze_ends_as_well() {
    dozes_against_sleeps(2);
}
