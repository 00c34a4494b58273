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

use super::channel::{self, Case, RecvError, SendError, TryRecvError, select_async};
use super::waiters::{Key, Waiters, WakeList};
use super::{Barrier, Condvar, Mutex, Notify, OnceCell, RwLock, Semaphore};
use crate::future::{block_on, block_on_deadline};
use crate::shim::Lock;

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

struct Pass<const RECHECK: bool>(Arc<Gate<RECHECK>>, Option<Key>);

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
    loom::model(|| {
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

/// Two values through a channel, then its end.
fn stream(capacity: usize) {
    let (tx, rx) = channel::bounded(capacity);
    let sender = thread::spawn(move || {
        tx.send(1).unwrap();
        tx.send(2).unwrap();
    });
    assert_eq!(
        (rx.recv(), rx.recv(), rx.recv()),
        (Ok(1), Ok(2), Err(RecvError))
    );
    sender.join().unwrap();
}

#[test]
fn channel_bounded_by_one_streams() {
    loom::model(|| stream(1));
}

#[test]
fn channel_rendezvous_streams() {
    loom::model(|| stream(0));
}

#[test]
fn channel_unbounded_streams() {
    loom::model(|| stream(usize::MAX));
}

#[test]
fn channel_with_two_receivers_gives_each_value_once() {
    bounded(|| {
        let (tx, rx) = channel::bounded(1);
        let other_rx = rx.clone();
        let other = thread::spawn(move || assert!(other_rx.recv().is_ok_and(|n| n < 2)));
        let sender = thread::spawn(move || (0..2).for_each(|n| tx.send(n).unwrap()));
        assert!(rx.recv().is_ok());
        drop(rx);
        other.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn channel_disconnect_races_a_waiting_receiver() {
    loom::model(|| {
        let (tx, rx) = channel::bounded::<u32>(1);
        let sender = thread::spawn(move || drop(tx));
        assert_eq!(finish(rx.recv_async(), join(sender)), Err(RecvError));
    });
}

#[test]
fn channel_disconnect_races_a_waiting_sender() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let value = Arc::new(());
        let receiver = thread::spawn(move || drop(rx));
        let sent = finish(tx.send_async(value.clone()), join(receiver));
        assert!(matches!(sent, Err(SendError(_))));
        drop(sent);
        assert_eq!(Arc::strong_count(&value), 1, "neither lost nor doubled");
    });
}

/// A receiver gives up at the moment when it is handed a value.
#[test]
fn channel_value_of_a_dropped_receiver_goes_on() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let mut first = rx.recv_async();
        assert!(poll(&mut first, &Flag::new()).is_pending());
        let sender = thread::spawn(move || tx.send(1).unwrap());
        let got = finish(rx.recv_async(), || {
            drop(first);
            sender.join().unwrap();
        });
        assert_eq!(got, Ok(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    });
}

/// What `RecvFuture` must not do: look, let go of the lock, then queue.
struct Careless<'a> {
    receiver: &'a channel::Receiver<u32>,
    future: channel::RecvFuture<'a, u32>,
    queued: bool,
}

impl Future for Careless<'_> {
    type Output = Result<u32, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.queued {
            return Pin::new(&mut self.future).poll(cx);
        }
        if let Ok(value) = self.receiver.try_recv() {
            return Poll::Ready(Ok(value));
        }
        self.future.queue_without_a_look(cx.waker().clone());
        self.queued = true;
        Poll::Pending
    }
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn channel_receiver_without_second_look_is_caught() {
    loom::model(|| {
        let (tx, rx) = channel::bounded(1);
        let _keep = tx.clone();
        let sender = thread::spawn(move || tx.send(1).unwrap());
        let careless = Careless {
            receiver: &rx,
            future: rx.recv_async(),
            queued: false,
        };
        let got = finish(careless, join(sender));
        assert_eq!(got, Ok(1));
    });
}

// ---- select ----

/// Two senders, a select over both channels: one value each time, none lost.
#[test]
fn select_takes_exactly_one() {
    loom::model(|| {
        let (tx1, rx1) = channel::bounded(1);
        let (tx2, rx2) = channel::bounded(1);
        let one = thread::spawn(move || tx1.send(1).unwrap());
        let two = thread::spawn(move || tx2.send(2).unwrap());
        let (mut case1, mut case2) = (rx1.case(), rx2.case());
        let chosen = finish(select_async(&mut [&mut case1, &mut case2]), || {
            one.join().unwrap();
            two.join().unwrap();
        });
        let got = if chosen == 0 {
            case1.take()
        } else {
            case2.take()
        };
        assert_eq!(got, Some(Ok(chosen + 1)));
        assert!(case1.take().or(case2.take()).is_none());
        let left = rx1.try_recv().or(rx2.try_recv());
        assert_eq!(left, Ok(2 - chosen));
    });
}

fn meet(flip: bool) {
    loom::model(move || {
        let (a_tx, a_rx) = channel::rendezvous::<u32>();
        let (b_tx, b_rx) = channel::rendezvous::<u32>();
        // Each sends on one channel and receives on the other: two pairs of
        // cases match, and exactly one of them must.
        let other = thread::spawn(move || {
            let (mut send, mut recv) = (b_tx.case(2), a_rx.case());
            let mut cases: [&mut (dyn Case + Send); 2] = [&mut recv, &mut send];
            if flip {
                cases.reverse();
            }
            block_on(select_async(&mut cases));
            let (sent, received) = (send.take(), recv.take());
            assert!(sent.is_some() != received.is_some());
            if let Some(received) = received {
                assert_eq!(received, Ok(1));
            }
        });
        let (mut send, mut recv) = (a_tx.case(1), b_rx.case());
        block_on(select_async(&mut [&mut send, &mut recv]));
        let (sent, received) = (send.take(), recv.take());
        assert!(sent.is_some() != received.is_some());
        if let Some(received) = received {
            assert_eq!(received, Ok(2));
        }
        other.join().unwrap();
    });
}

#[test]
fn selects_meet_in_the_same_order() {
    meet(false);
}

#[test]
fn selects_meet_in_opposite_order() {
    meet(true);
}

#[test]
fn select_dropped_half_way_keeps_the_value() {
    loom::model(|| {
        let (tx, rx) = channel::rendezvous();
        let (_keep, silent) = channel::rendezvous::<u32>();
        let sender = thread::spawn(move || tx.send(1).is_ok());
        {
            let (mut case, mut never) = (rx.case(), silent.case());
            let mut cases: [&mut (dyn Case + Send); 2] = [&mut case, &mut never];
            let mut future = select_async(&mut cases);
            let _ = poll(&mut future, &Flag::new());
        }
        assert_eq!(rx.recv(), Ok(1));
        assert!(sender.join().unwrap());
    });
}
