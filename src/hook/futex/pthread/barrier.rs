//! POSIX barriers: `pthread_barrier_…`.
//!
//! A barrier can't be tried, and a waiter that comes through may destroy it at
//! once, while others have yet to leave: of the same thread, for two. So one
//! that is not shared between processes is ours altogether. It waits by futex,
//! which parks coroutines and blocks threads.
//!
//! ```text
//!   state = (round, how many have come in it)   one word: a late one is never
//!                                               counted in a round that it has
//!                                               not seen
//!   bell  = rounds that have ended, to wait at  rung after the state changed
//!   users = how many are inside, and whether a `destroy` waits for them
//! ```
//!
//! Those shared between processes stay glibc's, and block the thread: another
//! process may know nothing of us.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libc::{PTHREAD_BARRIER_SERIAL_THREAD, pthread_barrier_t, pthread_barrierattr_t};

use crate::hook::futex::{futex_wait, futex_wake_all};
use crate::hook::libc::hook;
use crate::sys::syscall::{errno, set_errno};

/// A barrier of ours, in the place of glibc's.
#[repr(C)]
struct PthreadBarrier {
    /// The round in the upper half, how many have come in the lower.
    state: AtomicU64,
    bell: AtomicU32,
    users: AtomicU32,
    count: u32,
    _unused: u32,
    /// [`OURS`]: glibc uses nothing of the place so far up.
    mark: u64,
}

const OURS: u64 = 0x63_72_6f_72_65_62_61_72;

/// In `users`: a `destroy` waits for all to leave.
const ENDING: u32 = 1 << 31;

const _: () = assert!(
    size_of::<PthreadBarrier>() <= size_of::<pthread_barrier_t>()
        && align_of::<PthreadBarrier>() <= align_of::<pthread_barrier_t>()
);

impl PthreadBarrier {
    /// Whether this one has come last.
    fn wait(&self) -> bool {
        self.users.fetch_add(1, Ordering::Relaxed);
        let (round, last) = self.come();
        if last {
            self.ring();
        } else {
            while (self.state.load(Ordering::Acquire) >> 32) as u32 == round {
                futex_wait(&self.bell, round);
            }
        }
        self.leave();
        last
    }

    /// The round, and whether this one ends it.
    fn come(&self) -> (u32, bool) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let (round, come) = ((state >> 32) as u32, state as u32 + 1);
            let last = come == self.count;
            let next = if last {
                u64::from(round.wrapping_add(1)) << 32
            } else {
                state + 1
            };
            let changed =
                self.state
                    .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed);
            match changed {
                Ok(_) => return (round, last),
                Err(now) => state = now,
            }
        }
    }

    /// A round has ended. Counted, not stored: where there are more threads than it takes,
    /// others may have ended the next ones meanwhile, and a store would go back.
    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::Relaxed);
        futex_wake_all(self.bell.as_ptr());
    }

    fn leave(&self) {
        let users = self.users.as_ptr();
        if self.users.fetch_sub(1, Ordering::Release) == ENDING + 1 {
            // It may be gone: from here on it is an address.
            futex_wake_all(users);
        }
    }

    fn wait_for_all_to_leave(&self) {
        let mut users = self.users.fetch_or(ENDING, Ordering::Acquire) | ENDING;
        while users != ENDING {
            futex_wait(&self.users, users);
            users = self.users.load(Ordering::Acquire);
        }
    }
}

/// # Safety
///
/// - A barrier, which glibc or we have made.
unsafe fn ours<'a>(barrier: *mut pthread_barrier_t) -> Option<&'a PthreadBarrier> {
    // SAFETY: large enough, and all of it was written when it was made.
    unsafe {
        let mark = &raw const (*barrier.cast::<PthreadBarrier>()).mark;
        (mark.read() == OURS).then(|| &*barrier.cast::<PthreadBarrier>())
    }
}

hook!(
    next,
    unsafe extern "C" fn pthread_barrier_init(
        barrier: *mut pthread_barrier_t,
        attributes: *const pthread_barrierattr_t,
        count: c_uint,
    ) -> c_int {
        // SAFETY: the caller's arguments; a place that is ours to write.
        unsafe {
            // glibc knows what is to be refused.
            let answer = pthread_barrier_init::next(barrier, attributes, count);
            if answer != 0 {
                return answer;
            }
            let mut shared = libc::PTHREAD_PROCESS_PRIVATE;
            if !attributes.is_null() {
                libc::pthread_barrierattr_getpshared(attributes, &raw mut shared);
            }
            if shared == libc::PTHREAD_PROCESS_PRIVATE {
                barrier.cast::<PthreadBarrier>().write(PthreadBarrier {
                    state: AtomicU64::new(0),
                    bell: AtomicU32::new(0),
                    users: AtomicU32::new(0),
                    count,
                    _unused: 0,
                    mark: OURS,
                });
            } else {
                (&raw mut (*barrier.cast::<PthreadBarrier>()).mark).write(0);
            }
            0
        }
    }
);

hook!(
    next,
    // SAFETY: the caller's barrier.
    Some(ours) = (unsafe { ours(barrier) }),
    unsafe extern "C" fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int {
        let saved = errno();
        let last = ours.wait();
        set_errno(saved);
        if last {
            PTHREAD_BARRIER_SERIAL_THREAD
        } else {
            0
        }
    }
);

hook!(
    next,
    // SAFETY: the caller's barrier.
    Some(ours) = (unsafe { ours(barrier) }),
    unsafe extern "C" fn pthread_barrier_destroy(barrier: *mut pthread_barrier_t) -> c_int {
        let saved = errno();
        ours.wait_for_all_to_leave();
        set_errno(saved);
        0
    }
);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Whoever waits at a bell that says another round would spin.
    #[test]
    fn a_bell_that_is_rung_late_says_what_round_it_is() {
        let barrier = PthreadBarrier {
            state: AtomicU64::new(0),
            bell: AtomicU32::new(0),
            users: AtomicU32::new(0),
            count: 1,
            _unused: 0,
            mark: OURS,
        };
        assert_eq!(barrier.come(), (0, true));
        // The next round, while whoever ended this one has yet to ring.
        assert!(barrier.wait());
        barrier.ring();
        let round = barrier.state.load(Ordering::Relaxed) >> 32;
        assert_eq!(barrier.bell.load(Ordering::Relaxed), round as u32);
    }
}
