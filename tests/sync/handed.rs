//! Promise: what was handed to a waiter that goes away before it looks, goes to
//! the next one; step by step, where `futures.rs` leaves it to chance.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use crore::sync::{Barrier, Condvar, Mutex, Notify, Semaphore, channel};

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_value_on_its_way_keeps_the_channel_open() {
    let (sender, receiver) = channel::unbounded();
    let mut first = Box::pin(receiver.recv_async());
    let mut second = pin!(receiver.recv_async());
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    sender.send(1).unwrap();
    drop(sender);
    assert!(
        poll(second.as_mut()).is_pending(),
        "the first may still go away"
    );
    drop(first);
    assert_eq!(poll(second), Poll::Ready(Ok(1)));
    assert!(receiver.recv().is_err());
}

/// A value that comes back is one more than a rendezvous holds: that makes no
/// room for others.
#[test]
fn a_value_that_came_back_lets_no_sender_go() {
    let (sender, receiver) = channel::rendezvous();
    let mut gone = Box::pin(receiver.recv_async());
    assert!(poll(gone.as_mut()).is_pending());
    sender.try_send(1).unwrap();
    drop(gone);
    let mut second = pin!(sender.send_async(2));
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert!(poll(second.as_mut()).is_pending(), "nobody took it");
    assert_eq!(receiver.try_recv(), Ok(2));
    assert!(poll(second).is_ready());
}

/// A future may wander between tasks: who polled it last is woken.
#[test]
fn the_latest_waker_is_the_one() {
    #[derive(Default)]
    struct Bell(AtomicBool);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    fn moves<F: Future>(future: F, event: impl FnOnce()) {
        let mut future = pin!(future);
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        for bell in &bells {
            let waker = Waker::from(Arc::clone(bell));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        event();
        assert_eq!(bells.map(|bell| bell.0.load(Relaxed)), [false, true]);
    }
    let (sender, receiver) = channel::bounded(1);
    moves(receiver.recv_async(), || sender.send(1).unwrap());
    assert!(sender.try_send(2).is_err(), "the value came back");
    moves(sender.send_async(3), || assert_eq!(receiver.recv(), Ok(1)));
    let semaphore = Semaphore::new(0);
    moves(semaphore.acquire_async(1), || semaphore.add_permits(1));
    let notify = Notify::new();
    moves(notify.notified(), || notify.notify_one());
    let mutex = Mutex::new(());
    let held = mutex.lock().unwrap();
    moves(mutex.lock_async(), || drop(held));
    let barrier = Barrier::new(2);
    moves(barrier.wait_async(), || {
        assert!(poll(pin!(barrier.wait_async())).is_ready());
    });
    let condvar = Condvar::new();
    let waiting = condvar.wait_async(mutex.lock().unwrap());
    moves(waiting, || condvar.notify_one());
}

/// A select with both sides of one channel does not meet itself, and is met.
#[test]
fn both_sides_of_a_channel_in_one_select_wait_for_others() {
    let (sender, receiver) = channel::rendezvous();
    // Which side is queued first is random.
    for round in 0..50 {
        let from_outside = round % 2 == 0;
        let (mut taking, mut giving) = (receiver.case(), sender.case(1));
        let mut cases: [&mut (dyn channel::Case + Send); 2] = [&mut taking, &mut giving];
        let mut both = Box::pin(channel::select_async(&mut cases));
        assert!(poll(both.as_mut()).is_pending());
        if from_outside {
            sender.try_send(7).unwrap();
            assert_eq!(poll(both.as_mut()), Poll::Ready(0));
            drop(both);
            assert_eq!(taking.take(), Some(Ok(7)));
        } else {
            assert_eq!(receiver.try_recv(), Ok(1));
            assert_eq!(poll(both.as_mut()), Poll::Ready(1));
        }
    }
}

#[test]
fn a_condvar_s_notification_goes_to_the_next() {
    let (condvar, mutex) = (Condvar::new(), Mutex::new(()));
    let mut first = Box::pin(condvar.wait_async(mutex.lock().unwrap()));
    assert!(poll(first.as_mut()).is_pending());
    let mut second = pin!(condvar.wait_async(mutex.try_lock().unwrap()));
    assert!(poll(second.as_mut()).is_pending());
    condvar.notify_one();
    drop(first);
    assert!(poll(second).is_ready());
}

#[test]
fn who_asked_before_all_were_notified_is_one_of_them() {
    let notify = Notify::new();
    let asked = pin!(notify.notified());
    notify.notify_waiters();
    assert!(poll(asked).is_ready());
    assert!(poll(pin!(notify.notified())).is_pending(), "and no other");
}

#[test]
fn permits_have_an_end() {
    let semaphore = Semaphore::new(Semaphore::MAX_PERMITS - 1);
    semaphore.add_permits(1);
    assert!(catch_unwind(std::panic::AssertUnwindSafe(|| semaphore.add_permits(1))).is_err());
    assert_eq!(semaphore.available_permits(), Semaphore::MAX_PERMITS);
}

/// Begins a select of one case, and forgets it while it waits.
fn forget_a_select(case: &mut (dyn channel::Case + Send)) {
    let mut cases = [case];
    let mut select = Box::pin(channel::select_async(&mut cases));
    assert!(poll(select.as_mut()).is_pending());
    std::mem::forget(select);
}

#[test]
fn what_a_forgotten_select_received_is_its_cases() {
    let (sender, receiver) = channel::rendezvous();
    let mut case = receiver.case();
    forget_a_select(&mut case);
    sender.try_send(5).expect("the case takes it");
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(channel::TryRecvError::Empty));
    assert_eq!(case.take(), Some(Ok(5)));
    assert_eq!(receiver.recv(), Err(channel::RecvError));
}

#[test]
fn the_cases_of_a_forgotten_select_leave_when_they_are_asked() {
    let (sender, receiver) = channel::rendezvous();
    let mut case = receiver.case();
    forget_a_select(&mut case);
    assert_eq!(case.take(), None);
    assert!(sender.try_send(5).is_err(), "nobody waits");
    forget_a_select(&mut case);
    assert_eq!(channel::try_select(&mut [&mut case]), None);
    assert!(sender.try_send(5).is_err(), "nobody waits");
    forget_a_select(&mut case);
    drop(case);
    assert!(sender.try_send(5).is_err(), "nobody waits");
}

#[test]
fn what_a_forgotten_select_did_not_look_at_goes_back() {
    let (sender, receiver) = channel::rendezvous();
    for again in [false, true] {
        let mut case = receiver.case();
        forget_a_select(&mut case);
        sender.try_send(5).expect("the case takes it");
        if again {
            assert_eq!(channel::try_select(&mut [&mut case]), Some(0));
            assert_eq!(case.take(), Some(Ok(5)));
        } else {
            drop(case);
            assert_eq!(receiver.try_recv(), Ok(5));
        }
    }
    let mut case = receiver.case();
    forget_a_select(&mut case);
    drop(sender);
    assert_eq!(case.take(), Some(Err(channel::RecvError)));
}

#[test]
fn a_value_that_a_forgotten_select_would_send_is_its_cases() {
    let (sender, receiver) = channel::rendezvous();
    let mut case = sender.case(1);
    forget_a_select(&mut case);
    assert_eq!(case.into_value(), Some(1));
    let mut case = sender.case(2);
    forget_a_select(&mut case);
    drop(case);
    assert!(receiver.try_recv().is_err(), "it is gone with its case");
    let mut case = sender.case(3);
    forget_a_select(&mut case);
    assert_eq!(receiver.try_recv(), Ok(3));
    assert_eq!(case.take(), Some(Ok(())));
    let mut case = sender.case(4);
    forget_a_select(&mut case);
    drop(receiver);
    assert_eq!(case.take(), Some(Err(channel::SendError(4))));
}

/// One case has won before the select was forgotten: no other can.
#[test]
fn a_forgotten_select_has_one_winner() {
    let (left, from_left) = channel::rendezvous();
    let (right, from_right) = channel::rendezvous();
    let (mut one, mut other) = (from_left.case(), from_right.case());
    let mut cases: [&mut (dyn channel::Case + Send); 2] = [&mut one, &mut other];
    let mut select = Box::pin(channel::select_async(&mut cases));
    assert!(poll(select.as_mut()).is_pending());
    std::mem::forget(select);
    left.try_send(1).unwrap();
    assert!(right.try_send(2).is_err());
    assert_eq!((one.take(), other.take()), (Some(Ok(1)), None));
}

/// Wakers are foreign code: what wakes them holds no lock that they may want.
#[test]
fn a_waker_may_use_what_wakes_it() {
    struct Calls<F>(F, AtomicBool);
    impl<F: Fn() + Send + Sync> Wake for Calls<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
            self.1.store(true, Relaxed);
        }
    }
    fn calls<T: Future>(future: T, event: impl FnOnce(), call: impl Fn() + Send + Sync + 'static) {
        let calls = Arc::new(Calls(call, AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&calls));
        let mut future = pin!(future);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        event();
        assert!(calls.1.load(Relaxed));
    }
    let notify = Arc::new(Notify::new());
    let theirs = Arc::clone(&notify);
    let again = move || theirs.notify_one();
    calls(notify.notified(), || notify.notify_one(), again.clone());
    assert!(notify.try_wait(), "the waker's");
    calls(notify.notified(), || notify.notify_waiters(), again);
    let semaphore = Arc::new(Semaphore::new(0));
    let theirs = Arc::clone(&semaphore);
    calls(
        semaphore.acquire_async(1),
        || semaphore.add_permits(1),
        move || theirs.add_permits(1),
    );
    let mutex = Arc::new(Mutex::new(()));
    let (theirs, held) = (Arc::clone(&mutex), mutex.lock().unwrap());
    calls(
        mutex.lock_async(),
        || drop(held),
        move || drop(theirs.try_lock()),
    );
    let (sender, receiver) = channel::bounded(1);
    let theirs = sender.clone();
    calls(
        receiver.recv_async(),
        || sender.send(1).unwrap(),
        move || _ = theirs.try_send(2),
    );
}
