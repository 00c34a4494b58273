//! Promise: what was handed to a waiter that goes away before it looks, goes to
//! the next one; step by step, where `sync_futures.rs` leaves it to chance.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use crore::sync::{Condvar, Mutex, Notify, Semaphore, channel};

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
