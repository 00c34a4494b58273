//! POSIX mutexes: `pthread_mutex_…`.
//!
//! A coroutine parks for a mutex that a *suspended* coroutine holds: blocking
//! would stop a thread for as long as the holder waits, and for ever if the
//! holder is of this thread. A holder that runs goes on by itself, so that wait
//! blocks the thread, in slices, lest it suspends meanwhile. This is what
//! allocators need: jemalloc's locks are mutexes, taken with its thread's cache
//! half changed. No coroutine is suspended while it holds one of them (an
//! allocator waits for nothing else, and for these by this very rule it blocks),
//! so none ever parks in the middle of the allocator.
//!
//! glibc notes a mutex's holder by thread. The coroutines of a thread that have
//! its thread-locals in common are that thread; of those of *another* thread it
//! is not known whether they run. Recursive and error-checking mutexes would let
//! them all in, so `holders` lists which of them it is.

use std::ffi::c_int;
use std::time::{Duration, Instant};

use libc::{clockid_t, pthread_mutex_t, timespec};

use super::{
    Here, Manner, acquire, give_way, holders, locks, may_park, parkable, parkable_until, wake,
};
use crate::hook::libc::hook;
use crate::hook::wait::clock::kernels_now;
use crate::sched::{self, CurrentTask, WaitsFor, number_at, waiting};

/// What glibc keeps at a fixed place, for the sake of static initialisers and
/// debuggers.
#[repr(C)]
struct Parts {
    lock: c_int,
    count: u32,
    owner: c_int,
    users: u32,
    kind: c_int,
}

const _: () = assert!(size_of::<Parts>() <= size_of::<pthread_mutex_t>());

/// The bits of `kind` that tell these: recursive is 1, error-checking is 2.
const KIND: c_int = 3;
const RECURSIVE: c_int = libc::PTHREAD_MUTEX_RECURSIVE;
const ERROR_CHECKING: c_int = libc::PTHREAD_MUTEX_ERRORCHECK;

/// One word of the mutex, which others may change.
macro_rules! part {
    ($mutex:expr, $part:ident) => {
        (&raw const (*$mutex.cast::<Parts>()).$part).read_volatile()
    };
}

/// # Safety
///
/// - A valid mutex.
unsafe fn knows_its_holder(mutex: *mut pthread_mutex_t) -> bool {
    // SAFETY: the caller's promise.
    let kind = unsafe { part!(mutex, kind) } & KIND;
    kind == RECURSIVE || kind == ERROR_CHECKING
}

/// Whether the holder of the mutex is suspended; for right after it was found to
/// be held.
///
/// # Safety
///
/// - A valid mutex.
unsafe fn is_held_by_suspended(mutex: *mut pthread_mutex_t, cx: CurrentTask) -> bool {
    // SAFETY: the caller's promise.
    let owner = unsafe { part!(mutex, owner) };
    // As the caller runs on this thread, no other coroutine does.
    owner == may_park::thread_id(cx) || sched::is_suspended(owner as u32)
}

/// The holder runs.
const RUNS: c_int = -2;

/// How long a thread blocks before it looks again whether the holder runs.
const SLICE: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(64);

/// # Safety
///
/// - A valid mutex.
unsafe fn lock(here: Here, mutex: *mut pthread_mutex_t, deadline: Option<Instant>) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if knows_its_holder(mutex) && !may_park::has_own_thread_locals(here.0) {
            return lock_for_one_of_many(here, mutex, deadline);
        }
        let attempt = || pthread_mutex_trylock::next(mutex);
        let answer = attempt();
        if answer != libc::EBUSY {
            return answer;
        }
        // One that knows its holder tells it so.
        let us = here.0.own_number().filter(|_| knows_its_holder(mutex));
        if us.is_some_and(|us| part!(mutex, owner) == us as c_int) {
            return pthread_mutex_lock::next(mutex);
        }
        let owner = number_at(&raw const (*mutex.cast::<Parts>()).owner);
        let contend = || contend(here, mutex, deadline, &attempt);
        waiting(WaitsFor::Numbered(owner), contend)
    }
}

/// Waits for a mutex that was found to be held.
///
/// # Safety
///
/// - A valid mutex.
#[cold]
unsafe fn contend(
    here: Here,
    mutex: *mut pthread_mutex_t,
    deadline: Option<Instant>,
    attempt: &dyn Fn() -> c_int,
) -> c_int {
    let mut queued = false;
    let mut look = || match attempt() {
        // Once one has parked for it, it is no allocator's.
        //
        // SAFETY: the caller's mutex.
        libc::EBUSY if queued || unsafe { is_held_by_suspended(mutex, here.0) } => {
            queued = true;
            None
        }
        libc::EBUSY => Some(RUNS),
        answer => Some(answer),
    };
    let mut slice = SLICE;
    loop {
        let answer = acquire(
            here,
            mutex.addr(),
            deadline,
            &mut || attempt(),
            &mut look,
            Manner::USUAL,
        );
        if answer != RUNS {
            return answer;
        }
        let until = kernels_now(libc::CLOCK_REALTIME) + slice;
        let time = timespec {
            tv_sec: until.as_secs() as libc::time_t,
            tv_nsec: until.subsec_nanos().into(),
        };
        slice = (slice * 2).min(LONGEST);
        // SAFETY: the caller's mutex, a valid time.
        match unsafe { pthread_mutex_timedlock::next(mutex, &raw const time) } {
            libc::ETIMEDOUT if deadline.is_none_or(|at| Instant::now() < at) => {}
            answer => return answer,
        }
    }
}

/// Locks a mutex that takes all coroutines of the thread for one.
///
/// # Safety
///
/// - A valid mutex.
#[cold]
unsafe fn lock_for_one_of_many(
    here: Here,
    mutex: *mut pthread_mutex_t,
    deadline: Option<Instant>,
) -> c_int {
    let (us, thread) = (here.0.addr(), may_park::thread_id(here.0));
    let holder = || holders::get(mutex.addr()).filter(|&(_, on)| on == thread);
    if holder().is_some_and(|(holder, _)| holder == us) {
        // Once more, or an error, at once in any case.
        // SAFETY: the caller's mutex.
        return unsafe { pthread_mutex_lock::next(mutex) };
    }
    let attempt = || match holder() {
        Some(_) => libc::EBUSY,
        // SAFETY: the caller's mutex.
        None => unsafe { pthread_mutex_trylock::next(mutex) },
    };
    let mut answer = attempt();
    if answer == libc::EBUSY {
        // SAFETY: the caller's mutex.
        answer = unsafe { contend(here, mutex, deadline, &attempt) };
    }
    if answer == 0 {
        holders::set(mutex.addr(), (us, thread));
    }
    answer
}

locks! { pthread_mutex_t, lock(): pthread_mutex_timedlock pthread_mutex_clocklock }

hook!(
    next,
    Some(_) = CurrentTask::running(),
    unsafe extern "C" fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
        // SAFETY: the caller's mutex.
        unsafe { lock_in_coroutine(mutex) }
    }
);

/// (`extern "C"`, which does not unwind: so the hook only jumps here.)
///
/// # Safety
///
/// - A valid mutex.
#[inline(never)]
unsafe extern "C" fn lock_in_coroutine(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if !knows_its_holder(mutex) {
            // Mostly that is all; whether it may park matters afterwards.
            let answer = pthread_mutex_trylock::next(mutex);
            if answer != libc::EBUSY {
                return answer;
            }
        }
        match parkable() {
            Some(here) => lock(here, mutex, None),
            None => pthread_mutex_lock::next(mutex),
        }
    }
}

hook!(
    next,
    unsafe extern "C" fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
        // SAFETY: the caller's mutex.
        unsafe {
            let here = parkable()
                .filter(|here| knows_its_holder(mutex) && !may_park::has_own_thread_locals(here.0));
            let Some((cx, _)) = here else {
                return pthread_mutex_trylock::next(mutex);
            };
            let (us, thread) = (cx.addr(), may_park::thread_id(cx));
            match holders::get(mutex.addr()).filter(|&(_, on)| on == thread) {
                Some((other, _)) if other != us => libc::EBUSY,
                held => {
                    let answer = pthread_mutex_trylock::next(mutex);
                    if answer == 0 && held.is_none() {
                        holders::set(mutex.addr(), (us, thread));
                    }
                    answer
                }
            }
        }
    }
);

hook!(
    next,
    unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
        // SAFETY: the caller's mutex, which may be gone once it is unlocked: from
        // there on it is an address.
        unsafe {
            if knows_its_holder(mutex) {
                forget_holder(mutex);
            }
            let address = mutex.addr();
            let answer = pthread_mutex_unlock::next(mutex);
            give_way(&wake(address, 1));
            answer
        }
    }
);

/// Somebody is about to unlock a mutex that knows its holder.
///
/// # Safety
///
/// - A valid mutex.
#[cold]
unsafe extern "C" fn forget_holder(mutex: *mut pthread_mutex_t) {
    let running = CurrentTask::running().filter(|&cx| !may_park::has_own_thread_locals(cx));
    let Some(cx) = running else { return };
    // SAFETY: the caller's mutex.
    unsafe {
        let last = part!(mutex, kind) & KIND == ERROR_CHECKING || part!(mutex, count) == 1;
        if last && part!(mutex, owner) == may_park::thread_id(cx) {
            holders::remove(mutex.addr());
        }
    }
}
