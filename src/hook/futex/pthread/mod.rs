//! Locks of C: mutexes, condition variables, rwlocks, semaphores, barriers and
//! once-flags of pthreads, and those of C11, which are the same.
//!
//! glibc's wait by system calls of their own, past the symbol `syscall`, so
//! the functions themselves are ours. A plain thread's calls go on to glibc,
//! and those that let go of something look at one count afterwards. A
//! coroutine tries without waiting; if that fails it queues in the table at
//! the lock's address, tries once more, and parks. Each release wakes one.
//!
//! Some releases are not seen: of a plain thread inside glibc's
//! `pthread_cond_wait`, of another process. So a queued coroutine also tries on
//! its own, less and less often, every [`LONGEST`] at last.
//!
//! No cancellation ends these waits: callers take errors for bugs of theirs.
//!
//! Not hooked: locks of `FILE`s, which glibc takes inside of itself, and spin
//! locks, whose holders run.

pub(crate) mod barrier;
pub(crate) mod c11;
pub(crate) mod cond;
mod holders;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod rwlock;
pub(crate) mod sem;

use std::ffi::c_int;
use std::time::{Duration, Instant};

use libc::{clockid_t, timespec};

use super::table::{Left, Place, Table};
use super::wait::SlowWait;
use super::{ALL_BITS, Woken, give_way, may_park, table, wake_at};
use crate::hook::wait::clock::{after, moment};
use crate::sched::Cx;
use crate::sys::syscall::{errno, set_errno};

/// A worker begins.
pub(super) fn begin() {
    cond::learn_clock();
    holders::begin();
    once::learn();
}

const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(10);

/// The coroutine that may wait, and where.
type Here = (Cx, &'static Table);

fn parkable() -> Option<Here> {
    Some((may_park::coroutine()?, table()?))
}

/// The same with the deadline that the caller's time means, if it is valid and
/// the clock is known.
///
/// # Safety
///
/// - A valid or null pointer.
unsafe fn parkable_until(
    clock: impl FnOnce() -> Option<clockid_t>,
    time: *const timespec,
) -> Option<(Here, Instant)> {
    let here = parkable()?;
    // SAFETY: the caller's promise.
    Some((here, unsafe { moment(clock()?, time) }?))
}

/// A lock was released. Partner: the fence in the table between counting the
/// waiter and its look. (Not from the shim: any program code comes here, under
/// loom also such as is in no model.)
///
/// On x86_64 a release is a locked instruction, and so is the fence; where it
/// is a plain store, the process has one thread, and program order will do.
#[inline(always)]
fn after_release() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// Declares the hooks of a lock's three waits: without a limit, until a time of
/// the realtime clock, until a time of a clock that the caller names. In a
/// coroutine that may park, each calls `$wait` with a deadline or none.
macro_rules! locks {
    ($object:ty, $wait:ident($($more:expr)?): $lock:ident $timed:ident $clocked:ident) => {
        $crate::hook::libc::hook!(
            next,
            Some(here) = parkable(),
            unsafe extern "C" fn $lock(lock: *mut $object) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { $wait(here, lock, $($more,)? None) }
            }
        );

        $crate::hook::libc::hook!(
            next,
            // SAFETY: the caller's time.
            Some((here, deadline)) = (unsafe { parkable_until(|| Some(libc::CLOCK_REALTIME), time) }),
            unsafe extern "C" fn $timed(lock: *mut $object, time: *const timespec) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { $wait(here, lock, $($more,)? Some(deadline)) }
            }
        );

        $crate::hook::libc::hook!(
            next,
            // SAFETY: the caller's time.
            Some((here, deadline)) = (unsafe { parkable_until(|| Some(clock), time) }),
            unsafe extern "C" fn $clocked(
                lock: *mut $object,
                clock: clockid_t,
                time: *const timespec,
            ) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { $wait(here, lock, $($more,)? Some(deadline)) }
            }
        );
    };
}
use locks;

/// Wakes up to `most` coroutines that wait at this address.
#[inline(always)]
fn wake(address: usize, most: usize) -> Woken {
    after_release();
    match table() {
        Some(table) if table.counted(address) > 0 => wake_slowly(table, address, most),
        _ => Woken::NONE,
    }
}

#[cold]
fn wake_slowly(table: &Table, address: usize, most: usize) -> Woken {
    let saved = errno();
    let woken = wake_at(table, address, most);
    set_errno(saved);
    woken
}

/// Waits until `attempt` says something else than `EBUSY`, or `ETIMEDOUT`.
///
/// `look` is called with the table locked, so it neither allocates nor waits:
/// `None`, the lock is taken, or an answer.
#[inline(never)]
fn acquire(
    (cx, table): Here,
    address: usize,
    deadline: Option<Instant>,
    attempt: &mut dyn FnMut() -> c_int,
    look: &mut dyn FnMut() -> Option<c_int>,
) -> c_int {
    let saved = errno();
    let mut wait = Wait {
        cx,
        table,
        address,
        place: None,
        pause: SHORTEST,
        slow_wait: SlowWait::new(),
    };
    let answer = loop {
        if let Some(answer) = wait.queue(look) {
            break answer;
        }
        if wait.place.is_some() {
            wait.park(deadline);
        } else {
            cx.spend();
        }
        let answer = attempt();
        if answer != libc::EBUSY {
            break answer;
        }
        if cx.is_over(deadline) {
            break libc::ETIMEDOUT;
        }
    };
    // Woken, and gone without the lock: the wake-up was meant for one that waits.
    if wait.leave() == Some(Left::Woken) && answer != 0 {
        wake(address, 1);
    }
    set_errno(saved);
    answer
}

/// Waits for a lock that was found to be taken, where looking is trying.
fn contend(
    here: Here,
    address: usize,
    deadline: Option<Instant>,
    attempt: impl Fn() -> c_int + Copy,
) -> c_int {
    let mut look = || Some(attempt()).filter(|&answer| answer != libc::EBUSY);
    acquire(here, address, deadline, &mut { attempt }, &mut look)
}

struct Wait<'a> {
    cx: Cx,
    table: &'a Table,
    address: usize,
    place: Option<Place>,
    pause: Duration,
    slow_wait: SlowWait,
}

impl Wait<'_> {
    /// Makes sure to be queued, unless a look says otherwise: its answer.
    fn queue(&mut self, look: &mut dyn FnMut() -> Option<c_int>) -> Option<c_int> {
        let mut answer = None;
        let still = || {
            answer = look();
            answer.is_none()
        };
        let (table, address, waiter) = (self.table, self.address, self.cx.addr());
        let again = match self.place {
            Some(place) if table.is_queued(place) => return None,
            // Woken, but another took it first.
            Some(_) => table.queue_first(address, ALL_BITS, waiter, still),
            None => table.queue(address, ALL_BITS, waiter, still),
        };
        // If not, the old place says that it was woken.
        self.place = again.or(self.place);
        answer
    }

    /// Parks until woken, but not for long.
    fn park(&mut self, deadline: Option<Instant>) {
        let until = after(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        self.cx.park_regardless_until(Some(until));
        self.slow_wait.check(self.cx, self.address);
    }

    fn leave(&mut self) -> Option<Left> {
        self.table.leave(self.place.take()?, true)
    }
}
