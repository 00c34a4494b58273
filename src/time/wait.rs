//! Sleeping, yielding, parking, for coroutines and threads.

use std::time::{Duration, Instant};

use crate::sched::CurrentTask;

/// Sleeps for at least `duration`, as [`std::thread::sleep`] does; other
/// coroutines run meanwhile. A timer fires up to 66 µs late on an idle worker.
///
/// On a plain thread it is [`std::thread::sleep`].
///
/// # Panics
///
/// Unwinds (without a panic message) when the coroutine is cancelled, or a
/// [`timeout`](crate::timeout) around this ends.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// crore::run(|| {
///     let begun = Instant::now();
///     let other = crore::spawn(|| crore::sleep(Duration::from_millis(20)));
///     crore::sleep(Duration::from_millis(20)); // both at the same time
///     other.join().unwrap();
///     assert!(begun.elapsed() >= Duration::from_millis(20));
/// }).unwrap();
/// ```
pub fn sleep(duration: Duration) {
    match Instant::now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        // So far away that the clock can't name it.
        None => loop {
            sleep(Duration::from_secs(u64::from(u32::MAX)));
        },
    }
}

/// Sleeps until `deadline`, which may have passed. See [`sleep`].
///
/// ```
/// use std::time::{Duration, Instant};
/// let end = Instant::now() + Duration::from_millis(5);
/// crore::run(|| crore::sleep_until(end)).unwrap();
/// assert!(Instant::now() >= end);
/// ```
pub fn sleep_until(deadline: Instant) {
    match CurrentTask::parkable() {
        Some(cx) => {
            // Twice: it may be told meanwhile.
            if cx.unwind_if_ending() || cx.sleep_until(deadline).is_err() && cx.unwind_if_ending() {
                while !cx.is_over(Some(deadline)) {
                    cx.park_stuck(Some(deadline));
                }
            }
        }
        None => std::thread::sleep(deadline.saturating_duration_since(Instant::now())),
    }
}

/// Lets the other runnable coroutines of this worker run first, after
/// [`std::thread::yield_now`], which it is on a plain thread.
///
/// # Panics
///
/// Unwinds (without a panic message) when the coroutine is cancelled, or a
/// [`timeout`](crate::timeout) around this ends.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// crore::run(|| {
///     let turn = Rc::new(Cell::new(0));
///     let other = crore::spawn_local({ let turn = Rc::clone(&turn); move || turn.set(1) });
///     assert_eq!(turn.get(), 0);
///     crore::yield_now(); // the other one's turn
///     assert_eq!(turn.get(), 1);
///     other.join().unwrap();
/// }).unwrap();
/// ```
#[inline(always)]
pub fn yield_now() {
    match CurrentTask::parkable() {
        Some(cx) => {
            cx.yield_now();
            cx.unwind_or_return();
        }
        None => std::thread::yield_now(),
    }
}

/// Parks the coroutine until its [`unpark`](crate::Coroutine::unpark) is or
/// was called: the token of [`std::thread::park`], but never spurious.
///
/// On a plain thread it is [`std::thread::park`].
///
/// # Panics
///
/// Unwinds (without a panic message) when the coroutine is cancelled, or a
/// [`timeout`](crate::timeout) around this ends.
///
/// # Examples
///
/// ```
/// crore::run(|| {
///     let sleeper = crore::spawn(|| { crore::park(); 5 });
///     sleeper.coroutine().unpark();
///     assert_eq!(sleeper.join().unwrap(), 5);
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline(always)]
pub fn park() {
    match CurrentTask::running() {
        Some(cx) => cx.take_token(),
        None => std::thread::park(),
    }
}

/// As [`park`], but returns after `timeout` at the latest, after
/// [`std::thread::park_timeout`].
///
/// # Panics
///
/// As [`park`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// crore::run(|| crore::park_timeout(Duration::from_millis(1))).unwrap(); // nobody unparks it
/// ```
pub fn park_timeout(timeout: Duration) {
    match CurrentTask::running() {
        Some(cx) => cx.take_token_until(Instant::now().checked_add(timeout)),
        None => std::thread::park_timeout(timeout),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sched::Worker;
    use crate::{JoinHandle, spawn_local, timeout};

    const LONG: Duration = Duration::from_secs(3600);

    /// Timers and waiters of this worker.
    fn waits() -> usize {
        Worker::current().expect("in a coroutine").count_waits()
    }

    /// Ends a wait that has a time limit, long before that.
    fn end(waiting: JoinHandle<()>) {
        yield_now();
        assert_eq!(waits(), 1, "it waits, and no other");
        waiting.coroutine().unpark();
        waiting.join().unwrap();
        assert_eq!(waits(), 0);
    }

    #[test]
    fn a_wait_that_ends_early_leaves_no_timer() {
        crate::run(|| {
            end(spawn_local(|| park_timeout(LONG)));
            end(spawn_local(|| timeout(LONG, park).unwrap()));
            end(spawn_local(|| {
                timeout(LONG, || park_timeout(LONG)).unwrap();
            }));
        })
        .unwrap();
    }

    #[cfg(feature = "futex")]
    #[test]
    fn nor_does_a_wait_for_a_lock_of_std() {
        use std::sync::{Arc, Condvar, Mutex};
        crate::run(|| {
            let pair = Arc::new((Mutex::new(false), Condvar::new()));
            let theirs = Arc::clone(&pair);
            let waiting = spawn_local(move || {
                let told = theirs.0.lock().unwrap();
                let (told, _) = theirs
                    .1
                    .wait_timeout_while(told, LONG, |told| !*told)
                    .unwrap();
                assert!(*told);
            });
            yield_now();
            assert_eq!(waits(), 1, "it waits");
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
            waiting.join().unwrap();
            assert_eq!(waits(), 0);
        })
        .unwrap();
    }
}
