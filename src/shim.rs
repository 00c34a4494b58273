//! The shim between std and what runs models: the file that knows `cfg(loom)` and
//! `cfg(shuttle)`, beside `seam.rs`, which is for `sys`, below.
//!
//! Production code takes its atomics, cells and threads from here, so that
//! loom, which tries all orders of two or three threads, and shuttle, which tries some of
//! many threads, can replace them all. Two things are ours and not just renamed:
//! [`Lock`], the spin lock inside every primitive (`spin.rs`; the models of the
//! primitives have a mutex of loom or shuttle in its place), and [`const_fn`], because
//! theirs cannot be made in constants.
//!
//! Why not `std::sync::Mutex` inside the primitives: a contended one waits
//! through the libc symbol `syscall`, which the hooks turn into a parked
//! coroutine (I9). A coroutine that parks while it holds another internal lock
//! (`select` takes several) would block the very worker that has to resume it.

#[cfg(any(loom, shuttle))]
pub(crate) use model::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::*;

/// Defines a `const fn`, which in models is a plain `fn`.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(any(loom, shuttle)))]
        $(#[$meta])*
        $vis const fn $($rest)*

        #[cfg(any(loom, shuttle))]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

pub(crate) use crate::seam::process_static;

/// Statics of this file are a model's, and are there while it runs.
pub(crate) const IN_MODELS: bool = cfg!(any(loom, shuttle));

#[cfg(not(loom))]
mod cell;
#[cfg(all(test, shuttle))]
pub(crate) mod scenario;
#[cfg(any(test, not(any(loom, shuttle))))]
mod spin;

#[cfg(not(any(loom, shuttle)))]
mod real {
    pub(crate) use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use atomic::{AtomicBool, AtomicU64, Ordering};

    pub(crate) use super::cell::UnsafeCell;
    pub(crate) use super::spin::Lock;
    pub(crate) use crate::seam::atomic;
    pub(crate) use crate::sys::fd::bell;
    pub(crate) use crate::sys::futex;
    pub(crate) use crate::sys::syscall::sched_yield;
    pub(crate) use crate::util::no_park::NoParkMutex;

    /// A SeqCst fence right after an exchange: taking a lock, for one. On
    /// x86_64 the exchange is such a fence itself.
    #[inline(always)]
    pub(crate) fn fence_after_exchange() {
        #[cfg(target_arch = "x86_64")]
        atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(not(target_arch = "x86_64"))]
        atomic::fence(Ordering::SeqCst);
    }

    /// How many spare things a thread keeps for next time.
    pub(crate) const SPARES: usize = 64;

    /// Entries of the log of ended numbers: models have few, so that a reader is overtaken.
    pub(crate) const LOGGED: usize = 1024;

    pub(crate) const fn zeros<const N: usize>() -> [AtomicU64; N] {
        [const { AtomicU64::new(0) }; N]
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

#[cfg(any(loom, shuttle))]
mod model {
    #[cfg(loom)]
    use loom as runner;
    #[cfg(shuttle)]
    use shuttle as runner;

    #[cfg(shuttle)]
    pub(crate) use super::cell::UnsafeCell;
    pub(crate) use crate::seam::atomic;
    #[cfg(loom)]
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use runner::sync::{Arc, MutexGuard as LockGuard};

    /// Lets the other threads run.
    #[cfg(test)]
    pub(crate) fn sched_yield() {
        runner::thread::yield_now();
    }

    /// In full: the models have no such exchanges.
    pub(crate) fn fence_after_exchange() {
        atomic::fence(atomic::Ordering::SeqCst);
    }

    /// A model's mutex under the name of ours: one scheduling point instead of a
    /// spin loop.
    pub(crate) struct Lock<T>(runner::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(runner::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            self.0
                .lock()
                .expect("nothing panics under an internal lock")
        }
    }

    /// One that may be held for long: in models there is no difference.
    pub(crate) use self::Lock as NoParkMutex;

    impl<T: Default> Default for Lock<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// Waits that end for no reason: who waits has to look again.
    pub(crate) mod futex {
        use super::{atomic::AtomicU32, runner};
        use std::time::Duration;

        pub(crate) fn wait(_: &AtomicU32, _: u32, _: Option<Duration>) {
            runner::thread::yield_now();
        }

        pub(crate) fn wake(_: &AtomicU32, _: u32) {}
    }

    /// The bell of the process (`sys/fd/bell.rs`), and that it was rung.
    pub(crate) mod bell {
        use super::atomic::{AtomicBool, Ordering};

        crate::shim::process_static! {
            static RUNG: AtomicBool = AtomicBool::new(false);
        }

        pub(crate) fn ring() {
            RUNG.swap(true, Ordering::AcqRel);
            crate::sys::fd::bell::ring();
        }

        /// Whether it was rung since this was asked last.
        #[cfg(all(test, loom))]
        pub(crate) fn take() -> bool {
            RUNG.swap(false, Ordering::AcqRel)
        }
    }

    /// None: models must not know of each other.
    pub(crate) const SPARES: usize = 0;

    pub(crate) const LOGGED: usize = 2;

    pub(crate) fn zeros<const N: usize>() -> [atomic::AtomicU64; N] {
        std::array::from_fn(|_| atomic::AtomicU64::new(0))
    }

    /// All models must take the same way each time under loom.
    #[cfg(loom)]
    pub(crate) fn pick(_n: usize) -> usize {
        0
    }

    /// By the schedule's own chance, so that it can be replayed.
    #[cfg(shuttle)]
    pub(crate) fn pick(n: usize) -> usize {
        use shuttle::rand::Rng;
        shuttle::rand::thread_rng().gen_range(0..n)
    }

    /// Made of a mutex and a condition variable: loom's `unpark` also wakes a
    /// thread that is blocked in `join`, which then fails.
    pub(crate) struct Parker {
        set: runner::sync::Mutex<bool>,
        changed: runner::sync::Condvar,
    }

    impl Parker {
        pub(crate) fn new() -> Self {
            Self {
                set: runner::sync::Mutex::new(false),
                changed: runner::sync::Condvar::new(),
            }
        }

        pub(crate) fn unpark(&self) {
            *self.set.lock().expect("not poisoned") = true;
            self.changed.notify_one();
        }

        /// Models have no clock: a deadline passes after the other threads had a turn.
        pub(crate) fn park(&self, deadline: Option<std::time::Instant>) -> bool {
            if deadline.is_some() {
                runner::thread::yield_now();
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn pick_stays_below_and_reaches_all() {
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            seen[pick(5)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
    }
}
