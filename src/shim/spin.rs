//! The lock inside the primitives: one that spins.

use std::hint;
use std::ops::{Deref, DerefMut};

use crate::shim::atomic::{AtomicBool, Ordering};
use crate::shim::{UnsafeCell, sched_yield};
use crate::util::no_park::NoPark;

/// How often a contender looks at a held lock before it gives its time
/// slice away. The lock is held for some tens of nanoseconds, so more
/// than this means that the holder does not run.
const SPINS: u32 = if cfg!(any(loom, shuttle)) { 0 } else { 128 };

/// The lock of a value. It is held for a few dozen instructions that neither call
/// foreign code (no waker is called, cloned or dropped under it, I5) nor suspend: the
/// holder is in a [`NoPark`] (I11). Letting go is a plain store, which is
/// why an operation costs half of what a `std::sync::Mutex` would cost. A
/// contender that meets a holder which was preempted gives up its time
/// slice, past the hooks.
pub(crate) struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a `LockGuard`, of which there
// is one at a time; so threads only ever hand the value to each other.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: Send> Send for Lock<T> {}

impl<T> Lock<T> {
    const_fn! {
        pub(crate) const fn new(value: T) -> Self {
            Self {
                held: AtomicBool::new(false),
                value: UnsafeCell::new(value),
            }
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        let no_park = NoPark::enter();
        if !self.try_hold() {
            self.contend();
        }
        LockGuard {
            lock: self,
            _no_park: no_park,
        }
    }

    #[inline(always)]
    fn try_hold(&self) -> bool {
        self.held
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn contend(&self) {
        let mut spins = 0;
        while self.held.load(Ordering::Relaxed) || !self.try_hold() {
            if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                // The libc symbol would suspend a coroutine, which is
                // forbidden here.
                sched_yield();
            }
        }
    }
}

/// Exclusive access to the value of a [`Lock`].
pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// Ends after the lock was let go: fields are dropped after `drop`.
    _no_park: NoPark,
}

// SAFETY: a shared guard gives shared access to the value only.
unsafe impl<T: Sync> Sync for LockGuard<'_, T> {}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so nobody else has access;
        // the reference lives no longer than the guard.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard itself is borrowed exclusively.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn the_lock_excludes_also_when_threads_outnumber_processors() {
        const THREADS: usize = 8;
        const ROUNDS: usize = 20_000;
        let lock = Arc::new(Lock::new((0_usize, 0_usize)));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let mut pair = lock.lock();
                        pair.0 += 1;
                        hint::black_box(&mut pair);
                        pair.1 += 1;
                        assert_eq!(pair.0, pair.1);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*lock.lock(), (THREADS * ROUNDS, THREADS * ROUNDS));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;

    use super::*;

    /// What was done under the lock is seen by who has it next.
    #[test]
    fn loom_a_spin_lock_hands_its_value_over() {
        loom::model(|| {
            let lock = Arc::new(Lock::new(0));
            let theirs = Arc::clone(&lock);
            let other = loom::thread::spawn(move || *theirs.lock() += 1);
            *lock.lock() += 1;
            other.join().unwrap();
            assert_eq!(*lock.lock(), 2);
        });
    }
}

#[cfg(all(test, shuttle))]
mod shuttle_tests {
    use super::*;
    use crate::shim::Arc;
    use crate::shim::scenario::{check, crowd, join};

    #[test]
    fn a_spin_lock_excludes_a_crowd() {
        check(|| {
            let lock = Arc::new(Lock::new(0));
            let theirs = Arc::clone(&lock);
            join(crowd(6, move |_| {
                for _ in 0..2 {
                    let mut value = theirs.lock();
                    let before = *value;
                    sched_yield();
                    *value = before + 1;
                }
            }));
            assert_eq!(*lock.lock(), 12);
        });
    }
}
