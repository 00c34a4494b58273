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

/// Workers that run, and the token that ends the watchdog's sleep.
struct Bed {
    doze: Doze,
    workers: Vec<Watched>,
    woken: Arc<AtomicBool>,
}

fn bed(workers: usize) -> Arc<Bed> {
    let woken = Arc::new(AtomicBool::new(false));
    let (doze, token) = (Doze::default(), Arc::clone(&woken));
    // An exchange: loom may order a store before one that did not see it.
    doze.begin_watch(move || _ = token.swap(true, Ordering::Release));
    let workers: Vec<_> = (0..workers).map(|_| Watched::default()).collect();
    let counters = Counters::default();
    for worker in &workers {
        std::mem::forget(worker.begin(&counters));
    }
    let bed = Bed {
        doze,
        workers,
        woken,
    };
    Arc::new(bed)
}

impl Bed {
    /// The worker sleeps so often, and is awake from then on.
    fn worker(here: &Arc<Self>, index: usize, sleeps: usize) -> JoinHandle<()> {
        let here = Arc::clone(here);
        thread::spawn(move || {
            for _ in 0..sleeps {
                here.workers[index].asleep(&here.doze, || ());
            }
        })
    }

    /// The watchdog dozes until the others have ended.
    fn dozes(&self, others: &mut Vec<JoinHandle<()>>) {
        let take = || self.woken.swap(false, Ordering::Acquire);
        self.doze.doze(&self.workers, || {
            if !take() {
                others.drain(..).for_each(|other| other.join().unwrap());
                assert!(take(), "overslept");
            }
        });
    }
}

#[test]
fn loom_a_worker_that_wakes_up_ends_the_doze() {
    loom::model(|| {
        let here = bed(1);
        let mut others = vec![Bed::worker(&here, 0, 1)];
        here.dozes(&mut others);
    });
}

/// What the first doze has left behind does not spoil the second.
#[test]
fn loom_a_second_doze_ends_as_well() {
    loom::model(|| {
        let here = bed(1);
        let mut others = vec![Bed::worker(&here, 0, 2)];
        here.dozes(&mut others);
        here.dozes(&mut others);
    });
}
