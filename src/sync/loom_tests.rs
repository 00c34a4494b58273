//! loom models of every primitive, and of broken ones that must be caught.
//!
//! All run complete, without a bound on preemptions, except those made with
//! [`bounded`]. No model blocks where a bug would make it block for ever: loom
//! aborts on a deadlock. Whoever may have to wait polls by hand, and it is
//! asserted that it was woken once the others are through.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake};

use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use super::waiters::{WaiterKey, Waiters, WakeList};
use super::{Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore};
use crate::block_on::{block_on, block_on_deadline};
use crate::shim::Lock;

mod channels;
mod news;
mod tokens;

/// At most three preemptions: for models that do not end within minutes.
fn bounded(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Remembers that it was woken.
struct Flag(AtomicBool);

impl Flag {
    fn new() -> StdArc<Self> {
        StdArc::new(Self(AtomicBool::new(false)))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, flag: &StdArc<Flag>) -> Poll<F::Output> {
    let waker = flag.clone().into();
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Polls once now and, if that has to wait, once after `others` are through,
/// when it must have been woken.
fn finish<F: Future + Unpin>(mut future: F, others: impl FnOnce()) -> F::Output {
    let flag = Flag::new();
    let first = poll(&mut future, &flag);
    others();
    match first {
        Poll::Ready(output) => output,
        Poll::Pending => {
            assert!(flag.is_set(), "lost wake-up");
            let Poll::Ready(output) = poll(&mut future, &flag) else {
                panic!("woken for nothing")
            };
            output
        }
    }
}

fn join(handle: thread::JoinHandle<()>) -> impl FnOnce() {
    move || handle.join().unwrap()
}

// ---- the wait queue ----

/// The smallest primitive: a gate that opens once. With `RECHECK` off it looks
/// before it takes the lock, and queues without another look.
struct Gate<const RECHECK: bool> {
    open: AtomicBool,
    waiters: Lock<Waiters<()>>,
}

impl<const RECHECK: bool> Gate<RECHECK> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            open: AtomicBool::new(false),
            waiters: Lock::new(Waiters::new()),
        })
    }

    fn open(&self) {
        let mut wakes = WakeList::new();
        let mut waiters = self.waiters.lock();
        self.open.store(true, Ordering::Release);
        while waiters.take_first(&mut wakes).is_some() {}
        drop(waiters);
    }
}

struct Pass<const RECHECK: bool>(Arc<Gate<RECHECK>>, Option<WaiterKey>);

impl<const RECHECK: bool> Future for Pass<RECHECK> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gate = self.0.clone();
        if gate.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiters = gate.waiters.lock();
        if RECHECK && gate.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.1 = Some(waiters.enqueue((), Some(cx.waker().clone())));
        Poll::Pending
    }
}

fn gate<const RECHECK: bool>() {
    loom::model(|| {
        let gate = Gate::<RECHECK>::new();
        let theirs = gate.clone();
        let opener = thread::spawn(move || theirs.open());
        finish(Pass(gate, None), join(opener));
    });
}

#[test]
fn queue_loses_no_wake() {
    gate::<true>();
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn queue_without_second_look_is_caught() {
    gate::<false>();
}

// ---- mutex ----

#[test]
fn mutex_excludes_and_wakes() {
    loom::model(|| {
        let mutex = Arc::new(Mutex::new(Cell::new(0)));
        let theirs = mutex.clone();
        let other = thread::spawn(move || {
            let n = block_on(theirs.lock_async()).unwrap();
            n.set(n.get() + 1);
        });
        {
            let n = mutex.lock().unwrap();
            n.set(n.get() + 1);
        }
        other.join().unwrap();
        assert_eq!(mutex.lock().unwrap().get(), 2);
    });
}

#[test]
fn mutex_among_three() {
    bounded(|| {
        let mutex = Arc::new(Mutex::new(Cell::new(0)));
        let others = [(); 2].map(|()| {
            let mutex = mutex.clone();
            thread::spawn(move || {
                let n = mutex.lock().unwrap();
                n.set(n.get() + 1);
            })
        });
        let theirs = mutex.clone();
        drop(theirs.lock().map(|n| n.set(n.get() + 1)));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(mutex.lock().unwrap().get(), 3);
    });
}

/// A waiter gives up while the lock is let go; the one behind it must get it.
fn mutex_drop(give_up: fn(super::LockFuture<'_, ()>)) {
    loom::model(move || {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let mut first = mutex.lock_async();
        assert!(poll(&mut first, &Flag::new()).is_pending());
        let second = finish(mutex.lock_async(), || {
            let theirs = mutex.clone();
            let other = thread::spawn(move || {
                // Overtakes, if it can.
                drop(theirs.try_lock());
            });
            drop(guard);
            give_up(first);
            other.join().unwrap();
        });
        drop(second.unwrap());
    });
}

#[test]
fn mutex_passes_on_what_a_dropped_waiter_had() {
    mutex_drop(|future| drop(future));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn mutex_waiter_that_passes_nothing_on_is_caught() {
    mutex_drop(|future| std::mem::forget(future));
}

#[test]
fn mutex_timed_lock_races_unlock() {
    loom::model(|| {
        let mutex = Arc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let theirs = mutex.clone();
        let timed = thread::spawn(move || {
            let deadline = Some(std::time::Instant::now());
            drop(block_on_deadline(theirs.lock_async(), deadline));
        });
        drop(guard);
        timed.join().unwrap();
        assert!(mutex.try_lock().is_ok(), "nobody holds it any more");
    });
}

// ---- condvar ----

#[test]
fn condvar_loses_no_notification() {
    loom::model(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            *theirs.0.lock().unwrap() = true;
            theirs.1.notify_one();
        });
        let mut ready = shared.0.lock().unwrap();
        while !*ready {
            ready = shared.1.wait(ready).unwrap();
        }
        drop(ready);
        other.join().unwrap();
    });
}

#[test]
fn condvar_passes_on_a_notification_that_came_too_late() {
    loom::model(|| {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        // One that gives up, queued first; one that stays.
        let guard = shared.0.lock().unwrap();
        let mut early = Box::pin(shared.1.wait_async(guard));
        assert!(poll(&mut early, &Flag::new()).is_pending());
        let late = Box::pin(shared.1.wait_async(shared.0.lock().unwrap()));
        let theirs = shared.clone();
        drop(finish(late, move || {
            let other = thread::spawn(move || theirs.1.notify_one());
            drop(early);
            other.join().unwrap();
        }));
    });
}

// ---- rwlock ----

#[test]
fn rwlock_excludes() {
    loom::model(|| {
        let lock = Arc::new(RwLock::new(Cell::new(0)));
        let theirs = lock.clone();
        let writer = thread::spawn(move || {
            let n = theirs.write().unwrap();
            n.set(n.get() + 1);
        });
        assert!(lock.read().unwrap().get() < 2);
        writer.join().unwrap();
        assert_eq!(lock.read().unwrap().get(), 1);
    });
}

#[test]
fn rwlock_with_two_writers_and_a_reader() {
    bounded(|| {
        let lock = Arc::new(RwLock::new(Cell::new(0)));
        let writers = [(); 2].map(|()| {
            let lock = lock.clone();
            thread::spawn(move || {
                let n = lock.write().unwrap();
                n.set(n.get() + 1);
            })
        });
        assert!(lock.read().unwrap().get() <= 2);
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        assert_eq!(lock.read().unwrap().get(), 2);
    });
}

// ---- semaphore, notify, barrier, once ----

#[test]
fn semaphore_wakes_who_can_go_when_the_first_gives_up() {
    loom::model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let mut many = semaphore.acquire_async(2);
        assert!(poll(&mut many, &Flag::new()).is_pending());
        let theirs = semaphore.clone();
        let permit = finish(semaphore.acquire_async(1), move || {
            let other = thread::spawn(move || theirs.add_permits(1));
            drop(many);
            other.join().unwrap();
        });
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn semaphore_close_races_acquire() {
    loom::model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let theirs = semaphore.clone();
        let other = thread::spawn(move || {
            theirs.add_permits(1);
            theirs.close();
        });
        let got = finish(semaphore.acquire_async(1), join(other)).is_ok();
        assert_eq!(semaphore.available_permits(), 1, "got {got}");
    });
}

fn notify_drop(give_up: fn(super::Notified<'_>)) {
    loom::model(move || {
        let notify = Arc::new(Notify::new());
        let mut first = notify.notified();
        assert!(poll(&mut first, &Flag::new()).is_pending());
        let theirs = notify.clone();
        finish(notify.notified(), move || {
            let other = thread::spawn(move || theirs.notify_one());
            give_up(first);
            other.join().unwrap();
        });
        assert!(!notify.try_wait());
    });
}

#[test]
fn notify_passes_on_what_a_dropped_waiter_had() {
    notify_drop(|future| drop(future));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn notify_waiter_that_passes_nothing_on_is_caught() {
    notify_drop(|future| std::mem::forget(future));
}

#[test]
fn notify_keeps_one_permit() {
    loom::model(|| {
        let notify = Arc::new(Notify::new());
        let theirs = notify.clone();
        let other = thread::spawn(move || theirs.notify_one());
        finish(notify.notified(), join(other));
        assert!(!notify.try_wait());
    });
}

#[test]
fn notify_all_reaches_who_exists() {
    loom::model(|| {
        let notify = Arc::new(Notify::new());
        let future = notify.notified();
        let theirs = notify.clone();
        let other = thread::spawn(move || theirs.notify_waiters());
        finish(future, join(other));
        assert!(!notify.try_wait());
    });
}

#[test]
fn barrier_opens_for_all() {
    loom::model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let leaders = Arc::new(AtomicUsize::new(0));
        let theirs = (barrier.clone(), leaders.clone());
        let other = thread::spawn(move || {
            if theirs.0.wait().is_leader() {
                theirs.1.fetch_add(1, Ordering::Relaxed);
            }
        });
        if barrier.wait().is_leader() {
            leaders.fetch_add(1, Ordering::Relaxed);
        }
        other.join().unwrap();
        assert_eq!(leaders.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn once_runs_once() {
    loom::model(|| {
        let shared = Arc::new((OnceCell::new(), AtomicUsize::new(0)));
        let theirs = shared.clone();
        let init = |shared: &(OnceCell<usize>, AtomicUsize)| {
            *shared
                .0
                .get_or_init(|| shared.1.fetch_add(1, Ordering::Relaxed))
        };
        let other = thread::spawn(move || assert_eq!(init(&theirs), 0));
        assert_eq!(init(&shared), 0);
        other.join().unwrap();
        assert_eq!(shared.1.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn once_lets_the_next_try_when_one_fails() {
    loom::model(|| {
        let cell = Arc::new(OnceCell::new());
        let theirs = cell.clone();
        let other = thread::spawn(move || {
            let _ = theirs.get_or_try_init(|| Err::<u32, ()>(()));
        });
        assert_eq!(*cell.get_or_init(|| 1), 1);
        other.join().unwrap();
    });
}

// ---- channels ----
