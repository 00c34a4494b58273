//! Models of the mailbox: no worker sleeps on what is for it.
//!
//! All run complete, without a bound on preemptions. No model blocks where a
//! bug would make it block for ever, since loom aborts on a deadlock: a worker
//! that goes to sleep lets the others end, and then it must have been notified.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::mailbox::{Mailbox, Owner};
use super::quiescence::QuiescenceWaiters;

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

impl Bed {
    /// One round of a worker that has nothing to do: what it found, or else it
    /// slept, and was woken by what `others` did, and found it then.
    fn idle_round<T>(&self, mut look: impl FnMut() -> Option<T>, others: impl FnOnce()) -> T {
        self.mailbox.set_idle();
        let found = look();
        let asleep = found.is_none() && self.mailbox.may_sleep(true);
        others();
        assert!(!asleep || self.notified.load(Ordering::SeqCst), "overslept");
        self.mailbox.awake();
        found
            .or_else(look)
            .expect("it was woken, or kept awake, for something")
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
        let seen = here.idle_round(|| here.read().pop(), || poster.join().unwrap());
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
            (!seen.is_empty()).then_some(())
        };
        let others = || {
            posters
                .into_iter()
                .for_each(|poster| poster.join().unwrap())
        };
        here.idle_round(look, others);
        seen.append(&mut here.read());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn loom_an_injected_task_wakes_its_worker() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let spawner = thread::spawn(move || there.mailbox.inject(there.owner, 7).expect("open"));
        let task = here.idle_round(|| here.mailbox.take_injected(), || spawner.join().unwrap());
        assert_eq!(task, 7);
    });
}

/// The owner and a thief look for the same task; one of them gets it.
#[test]
fn loom_a_task_is_taken_once() {
    loom::model(|| {
        let here = bed();
        here.mailbox.inject(here.owner, 7).expect("open");
        let there = Arc::clone(&here);
        let thief = thread::spawn(move || there.mailbox.take_injected());
        let mine = here.mailbox.take_injected();
        let theirs = thief.join().unwrap();
        assert_eq!(mine.into_iter().chain(theirs).collect::<Vec<_>>(), [7]);
    });
}

/// A worker with nothing to do, and a task injected on its busy neighbour.
fn thief_and_spawner(round: impl Fn(&Bed, &Bed, &mut dyn FnMut()) -> u32 + Send + Sync + 'static) {
    loom::model(move || {
        let (busy, idle) = (bed(), bed());
        let (victim, sleeper) = (Arc::clone(&busy), Arc::clone(&idle));
        let mut spawner = Some(thread::spawn(move || {
            victim.mailbox.inject(victim.owner, 7).expect("open");
            let _ = sleeper.mailbox.nudge();
        }));
        let mut others = || spawner.take().expect("once").join().unwrap();
        assert_eq!(round(&idle, &busy, &mut others), 7);
    });
}

#[test]
fn loom_an_idle_thief_is_nudged() {
    thief_and_spawner(|idle, busy, others| {
        idle.idle_round(|| busy.mailbox.take_injected(), others)
    });
}

/// The same with the protocol broken: the thief looks for work first and says
/// that it is idle afterwards, so a nudge in between does nothing.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_thief_that_looks_before_it_is_idle() {
    thief_and_spawner(|idle, busy, others| {
        let found = busy.mailbox.take_injected();
        idle.mailbox.set_idle();
        let asleep = found.is_none() && idle.mailbox.may_sleep(true);
        others();
        assert!(!asleep || idle.notified.load(Ordering::SeqCst), "overslept");
        found
            .or_else(|| busy.mailbox.take_injected())
            .expect("there")
    });
}

/// Broken otherwise: the thief glances at the flag and leaves the lock alone,
/// so the spawner may not know yet that it is idle.
#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_thief_that_only_glances() {
    thief_and_spawner(|idle, busy, others| {
        let look = || {
            busy.mailbox
                .has_injected()
                .then(|| busy.mailbox.take_injected())
        };
        idle.idle_round(|| look().flatten(), others)
    });
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
        let spawner = thread::spawn(move || there.mailbox.inject(there.owner, 7).is_ok());
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
        here.mailbox.inject(here.owner, 7).expect("open");
        let there = Arc::clone(&here);
        let thief = thread::spawn(move || usize::from(there.mailbox.take_injected().is_some()));
        let left = here.mailbox.close(here.owner).len();
        assert_eq!(left + thief.join().unwrap(), 1);
    });
}

/// A late spawn of an old runtime never lands in the next owner's mailbox.
#[test]
fn loom_a_late_task_is_not_another_runtimes() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let late = thread::spawn(move || there.mailbox.inject(there.owner, 7).is_ok());
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
        here.idle_round(look, || waker.join().unwrap());
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
