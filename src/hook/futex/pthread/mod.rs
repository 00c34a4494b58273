//! Locks of C: mutexes, condition variables, rwlocks, semaphores, barriers and
//! once-flags of pthreads, and those of C11, which are the same.
//!
//! glibc's wait by system calls of their own, past the symbol `syscall`, so
//! the functions themselves are ours. A plain thread's calls go on to glibc,
//! and those that let go of something look at one count afterwards. A
//! coroutine tries without waiting; if that fails it queues in the table at
//! the lock's address, tries once more, and parks. Each release wakes one.
//!
//! Some releases are not seen: of a mutex by a plain thread inside glibc's
//! `pthread_cond_wait`, of another process, of a program that has loaded us. Where there may be such, a queued coroutine
//! also tries on its own, less and less often, every [`LONGEST`] at last.
//!
//! No cancellation ends these waits: callers take errors for bugs of theirs.
//!
//! Those of `FILE`s are taken before glibc takes them inside of itself
//! ([`file_lock`]).

pub(crate) mod aliases;
pub(crate) mod barrier;
pub(crate) mod c11;
pub(crate) mod cond;
pub(crate) mod file_lock;
mod holders;
pub(crate) mod mutex;
mod note;
pub(crate) mod once;
pub(crate) mod rwlock;
pub(crate) mod sem;
pub(crate) mod spin;

use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libc::{clockid_t, timespec};

use super::table::{Left, Place, Table};
use super::{ALL_BITS, Woken, give_way, may_park, table, wake_at};
use crate::hook::wait::clock::{after, moment};
use crate::hook::wait::interrupt::{self, Verdict};
use crate::hook::wait::slow_wait::{Lasting, SlowWait};
use crate::sched::{self, CurrentTask, contended};
use crate::sys::syscall::{errno, set_errno};

/// A worker begins.
pub(super) fn begin() {
    cond::learn();
    rwlock::learn();
    sem::learn();
    holders::begin();
    file_lock::begin();
    once::learn();
}

/// Whether the whole process calls our function of this name: who has loaded a library
/// with us inside does not, so what it lets go of is not seen.
fn is_everybodys(name: &CStr, ours: usize) -> bool {
    // As the program finds it: a library that is linked for itself finds its own first.
    //
    // SAFETY: the program itself, which is there already, and a name.
    unsafe {
        let program = libc::dlopen(std::ptr::null(), libc::RTLD_LAZY);
        !program.is_null() && {
            let found = libc::dlsym(program, name.as_ptr()).addr();
            libc::dlclose(program);
            found == ours
        }
    }
}

const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(10);

/// The coroutine that may wait, and where.
type Here = (CurrentTask, &'static Table);

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
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// Declares the hooks of a lock's three waits: without a limit, until a time of
/// the realtime clock, until a time of a clock that the caller names. In a
/// coroutine that may park, each calls `$wait` with a deadline or none.
macro_rules! locks {
    ($object:ty, $wait:ident($($more:expr)?): $lock:ident $timed:ident $clocked:ident) => {
        $crate::hook::libc::hook!(
            next,
            Some(here) = parkable(),
            unsafe extern "C-unwind" fn $lock(lock: *mut $object) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { $wait(here, lock, $($more,)? None) }
            }
        );

        locks! { $object, $wait($($more)?): $timed $clocked }
    };

    ($object:ty, $wait:ident($($more:expr)?): $timed:ident $clocked:ident) => {
        $crate::hook::libc::hook!(
            next,
            // SAFETY: the caller's time.
            Some((here, deadline)) = (unsafe { parkable_until(|| Some(libc::CLOCK_REALTIME), time) }),
            unsafe extern "C-unwind" fn $timed(lock: *mut $object, time: *const timespec) -> c_int {
                // SAFETY: the caller's lock.
                unsafe { $wait(here, lock, $($more,)? Some(deadline)) }
            }
        );

        $crate::hook::libc::hook!(
            next,
            // SAFETY: the caller's time.
            Some((here, deadline)) = (unsafe { parkable_until(|| Some(clock), time) }),
            unsafe extern "C-unwind" fn $clocked(
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

/// What the tables of C's locks hold.
pub(super) fn left_over() -> [(&'static str, usize); 3] {
    [
        (
            "waiters for C's locks",
            WAITING.load(Ordering::Relaxed) as usize,
        ),
        ("holders of recursive mutexes", holders::count()),
        ("holders of files", file_lock::count_others()),
    ]
}

/// Coroutines that wait for a lock of C: mostly none, and then who lets go of one need
/// not look for the waiters of this very one.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// A coroutine waits while this lives. It comes before a place in the table, and so
/// before the fence between counting the waiter there and its look.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes up to `most` coroutines that wait at this address.
#[inline(always)]
fn wake(address: usize, most: usize) -> Woken {
    after_release();
    if WAITING.load(Ordering::Relaxed) == 0 {
        return Woken::NONE;
    }
    wake_counted(address, most)
}

/// [`wake`] of one, for what signal handlers may call.
#[inline(always)]
fn wake_or_defer(address: usize) {
    after_release();
    if WAITING.load(Ordering::Relaxed) == 0 {
        return;
    }
    if sched::may_wake() {
        wake_counted(address, 1);
    } else if let Some(table) = table() {
        table.defer(address);
        sched::wake_later();
    }
}

#[cold]
fn wake_counted(address: usize, most: usize) -> Woken {
    let Some(table) = table().filter(|table| table.counted(address) > 0) else {
        return Woken::NONE;
    };
    let saved = errno();
    let woken = wake_at(table, address, most);
    set_errno(saved);
    woken
}

/// How a lock is waited for.
#[derive(Clone, Copy)]
struct Manner {
    /// All releases are seen, so that it need not be tried now and then.
    all_seen: bool,
    /// A signal, and a cancellation of the thread, end the wait.
    interruptible: bool,
}

impl Manner {
    const USUAL: Self = Self {
        all_seen: false,
        interruptible: false,
    };
}

/// Waits until `attempt` says something else than `EBUSY`, or `ETIMEDOUT`; `EINTR` if it
/// is interrupted.
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
    manner: Manner,
) -> c_int {
    let saved = errno();
    let _measured = contended();
    let mut wait = Wait {
        cx,
        table,
        address,
        place: None,
        pause: (!manner.all_seen).then_some(SHORTEST),
        slow_wait: SlowWait::new(Lasting::Lock(address)),
        _waiting: Waiting::begin(),
    };
    // The next cancellation point is to find it.
    let mut cancelled = false;
    let answer = loop {
        if let Some(answer) = wait.queue(look) {
            break answer;
        }
        if wait.place.is_some() {
            wait.park(deadline);
            match interrupt::taken(cx) {
                Some(Verdict::Fail) if manner.interruptible => break libc::EINTR,
                Some(Verdict::Cancel) => cancelled = true,
                _ => {}
            }
            if cancelled && manner.interruptible {
                break libc::EINTR;
            }
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
    if cancelled {
        cx.interrupt();
    }
    set_errno(saved);
    answer
}

/// Waits for a lock that was found to be taken, where looking is trying.
fn contend(
    here: Here,
    address: usize,
    deadline: Option<Instant>,
    manner: Manner,
    attempt: impl Fn() -> c_int + Copy,
) -> c_int {
    let mut look = || Some(attempt()).filter(|&answer| answer != libc::EBUSY);
    acquire(here, address, deadline, &mut { attempt }, &mut look, manner)
}

struct Wait<'a> {
    cx: CurrentTask,
    table: &'a Table,
    address: usize,
    place: Option<Place>,
    /// Until it tries on its own.
    pause: Option<Duration>,
    slow_wait: SlowWait,
    _waiting: Waiting,
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

    /// Parks until woken, but not for long where that may not be.
    fn park(&mut self, deadline: Option<Instant>) {
        let again = match &mut self.pause {
            Some(pause) => {
                let again = after(*pause);
                *pause = (*pause * 2).min(LONGEST);
                Some(again)
            }
            None => self.slow_wait.next(self.cx),
        };
        let until = deadline.into_iter().chain(again).min();
        self.cx.park_regardless_until(until);
        self.slow_wait.check(self.cx);
    }

    fn leave(&mut self) -> Option<Left> {
        self.table.leave(self.place.take()?, true)
    }
}
