//! Models of the mailbox: no worker sleeps on what is for it.
//!
//! All run complete, without a bound on preemptions. What goes to sleep, spawns and
//! steals is production's code (`idle.rs`). No model blocks where a bug would make it
//! block for ever, since loom aborts on a deadlock: a worker that goes to sleep lets the
//! others end, and then it must have been notified.

mod ends;
mod own_number;
mod sightings;
mod watch;

use std::cell::{Cell, RefCell};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::idle::{self, Awake, Idler, idle};
use super::mailbox::{Mail, Mailbox, Owner};
use super::quiescence::QuiescenceWaiters;

/// A message that says its number; 0 says nothing, and is not merged.
impl Mail for u32 {
    const MERGE_AT: usize = 1;

    type Says = u32;

    fn says(&self) -> Option<u32> {
        Some(*self).filter(|&number| number != 0)
    }

    fn can_wait(&self) -> bool {
        true
    }
}

/// A mailbox with a notifier that can be looked at.
struct Bed {
    mailbox: Mailbox<u32, u32>,
    notified: Arc<AtomicBool>,
    owner: Owner,
}

fn bed() -> Arc<Bed> {
    let mailbox = Mailbox::closed();
    let owner = mailbox.open().expect("nobody else has it");
    let notified = Arc::new(AtomicBool::new(false));
    let notifier = Arc::clone(&notified);
    mailbox.set_notifier(Some(Box::new(move || {
        notifier.store(true, Ordering::SeqCst)
    })));
    Arc::new(Bed {
        mailbox,
        notified,
        owner,
    })
}

/// A worker that has nothing to do in its own [`Bed`]; production's loop puts it to
/// sleep. Its sleep lets the others end, and then it must have been notified.
struct Sleeper<'a> {
    bed: &'a Bed,
    others: RefCell<Option<Box<dyn FnOnce() + 'a>>>,
    steal: &'a dyn Fn() -> Option<u32>,
}

impl<'a> Sleeper<'a> {
    fn new(bed: &'a Bed, others: impl FnOnce() + 'a, steal: &'a dyn Fn() -> Option<u32>) -> Self {
        let others = RefCell::new(Some(Box::new(others) as Box<dyn FnOnce()>));
        Self { bed, others, steal }
    }

    fn let_others_end(&self) {
        let others = self.others.take();
        others.into_iter().for_each(|others| others());
    }

    /// What it finds, by a look or by theft.
    fn finds(&self, mut look: impl FnMut() -> Option<u32>) -> u32 {
        loop {
            let found = look().or_else(|| match idle(self) {
                Awake::Stole(task) => Some(task),
                Awake::Slept(()) | Awake::Stayed => None,
            });
            if let Some(found) = found {
                self.let_others_end();
                return found;
            }
        }
    }
}

impl Idler for Sleeper<'_> {
    type Message = u32;
    type Task = u32;
    type Slept = ();

    fn mailbox(&self) -> &Mailbox<u32, u32> {
        &self.bed.mailbox
    }

    fn has_room(&self) -> bool {
        true
    }

    fn steal_before_sleep(&self) -> Option<u32> {
        (self.steal)()
    }

    fn looks_out(&self, _: bool) -> bool {
        false
    }

    fn sleep(&self) {
        assert!(
            self.others.borrow().is_some(),
            "overslept: nobody is left to wake it"
        );
        self.let_others_end();
        assert!(self.bed.notified.load(Ordering::SeqCst), "overslept");
    }
}

impl Bed {
    /// What the worker here finds, while `others` do something for it.
    fn finds(&self, look: impl FnMut() -> Option<u32>, others: impl FnOnce()) -> u32 {
        Sleeper::new(self, others, &|| None).finds(look)
    }

    /// A task that the worker here steals, while `others` do something for it.
    fn steals(&self, steal: impl Fn() -> Option<u32>, others: impl FnOnce()) -> u32 {
        Sleeper::new(self, others, &steal).finds(|| None)
    }

    /// Production's look at the tasks of this one.
    fn stolen_before_sleep(&self) -> Option<u32> {
        idle::steal_before_sleep([&self.mailbox], || false)
    }

    fn spawn(&self, task: u32, idle: &Bed) {
        let others = [&idle.mailbox];
        idle::inject(&self.mailbox, self.owner, (task, false), others).expect("open");
    }

    fn read(&self) -> Vec<u32> {
        let mut mail = Vec::new();
        self.mailbox.read(&mut mail);
        mail
    }
}

#[test]
fn loom_a_message_wakes_the_sleeper() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let poster = thread::spawn(move || there.mailbox.post(1));
        let seen = here.finds(|| here.read().pop(), || poster.join().unwrap());
        assert_eq!(seen, 1);
    });
}

#[test]
fn loom_two_posters_and_one_sleeper() {
    loom::model(|| {
        let here = bed();
        let posters = [1, 2].map(|n| {
            let there = Arc::clone(&here);
            thread::spawn(move || there.mailbox.post(n))
        });
        let mut seen = Vec::new();
        let look = || {
            seen.append(&mut here.read());
            seen.first().copied()
        };
        let others = || {
            posters
                .into_iter()
                .for_each(|poster| poster.join().unwrap())
        };
        here.finds(look, others);
        seen.append(&mut here.read());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

/// One message stands for all that say the same; what was done before the last of them
/// was posted is seen by who reads it.
#[test]
fn loom_merged_messages_lose_no_wake_up() {
    loom::model(|| {
        let here = bed();
        let (there, done) = (Arc::clone(&here), Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&done);
        let poster = thread::spawn(move || {
            for n in 1..=3 {
                done.store(n, Ordering::Relaxed);
                there.mailbox.post(1);
            }
        });
        let mut last = 0;
        let mut look = || {
            let mail = here.read();
            assert!(mail.len() <= 2, "not merged: {mail:?}");
            let any = !mail.is_empty();
            any.then(|| last = seen.load(Ordering::Relaxed))
        };
        let first = look();
        poster.join().unwrap();
        look();
        if first.is_none() {
            assert!(look().is_none(), "all was read");
        }
        assert_eq!(last, 3);
    });
}

/// Messages that say different things are all read, however they are merged.
#[test]
fn loom_what_says_something_else_is_not_merged() {
    loom::model(|| {
        let here = bed();
        let posters = [[1, 2], [2, 0]].map(|numbers| {
            let there = Arc::clone(&here);
            thread::spawn(move || numbers.map(|n| there.mailbox.post(n)))
        });
        let mut seen = here.read();
        for poster in posters {
            poster.join().unwrap();
        }
        seen.append(&mut here.read());
        seen.sort_unstable();
        let twice = seen.iter().filter(|&&n| n == 2).count();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2]);
        assert!(twice <= 2);
    });
}

#[test]
fn loom_an_injected_task_wakes_its_worker() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let spawner = thread::spawn(move || {
            there.mailbox.inject(there.owner, 7, false).expect("open");
        });
        let task = here.finds(|| here.mailbox.take_injected(), || spawner.join().unwrap());
        assert_eq!(task, 7);
    });
}

/// The owner and a thief look for the same task; one of them gets it.
#[test]
fn loom_a_task_is_taken_once() {
    loom::model(|| {
        let here = bed();
        here.mailbox.inject(here.owner, 7, false).expect("open");
        let there = Arc::clone(&here);
        let thief = thread::spawn(move || there.mailbox.steal_injected(false));
        let mine = here.mailbox.take_injected();
        let theirs = thief.join().unwrap();
        assert_eq!(mine.into_iter().chain(theirs).collect::<Vec<_>>(), [7]);
    });
}

/// A worker with nothing to do, and a task spawned on its busy neighbour.
fn thief_and_spawner(steals: impl Fn(&Bed, &Bed, &mut dyn FnMut()) -> u32 + Send + Sync + 'static) {
    loom::model(move || {
        let (busy, idle) = (bed(), bed());
        let (victim, sleeper) = (Arc::clone(&busy), Arc::clone(&idle));
        let mut spawner = Some(thread::spawn(move || victim.spawn(7, &sleeper)));
        let mut others = || spawner.take().expect("once").join().unwrap();
        assert_eq!(steals(&idle, &busy, &mut others), 7);
    });
}

#[test]
fn loom_an_idle_thief_is_nudged() {
    thief_and_spawner(|idle, busy, others| idle.steals(|| busy.stolen_before_sleep(), others));
}

/// The same with the protocol broken: the thief looks for work first and says
/// that it is idle afterwards, so a nudge in between does nothing.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_thief_that_looks_before_it_is_idle() {
    thief_and_spawner(|idle, busy, others| {
        let early = Cell::new(busy.stolen_before_sleep());
        idle.steals(|| early.take(), others)
    });
}

/// Broken otherwise: the thief glances at the flag and leaves the lock alone,
/// so the spawner may not know yet that it is idle.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_thief_that_only_glances() {
    thief_and_spawner(|idle, busy, others| {
        let glance = || busy.mailbox.has_injected();
        idle.steals(
            || glance().then(|| busy.stolen_before_sleep()).flatten(),
            others,
        )
    });
}

/// Two tasks for a worker that sleeps, and a thief with nothing to do. The worker
/// comes, takes one, and computes from then on: the thief gets the other.
fn two_tasks_for_a_sleeper(looks_for_help: bool) {
    loom::model(move || {
        let (sleeper, idle) = (bed(), bed());
        sleeper.mailbox.set_idle();
        assert!(sleeper.mailbox.may_sleep(true));
        let (victim, thief) = (Arc::clone(&sleeper), Arc::clone(&idle));
        let others = thread::spawn(move || {
            [7, 8]
                .into_iter()
                .for_each(|task| victim.spawn(task, &thief));
            victim.mailbox.awake();
            let others = looks_for_help.then_some(&thief.mailbox);
            let taken = idle::take_injected(&victim.mailbox, others);
            taken.expect("the thief takes one")
        });
        let mut taken = 0;
        let steal = || sleeper.stolen_before_sleep();
        let stolen = idle.steals(steal, || taken = others.join().unwrap());
        assert_eq!(taken + stolen, 15);
    });
}

#[test]
fn loom_a_worker_that_comes_looks_for_help() {
    two_tasks_for_a_sleeper(true);
}

/// The thief leaves a waking worker's tasks alone, and nobody tells it of the second.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_worker_that_keeps_tasks_to_itself() {
    two_tasks_for_a_sleeper(false);
}

/// The mailbox with its last look left out: what came between looking and
/// sleeping is slept on.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_sleeper_that_does_not_look_again() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let poster = thread::spawn(move || there.mailbox.post(1));
        let found = here.read().pop();
        let asleep = found.is_none();
        poster.join().unwrap();
        assert!(!asleep || here.notified.load(Ordering::SeqCst), "overslept");
    });
}

/// A task is either refused or among those that closing returns; none is left.
#[test]
fn loom_a_task_against_the_end_of_the_runtime() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let spawner = thread::spawn(move || there.mailbox.inject(there.owner, 7, false).is_ok());
        let left = here.mailbox.close(here.owner).len();
        let accepted = spawner.join().unwrap();
        assert_eq!(left, usize::from(accepted));
        assert!(here.mailbox.take_injected().is_none());
    });
}

/// A thief, the owner's end, and a task: one of the two gets it.
#[test]
fn loom_a_steal_against_the_end_of_the_runtime() {
    loom::model(|| {
        let here = bed();
        here.mailbox.inject(here.owner, 7, false).expect("open");
        let there = Arc::clone(&here);
        let thief =
            thread::spawn(move || usize::from(there.mailbox.steal_injected(false).is_some()));
        let left = here.mailbox.close(here.owner).len();
        assert_eq!(left + thief.join().unwrap(), 1);
    });
}

/// A pinned task comes while its worker ends with the runtime: the worker's last look
/// finds it, or else the spawner's next one does.
fn pinned_against_the_end(spawn: fn(&Bed, &dyn Fn() -> bool) -> Option<u32>) {
    loom::model(move || {
        let (here, stopping) = (bed(), Arc::new(AtomicBool::new(false)));
        let (theirs, asked) = (Arc::clone(&here), Arc::clone(&stopping));
        let stop = thread::spawn(move || asked.store(true, Ordering::Relaxed));
        let asked = Arc::clone(&stopping);
        let worker = thread::spawn(move || {
            let ends = asked.load(Ordering::Relaxed);
            ends && theirs.mailbox.take_injected().is_none()
        });
        let stolen = spawn(&here, &|| stopping.load(Ordering::Relaxed));
        stop.join().unwrap();
        let ended_without = worker.join().unwrap();
        assert!(!ended_without || stolen.is_some(), "forgotten");
    });
}

fn inject_pinned(here: &Bed) {
    idle::inject(&here.mailbox, here.owner, (7, true), []).expect("open");
}

#[test]
fn loom_a_pinned_task_against_the_end_of_its_worker() {
    pinned_against_the_end(|here, is_stopping| {
        inject_pinned(here);
        idle::steal_before_sleep([&here.mailbox], is_stopping)
    });
}

#[test]
#[should_panic(expected = "forgotten")]
fn loom_catches_a_spawner_that_asks_about_the_end_too_early() {
    pinned_against_the_end(|here, is_stopping| {
        let stopping = is_stopping();
        inject_pinned(here);
        idle::steal_before_sleep([&here.mailbox], || stopping)
    });
}

/// A late spawn of an old runtime never lands in the next owner's mailbox.
#[test]
fn loom_a_late_task_is_not_another_runtimes() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let late = thread::spawn(move || there.mailbox.inject(there.owner, 7, false).is_ok());
        let returned = here.mailbox.close(here.owner).len();
        let next = here.mailbox.open().expect("nobody has it");
        let accepted = late.join().unwrap();
        assert_eq!(returned, usize::from(accepted));
        assert!(here.mailbox.close(next).is_empty());
    });
}

/// A real coroutine parks on a real stack while another thread wakes it: the
/// wake-up lies in the mailbox until the worker reads it on its own stack,
/// after the switch (I1).
#[test]
fn loom_a_switch_against_a_wake() {
    use std::cell::Cell;
    use std::num::NonZeroUsize;
    use std::ptr::{self, NonNull};

    use crate::stack::StackBounds;
    use crate::switch::{Carrier, EntryPoint, SwitchReason, YielderPtr, suspend};
    use crate::sys::mem::Reserve;

    /// Parks until the flag is set.
    #[repr(C)]
    struct Waiter {
        entry: EntryPoint,
        flag: Arc<AtomicBool>,
        yielder: Cell<YielderPtr>,
    }

    unsafe fn wait(entry: NonNull<EntryPoint>) {
        // SAFETY: the entry point is the head of the model's `Waiter`, which lives on.
        let waiter = unsafe { entry.cast::<Waiter>().as_ref() };
        while !waiter.flag.load(Ordering::Acquire) {
            // SAFETY: the model stored the yielder of the running carrier.
            unsafe { suspend(waiter.yielder.get(), SwitchReason::Parked) };
        }
    }

    loom::model(|| {
        let reserve = Reserve::new(256 * 1024).unwrap();
        let low = reserve.base().expose_provenance();
        let bounds = StackBounds {
            base: NonZeroUsize::new(low + reserve.len()).unwrap(),
            limit: NonZeroUsize::new(low).unwrap(),
        };
        let here = bed();
        let (there, flag) = (Arc::clone(&here), Arc::new(AtomicBool::new(false)));
        let theirs = Arc::clone(&flag);
        let waker = thread::spawn(move || {
            theirs.store(true, Ordering::Release);
            there.mailbox.post(1);
        });
        // SAFETY: the stack is the model's, used by this thread of it.
        let carrier = unsafe { Carrier::install(bounds) };
        // SAFETY: installed a line ago.
        let yielder = Cell::new(unsafe { Carrier::yielder(carrier) });
        let waiter = Waiter {
            entry: EntryPoint { run: wait },
            flag,
            yielder,
        };
        // SAFETY: the carrier is idle; the entry point outlives its run.
        let first = unsafe { Carrier::resume(carrier, &raw const waiter.entry) };
        let look = || here.read().pop();
        here.finds(look, || waker.join().unwrap());
        if first == SwitchReason::Parked {
            // SAFETY: the entry point is suspended there.
            let second = unsafe { Carrier::resume(carrier, ptr::null()) };
            assert_eq!(second, SwitchReason::Finished, "woken too early");
        }
    });
}

/// A worker counts an end and notifies; a waiter registers, then looks. It must
/// see the end or be woken.
fn waiter_and_end(
    wait: impl Fn(&QuiescenceWaiters, std::task::Waker, &AtomicU64) -> u64 + Send + Sync + 'static,
) {
    loom::model(move || {
        let shared = Arc::new((QuiescenceWaiters::new(), AtomicU64::new(0)));
        let worker = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            let (waiters, ended) = &*worker;
            ended.store(1, Ordering::Relaxed);
            if waiters.any() {
                waiters.notify();
            }
        });
        let woken = std::sync::Arc::new(Woken::default());
        let seen = wait(&shared.0, std::sync::Arc::clone(&woken).into(), &shared.1);
        worker.join().unwrap();
        assert!(
            seen == 1 || woken.0.load(std::sync::atomic::Ordering::Relaxed),
            "overslept"
        );
    });
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn loom_an_end_is_seen_or_notified() {
    waiter_and_end(|waiters, waker, ended| {
        let waiter = std::mem::ManuallyDrop::new(waiters.register());
        waiter.set_waker(waker);
        ended.load(Ordering::Relaxed)
    });
}

#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_waiter_that_looks_first() {
    waiter_and_end(|waiters, waker, ended| {
        let seen = ended.load(Ordering::Relaxed);
        let waiter = std::mem::ManuallyDrop::new(waiters.register());
        waiter.set_waker(waker);
        seen
    });
}
