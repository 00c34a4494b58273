//! Models of sightings: a handler leaves what its thread does, others take it, and look at
//! a stack that lies still meanwhile, or learn that it did not.
//!
//! All run complete, without a bound on preemptions, but that of two askers. Loom's cells
//! tell of two that touch at one time what is seen, or what lies still. `tests/mutants`
//! breaks the code itself.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::sched::sighting::{BEING_MADE, Seen, Sighting};
use crate::shim::atomic::AtomicU32;

/// A thread with a place for what it is seen doing, and two words of its stack, which are
/// 0 until it goes on.
struct Bed {
    sighting: Sighting,
    signals: AtomicUsize,
    stack: [AtomicUsize; 2],
    /// What else there is of it, if it is held until it has been looked at.
    still: Option<UnsafeCell<()>>,
}

/// Says whether to wait on.
type Waits = fn(&AtomicU32, u32) -> bool;

fn patient(_: &AtomicU32, _: u32) -> bool {
    thread::yield_now();
    true
}

/// Waits only for what must come.
fn impatient(_: &AtomicU32, now: u32) -> bool {
    if now == BEING_MADE {
        thread::yield_now();
    }
    false
}

impl Bed {
    fn new(lies_still: bool) -> Arc<Self> {
        Arc::new(Self {
            sighting: Sighting::default(),
            signals: AtomicUsize::new(0),
            stack: [0; 2].map(AtomicUsize::new),
            still: lies_still.then(|| UnsafeCell::new(())),
        })
    }

    /// The thread: its handler runs whenever a signal has come, then it goes on.
    fn thread(here: &Arc<Self>, signals: usize, hold: Option<Waits>) -> thread::JoinHandle<()> {
        let here = Arc::clone(here);
        thread::spawn(move || {
            for signal in 1..=signals {
                while here.signals.load(Ordering::Relaxed) < signal {
                    thread::yield_now();
                }
                here.sighting.make(hold, |seen| seen.switches = [7, 8]);
                here.still.iter().for_each(|still| still.with_mut(|_| ()));
                for word in &here.stack {
                    word.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    }

    /// What another thread sees: the words of the stack, if they are to be believed.
    fn ask(&self, wait: Waits) -> Option<Vec<usize>> {
        let send = || {
            self.signals.fetch_add(1, Ordering::Relaxed);
            true
        };
        let look = |seen: &mut Seen| {
            self.still.iter().for_each(|still| still.with(|_| ()));
            for word in &self.stack {
                seen.add_frame(word.load(Ordering::Relaxed));
            }
        };
        let seen = self.sighting.ask(0, send, wait, look)?;
        assert_eq!(seen.switches, [7, 8], "not what was made");
        (seen.frames().len() == 2).then(|| seen.frames().to_vec())
    }
}

#[test]
fn loom_a_held_thread_lies_still() {
    loom::model(|| {
        let bed = Bed::new(true);
        let thread = Bed::thread(&bed, 1, Some(patient));
        assert_eq!(bed.ask(patient).unwrap(), [0, 0], "it went on");
        thread.join().unwrap();
    });
}

/// The thread does not wait for long: what was seen until then is not believed.
#[test]
fn loom_a_thread_that_goes_on_is_not_believed() {
    loom::model(|| {
        let bed = Bed::new(false);
        let thread = Bed::thread(&bed, 1, Some(impatient));
        let seen = bed.ask(patient);
        assert!(seen.is_none_or(|words| words == [0, 0]), "it went on");
        thread.join().unwrap();
    });
}

/// It may not wait, and nobody looks.
#[test]
fn loom_a_thread_that_is_not_held_is_not_looked_at() {
    loom::model(|| {
        let bed = Bed::new(false);
        let thread = Bed::thread(&bed, 1, None);
        assert!(bed.ask(patient).is_none());
        thread.join().unwrap();
    });
}

/// The asker gives up while the handler comes; the next one asks anew.
#[test]
fn loom_an_asker_gives_up_against_the_answer() {
    loom::model(|| {
        let bed = Bed::new(false);
        let thread = Bed::thread(&bed, 2, None);
        bed.ask(impatient);
        bed.ask(patient);
        thread.join().unwrap();
    });
}

/// Two ask one thread, one after the other.
#[test]
fn loom_two_askers_take_turns() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let bed = Bed::new(false);
        let thread = Bed::thread(&bed, 2, None);
        let theirs = Arc::clone(&bed);
        let other = thread::spawn(move || theirs.ask(patient));
        assert!(bed.ask(patient).is_none());
        other.join().unwrap();
        thread.join().unwrap();
    });
}
