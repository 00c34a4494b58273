//! Models of the table: no wake-up falls between looking and queueing.
//!
//! All run complete, without a bound on preemptions. A waiter that is queued
//! does not block here: it lets the others end, and then it must have been
//! taken off. Those named `catches` run a protocol that is broken on purpose.

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::table::{Batch, Left, Place, Table};
use crate::task::Addr;

const WORD: usize = 64;
const ALL: u32 = u32::MAX;

/// A table, and a futex word that is 0 until it is changed.
struct Bed {
    table: Table,
    word: AtomicU32,
    /// Whether a thread waits at the word in the kernel.
    kernel: Mutex<bool>,
}

fn bed() -> Arc<Bed> {
    Arc::new(Bed {
        table: Table::new(1, 8).expect("address space"),
        word: AtomicU32::new(0),
        kernel: Mutex::new(false),
    })
}

impl Bed {
    fn wait(&self, who: u64) -> Option<Place> {
        let still = || self.word.load(Ordering::Relaxed) == 0;
        self.table.queue(WORD, ALL, Addr::from_bits(who), still)
    }

    /// Waking after the word was changed; how many.
    fn wake(&self, most: usize) -> usize {
        if self.table.may_wait(WORD) {
            self.take(most)
        } else {
            0
        }
    }

    fn wake_without_fence(&self, most: usize) -> usize {
        if self.table.counted(WORD) > 0 {
            self.take(most)
        } else {
            0
        }
    }

    fn take(&self, most: usize) -> usize {
        let mut batch: Batch = Batch::new();
        self.table.take(WORD, most, ALL, &mut batch);
        batch.waiters().len()
    }

    fn assert_woken(&self, place: Option<Place>) {
        let woken = place.is_none_or(|place| self.table.leave(place, false).is_some());
        assert!(woken, "overslept");
    }
}

/// One waits, another changes the word and wakes.
fn waiter_and_waker(
    wait: impl Fn(&Bed) -> Option<Place> + Send + Sync + 'static,
    wake: impl Fn(&Bed) + Send + Sync + Clone + 'static,
) {
    loom::model(move || {
        let here = bed();
        let (there, wake) = (Arc::clone(&here), wake.clone());
        let waker = thread::spawn(move || wake(&there));
        let place = wait(&here);
        waker.join().unwrap();
        here.assert_woken(place);
        assert_eq!(here.table.counted(WORD), 0);
    });
}

fn change(bed: &Bed) {
    bed.word.store(1, Ordering::Relaxed);
}

#[test]
fn loom_a_wake_against_a_wait() {
    waiter_and_waker(
        |bed| bed.wait(1),
        |bed| {
            change(bed);
            bed.wake(1);
        },
    );
}

#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_waker_without_a_fence() {
    waiter_and_waker(
        |bed| bed.wait(1),
        |bed| {
            change(bed);
            bed.wake_without_fence(1);
        },
    );
}

#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_waker_that_looks_before_it_changes() {
    waiter_and_waker(
        |bed| bed.wait(1),
        |bed| {
            let waits = bed.table.may_wait(WORD);
            change(bed);
            fence(Ordering::SeqCst);
            if waits {
                bed.take(1);
            }
        },
    );
}

#[test]
#[should_panic(expected = "overslept")]
fn loom_catches_a_waiter_that_does_not_look_again() {
    waiter_and_waker(
        |bed| {
            let waits = bed.word.load(Ordering::Relaxed) == 0;
            let queue = || bed.table.queue(WORD, ALL, Addr::from_bits(1), || true);
            waits.then(queue).flatten()
        },
        |bed| {
            change(bed);
            bed.wake(1);
        },
    );
}

/// Two wake-ups for one each reach both.
#[test]
fn loom_two_waiters_and_one_who_wakes_both() {
    loom::model(|| {
        let here = bed();
        let there = Arc::clone(&here);
        let other = thread::spawn(move || there.wait(2));
        let there = Arc::clone(&here);
        let waker = thread::spawn(move || {
            change(&there);
            there.wake(1) + there.wake(1)
        });
        let mine = here.wait(1);
        let (theirs, woken) = (other.join().unwrap(), waker.join().unwrap());
        assert_eq!(
            woken,
            usize::from(mine.is_some()) + usize::from(theirs.is_some())
        );
        here.assert_woken(mine);
        here.assert_woken(theirs);
    });
}

/// A waiter that gives up was taken off by a waker or was still queued, and the
/// waker knows which: no wake-up is used up by one that has gone.
#[test]
fn loom_the_end_of_time_against_a_wake() {
    loom::model(|| {
        let here = bed();
        let place = here.wait(1).expect("nobody has changed it");
        let there = Arc::clone(&here);
        let waker = thread::spawn(move || {
            change(&there);
            there.wake(1)
        });
        let left = here.table.leave(place, true).expect("in any case");
        assert_eq!(waker.join().unwrap(), usize::from(left == Left::Woken));
        assert_eq!(here.table.counted(WORD), 0);
    });
}

/// A lock, as those of C: a failed attempt queues, an unlock wakes one; a waiter
/// that was woken and finds it taken goes to the front again.
#[test]
fn loom_a_lock_changes_hands() {
    loom::model(|| {
        let here = bed();
        let taken = |bed: &Bed| bed.word.swap(1, Ordering::Acquire) == 1;
        let unlock = |bed: &Bed| {
            // An exchange, as glibc's: loom does not order a plain store among
            // the exchanges of others.
            bed.word.swap(0, Ordering::Release);
            bed.wake(1);
        };
        assert!(!taken(&here));
        let there = Arc::clone(&here);
        let holder = thread::spawn(move || {
            unlock(&there);
            // And again, if it is free.
            if !taken(&there) {
                unlock(&there);
            }
        });
        let waits = || taken(&here);
        let place = here.table.queue(WORD, ALL, Addr::from_bits(1), waits);
        holder.join().unwrap();
        if let Some(place) = place {
            assert!(!here.table.is_queued(place), "overslept");
            let again = here.table.queue_first(WORD, ALL, Addr::from_bits(1), waits);
            assert!(again.is_none(), "nobody has it now");
            assert_eq!(here.table.leave(place, false), Some(Left::Woken));
        }
        assert_eq!(here.table.counted(WORD), 0);
    });
}

/// A worker's thread waits in the kernel while a coroutine is queued: both
/// hear of one wake-up.
fn blocked_and_waker(block: impl Fn(&Bed) + Send + Sync + 'static) {
    loom::model(move || {
        let here = bed();
        let place = here.wait(1);
        let there = Arc::clone(&here);
        let waker = thread::spawn(move || {
            change(&there);
            let woken = there.wake(1);
            if woken == 0 || there.table.has_blocked(WORD) {
                *there.kernel.lock().unwrap() = false;
            }
        });
        block(&here);
        waker.join().unwrap();
        assert!(!*here.kernel.lock().unwrap(), "overslept in the kernel");
        here.assert_woken(place);
    });
}

/// As the kernel does it.
fn kernel_waits(bed: &Bed) {
    let mut waits = bed.kernel.lock().unwrap();
    *waits = bed.word.load(Ordering::Relaxed) == 0;
}

#[test]
fn loom_a_thread_in_the_kernel_is_not_forgotten() {
    // Never dropped before the end: it would be gone from the kernel then.
    blocked_and_waker(|bed| {
        std::mem::forget(bed.table.block(WORD));
        kernel_waits(bed);
    });
}

#[test]
#[should_panic(expected = "overslept in the kernel")]
fn loom_catches_a_thread_that_is_not_counted() {
    blocked_and_waker(kernel_waits);
}

/// A wake-up that had to be put off is made.
#[test]
fn loom_deferred_wake_ups_are_flushed() {
    waiter_and_waker(
        |bed| bed.wait(1),
        |bed| {
            change(bed);
            if bed.table.may_wait(WORD) {
                bed.table.defer(WORD);
            }
            bed.table.flush(|_| ());
        },
    );
}
