//! Scenarios of the mailbox and of the idle protocol: more senders, spawners and workers
//! than the models of `loom_tests.rs` have.
//!
//! A worker here really sleeps: shuttle fails when all threads are blocked.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::task::Poll;

use shuttle::sync::Barrier;
use shuttle::thread;

use super::idle::{self, Awake, Idler, idle};
use super::mailbox::{Mail, Mailbox, Owner};
use super::quiescence::QuiescenceWaiters;
use crate::shim::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::shim::scenario::{check, crowd, join};
use crate::shim::{Arc, Parker};
use shuttle::future::block_on;

/// A message says its number.
impl Mail for u64 {
    const MERGE_AT: usize = 4;

    type Says = u64;

    fn says(&self) -> Option<u64> {
        Some(*self)
    }

    fn can_wait(&self) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Task {
    /// Waits until as many run as there are workers.
    Meets,
    /// For one worker only.
    Pinned(usize),
}

/// The message that ends a worker.
const STOP: u64 = u64::MAX;

/// A worker: production's mailbox and idle protocol, over a thread that sleeps.
struct Seat {
    mailbox: Mailbox<u64, Task>,
    owner: Owner,
    bell: Arc<Parker>,
}

fn seat() -> Seat {
    let mailbox = Mailbox::closed();
    let owner = mailbox.open().expect("nobody else has it");
    let bell = Arc::new(Parker::new());
    let notifier = Arc::clone(&bell);
    mailbox.set_notifier(Some(Box::new(move || notifier.unpark())));
    Seat {
        mailbox,
        owner,
        bell,
    }
}

/// All workers.
struct Office(Vec<Seat>);

impl Office {
    fn of(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| seat()).collect()))
    }

    fn others(&self, number: usize) -> impl Iterator<Item = &Mailbox<u64, Task>> + Clone {
        let others = self.0.iter().enumerate();
        let others = others.filter(move |(other, _)| *other != number);
        others.map(|(_, seat)| &seat.mailbox)
    }

    fn spawn(&self, on: usize, task: Task) {
        let Seat { mailbox, owner, .. } = &self.0[on];
        let pinned = matches!(task, Task::Pinned(_));
        idle::inject(mailbox, *owner, (task, pinned), self.others(on)).expect("open");
    }

    fn stop_all(&self) {
        self.0.iter().for_each(|seat| seat.mailbox.post(STOP));
    }
}

/// One worker's view.
struct Here<'a> {
    office: &'a Office,
    number: usize,
}

impl Here<'_> {
    fn seat(&self) -> &Seat {
        &self.office.0[self.number]
    }

    /// As production's loop: the mail, a task of its own, one of another, sleep.
    fn work(&self, mut run: impl FnMut(Task), mut read: impl FnMut(u64)) {
        let mailbox = &self.seat().mailbox;
        let mut mail = Vec::new();
        loop {
            if mailbox.has_mail() {
                mailbox.read(&mut mail);
                let stops = mail.contains(&STOP);
                mail.drain(..).for_each(&mut read);
                if stops {
                    return;
                }
            }
            let task = if mailbox.has_injected() {
                idle::take_injected(mailbox, self.office.others(self.number))
            } else {
                None
            };
            let others = self.office.others(self.number);
            let task = task.or_else(|| idle::steal(others, false));
            let task = task.or_else(|| match idle(self) {
                Awake::Stole(task) => Some(task),
                Awake::Slept(()) | Awake::Stayed => None,
            });
            if let Some(task) = task {
                run(task);
            }
        }
    }
}

impl Idler for Here<'_> {
    type Message = u64;
    type Task = Task;
    type Slept = ();

    fn mailbox(&self) -> &Mailbox<u64, Task> {
        &self.seat().mailbox
    }

    fn has_room(&self) -> bool {
        true
    }

    fn steal_before_sleep(&self) -> Option<Task> {
        idle::steal_before_sleep(self.office.others(self.number), || false)
    }

    fn looks_out(&self, bids: bool) -> bool {
        self.seat().mailbox.has_news(bids)
    }

    fn sleep(&self) {
        self.seat().bell.park(None);
    }
}

/// Seven send to a worker that sleeps whenever it can: all is read, and what was done
/// before a message that says what another does is seen as well.
#[test]
fn seven_send_to_a_worker_that_sleeps() {
    const SENDERS: usize = 7;
    const TIMES: u64 = 3;
    check(|| {
        let office = Office::of(1);
        let done: Arc<Vec<_>> = Arc::new((0..SENDERS).map(|_| AtomicU64::new(0)).collect());
        let (theirs, does) = (Arc::clone(&office), Arc::clone(&done));
        let senders = crowd(SENDERS, move |number| {
            for n in 1..=TIMES {
                does[number].store(n, Ordering::Relaxed);
                theirs.0[0].mailbox.post(number as u64);
            }
        });
        let worker = Here {
            office: &office,
            number: 0,
        };
        let mut seen = [0; SENDERS];
        worker.work(
            |task| panic!("{task:?} was not spawned"),
            |message| {
                if message == STOP {
                    return;
                }
                let from = message as usize;
                seen[from] = done[from].load(Ordering::Relaxed);
                if seen == [TIMES; SENDERS] {
                    office.stop_all();
                }
            },
        );
        join(senders);
    });
}

/// Three spawn from outside, always on the same worker or on all in turn. The tasks wait
/// for each other, as many as there are workers: none lies about while a worker sleeps.
fn workers_share(workers: usize, spread: bool) {
    const SPAWNERS: usize = 3;
    let office = Office::of(workers);
    let meeting = Arc::new(Barrier::new(workers));
    // Each spawner spawns as many that meet as there are workers, and one pinned.
    let left = Arc::new(AtomicUsize::new(SPAWNERS * (workers + 1)));
    let theirs = Arc::clone(&office);
    let worker = move |number| {
        let here = Here {
            office: &theirs,
            number,
        };
        here.work(
            |task| {
                match task {
                    Task::Meets => drop(meeting.wait()),
                    Task::Pinned(to) => assert_eq!(to, number, "stolen"),
                }
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    theirs.stop_all();
                }
            },
            |_| (),
        );
    };
    let running = crowd(workers, worker);
    let theirs = Arc::clone(&office);
    let spawners = crowd(SPAWNERS, move |number| {
        for n in 0..workers {
            let on = if spread { (number + n) % workers } else { 0 };
            theirs.spawn(on, Task::Meets);
        }
        theirs.spawn(number % workers, Task::Pinned(number % workers));
    });
    join(spawners);
    join(running);
    for Seat { mailbox, owner, .. } in &office.0 {
        assert!(mailbox.close(*owner).is_empty());
    }
}

#[test]
fn three_workers_share_what_is_spawned_on_one() {
    check(|| workers_share(3, false));
}

#[test]
fn four_workers_share_what_is_spawned_on_all() {
    check(|| workers_share(4, true));
}

/// Four spawn, two steal, and the runtime ends: each task runs once, or comes back.
#[test]
fn tasks_against_the_end_of_the_runtime() {
    const SPAWNERS: usize = 4;
    check(|| {
        let office = Office::of(1);
        let theirs = Arc::clone(&office);
        let spawners = crowd(SPAWNERS, move |number| {
            let Seat { mailbox, owner, .. } = &theirs.0[0];
            let spawn = |pinned| mailbox.inject(*owner, Task::Pinned(number), pinned);
            [spawn(false), spawn(true)]
                .into_iter()
                .filter(|spawned| spawned.is_ok())
                .count()
        });
        let theirs = Arc::clone(&office);
        let thieves = crowd(2, move |_| {
            let steals = (0..2).filter_map(|_| theirs.0[0].mailbox.steal_injected(true));
            steals.count()
        });
        let Seat { mailbox, owner, .. } = &office.0[0];
        let mine = usize::from(mailbox.take_injected().is_some());
        let left = mailbox.close(*owner).len();
        let accepted: usize = join(spawners).into_iter().sum();
        let stolen: usize = join(thieves).into_iter().sum();
        assert_eq!(accepted, mine + left + stolen);
        assert!(mailbox.take_injected().is_none());
    });
}

/// Three workers count ends while four wait for all of them, of which one gives up.
#[test]
fn all_that_wait_for_quiescence_see_it() {
    const ENDS: u64 = 6;
    check(|| {
        let shared = StdArc::new((QuiescenceWaiters::new(), AtomicU64::new(0)));
        let theirs = StdArc::clone(&shared);
        let workers = crowd(3, move |_| {
            let (waiters, ended) = &*theirs;
            for _ in 0..2 {
                ended.fetch_add(1, Ordering::Relaxed);
                if waiters.any() {
                    waiters.notify();
                }
            }
        });
        join(crowd(4, move |number| {
            let (waiters, ended) = &*shared;
            let waiter = waiters.register();
            if number == 0 {
                waiter.set_waker(std::task::Waker::noop().clone());
                return thread::yield_now();
            }
            block_on(poll_fn(|cx| {
                waiter.set_waker(cx.waker().clone());
                match ended.load(Ordering::Relaxed) {
                    ENDS => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            }));
        }));
        join(workers);
    });
}
