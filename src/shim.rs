//! The shim between std and loom: the one file that knows `cfg(loom)`.
//!
//! Production code takes its atomics, cells and threads from here, so that
//! loom can replace them all. Two things are ours and not just renamed:
//! [`Lock`], the spin lock inside every primitive, and [`const_fn`], because
//! loom's types cannot be made in constants.
//!
//! Why not `std::sync::Mutex` inside the primitives: a contended one waits
//! through the libc symbol `syscall`, which the hooks turn into a parked
//! coroutine (I9). A coroutine that parks while it holds another internal lock
//! (`select` takes several) would block the very worker that has to resume it.

#[cfg(loom)]
pub(crate) use model::*;
#[cfg(not(loom))]
pub(crate) use real::*;

/// Defines a `const fn`, which under loom is a plain `fn`.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        $vis const fn $($rest)*

        #[cfg(loom)]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

#[cfg(not(loom))]
mod real {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    use std::hint;
    pub(crate) use std::sync::{Arc, atomic};
    use std::thread;

    use atomic::{AtomicBool, Ordering};

    use crate::sys::syscall::sched_yield;
    use crate::util::no_park::NoPark;

    /// A SeqCst fence right after an exchange: taking a lock, for one. On
    /// x86_64 the exchange is such a fence itself.
    #[inline(always)]
    pub(crate) fn fence_after_exchange() {
        #[cfg(target_arch = "x86_64")]
        atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(not(target_arch = "x86_64"))]
        atomic::fence(Ordering::SeqCst);
    }

    /// `std`'s cell with loom's access functions.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner()
        }

        /// Calls `f` with a pointer that is good for reading.
        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer that is good for writing.
        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// How often a contender looks at a held lock before it gives its time
    /// slice away. The lock is held for some tens of nanoseconds, so more
    /// than this means that the holder does not run.
    const SPINS: u32 = 128;

    /// The lock inside the primitives: a spinning one.
    ///
    /// It is held for a few dozen instructions that neither call foreign code
    /// (no waker is called, cloned or dropped under it, I5) nor suspend: the
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
        pub(crate) const fn new(value: T) -> Self {
            Self {
                held: AtomicBool::new(false),
                value: UnsafeCell::new(value),
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

    /// Some number below `n`, another one each time: where a fair choice starts.
    pub(crate) fn pick(n: usize) -> usize {
        use std::cell::Cell;
        thread_local!(static LAST: Cell<u32> = const { Cell::new(0) });
        LAST.with(|last| {
            let mut x = last.get();
            if x == 0 {
                // Where it is differs from thread to thread.
                x = 0x9e37_79b9 ^ std::ptr::from_ref(last).addr() as u32 | 1;
            }
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            last.set(x);
            x as usize % n
        })
    }

    /// A parker: one thread waits here until another unparks it.
    pub(crate) struct Parker {
        set: AtomicBool,
        thread: thread::Thread,
    }

    impl Parker {
        /// For the calling thread to wait at.
        pub(crate) fn new() -> Self {
            Self {
                set: AtomicBool::new(false),
                thread: thread::current(),
            }
        }

        /// Lets the thread go on, now or when it parks next.
        pub(crate) fn unpark(&self) {
            if !self.set.swap(true, Ordering::Release) {
                self.thread.unpark();
            }
        }

        /// Waits for [`unpark`](Self::unpark); says whether it came before the
        /// deadline.
        pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
            // Other code may use up or give the thread's token: only `set` counts.
            while !self.set.swap(false, Ordering::Acquire) {
                let Some(deadline) = deadline else {
                    thread::park();
                    continue;
                };
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                thread::park_timeout(left);
            }
            true
        }
    }
}

#[cfg(loom)]
mod model {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::{Arc, MutexGuard as LockGuard, atomic};

    /// In full: loom's model has no such exchanges.
    pub(crate) fn fence_after_exchange() {
        atomic::fence(atomic::Ordering::SeqCst);
    }

    /// loom's mutex under the name of ours: one scheduling point instead of a
    /// spin loop.
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            self.0
                .lock()
                .expect("nothing panics under an internal lock")
        }
    }

    /// Models must take the same way each time.
    pub(crate) fn pick(_n: usize) -> usize {
        0
    }

    /// Made of a mutex and a condition variable: loom's `unpark` also wakes a
    /// thread that is blocked in `join`, which then fails.
    pub(crate) struct Parker {
        set: loom::sync::Mutex<bool>,
        changed: loom::sync::Condvar,
    }

    impl Parker {
        pub(crate) fn new() -> Self {
            Self {
                set: loom::sync::Mutex::new(false),
                changed: loom::sync::Condvar::new(),
            }
        }

        pub(crate) fn unpark(&self) {
            *self.set.lock().expect("not poisoned") = true;
            self.changed.notify_one();
        }

        /// loom has no clock: a deadline passes after the other threads had a turn.
        pub(crate) fn park(&self, deadline: Option<std::time::Instant>) -> bool {
            if deadline.is_some() {
                loom::thread::yield_now();
                return std::mem::take(&mut *self.set.lock().expect("not poisoned"));
            }
            let mut set = self.set.lock().expect("not poisoned");
            while !*set {
                set = self.changed.wait(set).expect("not poisoned");
            }
            *set = false;
            true
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{hint, thread};

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

    #[test]
    fn pick_stays_below_and_reaches_all() {
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            seen[pick(5)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
    }
}
