//! The promise: our own waits below a function that C has called do not end the process
//! by unwinding into it: they go on, and what comes after C has returned ends.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crore::sync::{Notify, Semaphore};
use crore::{JoinHandle, timeout};

use crate::common::left_over::meant_to_leave;
use crate::common::{in_child, stderr};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    /// What the callback of this thread's only sort does.
    static CALLBACK: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
    let dropped = Box::new(1);
    if let Some(call) = CALLBACK.take() {
        call();
    }
    *dropped
}

/// Runs it below a function of C's.
fn below_c(call: impl FnOnce() + 'static) {
    CALLBACK.set(Some(Box::new(call)));
    let mut two = [2, 1];
    // SAFETY: two numbers.
    unsafe { libc::qsort(two.as_mut_ptr().cast(), 2, 4, Some(compare)) };
    assert!(CALLBACK.take().is_none());
}

fn waiting(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let handle = crore::spawn(work);
    crore::yield_now();
    assert!(!handle.is_finished(), "it does not wait");
    handle
}

/// A wait that `end` ends goes on although it is cancelled, or late.
fn goes_on(wait: impl Fn() + Clone + Send + 'static, end: impl Fn(&JoinHandle<()>)) {
    for late in [false, true] {
        let after = Arc::new(AtomicBool::new(false));
        let (theirs, wait) = (Arc::clone(&after), wait.clone());
        let handle = waiting(move || {
            let work = || {
                below_c(wait);
                theirs.store(true, Relaxed);
                crore::sleep(LONG);
                unreachable!();
            };
            match late {
                true => assert!(timeout(SHORT, work).is_err()),
                false => work(),
            }
        });
        if !late {
            handle.cancel();
        }
        crore::sleep(SHORT * 3);
        assert!(!handle.is_finished() && !after.load(Relaxed));
        end(&handle);
        assert_eq!(handle.join().is_ok(), late);
        assert!(after.load(Relaxed));
    }
}

#[test]
fn waits_below_c_go_on() {
    crore::run(|| {
        goes_on(crore::park, |one| one.coroutine().unpark());
        let told = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&told);
        let yields = move || {
            while !theirs.swap(false, Relaxed) {
                crore::yield_now();
            }
        };
        goes_on(yields, |_| told.store(true, Relaxed));
        let notify = Arc::new(Notify::new());
        let theirs = Arc::clone(&notify);
        goes_on(move || theirs.wait(), |_| notify.notify_one());
        let permits = Arc::new(Semaphore::new(0));
        let theirs = Arc::clone(&permits);
        let acquires = move || theirs.acquire(1).unwrap().forget();
        goes_on(acquires, |_| permits.add_permits(1));
        let (sender, receiver) = crore::sync::channel::bounded(1);
        goes_on(
            move || receiver.recv().unwrap(),
            |_| sender.send(()).unwrap(),
        );
        let long = SHORT * 8;
        let sleeps = move || {
            let start = Instant::now();
            crore::sleep(long);
            crore::park_timeout(SHORT);
            assert!(start.elapsed() >= long + SHORT);
        };
        goes_on(sleeps, |_| ());
        let joins = move || crore::spawn(move || crore::sleep(long)).join().unwrap();
        goes_on(joins, |_| ());
    })
    .unwrap();
}

#[test]
fn a_callback_that_catches_ends() {
    crore::run(|| {
        let handle = waiting(|| {
            below_c(|| assert!(catch_unwind(|| crore::sleep(LONG)).is_err()));
            below_c(|| assert!(timeout(SHORT, crore::park).is_err()));
        });
        handle.cancel();
        handle.join().unwrap();
        below_c(|| assert!(timeout(SHORT, crore::park).is_err()));
    })
    .unwrap();
}

#[test]
fn a_wait_below_c_that_goes_on_is_reported_once() {
    let output = in_child("a_wait_below_c_that_goes_on_is_reported_once", || {
        crore::run(|| {
            let long = Duration::from_millis(1500);
            let work = move || below_c(move || (0..3).for_each(|_| crore::sleep(long)));
            let builder = crore::Builder::new().name("sorter".into());
            let handle = builder.spawn(work).unwrap();
            crore::yield_now();
            handle.cancel();
            handle.join().unwrap();
        })
        .unwrap();
    });
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let words = "is to end, and waits below a function that C has called";
    assert_eq!(said.matches(words).count(), 1, "{said}");
    assert!(said.contains("'sorter' "), "{said}");
}

/// It has nothing to return to C.
#[test]
fn a_scope_below_c_is_abandoned_when_it_is_cancelled() {
    meant_to_leave("ranges of stacks", 1);
    crore::run(|| {
        let handle = waiting(|| below_c(|| crore::scope(|_| crore::sleep(LONG))));
        handle.cancel();
        assert!(handle.join().unwrap_err().is_cancelled());
    })
    .unwrap();
}
