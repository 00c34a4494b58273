//! `pthread_mutex_…`.
//!
//! A coroutine parks for a mutex that another coroutine *of its own thread*
//! holds: blocking would never end. Who holds it on another thread goes on
//! there, so that wait blocks the thread as ever. This is what allocators
//! need: jemalloc's locks are mutexes, taken with its thread's cache half
//! changed. No coroutine parks while it holds one of them (an allocator waits
//! for nothing else), so no other coroutine of the thread ever finds it held
//! by its own thread, and none parks in the middle of the allocator. With
//! thread-locals of its own a coroutine may park for any.
//!
//! Recursive and error-checking mutexes know their holder by its thread: two
//! coroutines of one thread would both have it. For these there is a list of
//! which coroutine it is.

use std::ffi::c_int;
use std::time::Instant;

use libc::{clockid_t, pthread_mutex_t, timespec};

use super::{TRY, acquire, give_way, holders, inside, moment, own, wake};
use crate::hook::futex::table;
use crate::hook::real;
use crate::sched::Cx;

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
    matches!(
        unsafe { part!(mutex, kind) } & KIND,
        RECURSIVE | ERROR_CHECKING
    )
}

/// # Safety
///
/// - A valid mutex.
unsafe fn is_held_here(mutex: *mut pthread_mutex_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { part!(mutex, owner) == own::thread() }
}

/// Locks the mutex; `real` does it as glibc, and blocks.
///
/// # Safety
///
/// - A valid mutex.
#[inline(always)]
unsafe fn lock(
    mutex: *mut pthread_mutex_t,
    deadline: impl FnOnce() -> Option<Instant>,
    real: impl Fn() -> c_int,
) -> c_int {
    let Some(here) = inside() else {
        return real();
    };
    // SAFETY: the caller's mutex.
    unsafe {
        if knows_its_holder(mutex) && !own::has_own_thread_locals(here.0) {
            return lock_for_a_coroutine(here, mutex, deadline(), &real);
        }
        let attempt = || real::pthread_mutex_trylock(mutex);
        let answer = attempt();
        if answer != libc::EBUSY {
            return answer;
        }
        if !own::has_own_thread_locals(here.0) && !is_held_here(mutex) {
            return real();
        }
        // One that knows its holder tells it so.
        let us = here.0.own_number().filter(|_| knows_its_holder(mutex));
        if us.is_some_and(|us| part!(mutex, owner) == us as c_int) {
            return real();
        }
        let mut look = || Some(attempt()).filter(|&answer| answer != libc::EBUSY);
        acquire(here, mutex.addr(), deadline(), &mut { attempt }, &mut look)
    }
}

/// Locks a mutex that knows its holder by its thread.
///
/// # Safety
///
/// - A valid mutex.
#[cold]
unsafe fn lock_for_a_coroutine(
    here: (Cx, &'static super::Table),
    mutex: *mut pthread_mutex_t,
    deadline: Option<Instant>,
    real: &dyn Fn() -> c_int,
) -> c_int {
    let (us, thread) = (here.0.addr(), own::thread());
    let holder = || holders::get(mutex.addr()).filter(|&(_, on)| on == thread);
    let noted = |answer| {
        if answer == 0 {
            holders::set(mutex.addr(), (us, thread));
        }
        answer
    };
    let mut attempt = || match holder() {
        Some((other, _)) if other != us => libc::EBUSY,
        // Once more, or an error.
        Some(_) => real(),
        // SAFETY: the caller's mutex.
        None => match unsafe { real::pthread_mutex_trylock(mutex) } {
            // On another thread.
            libc::EBUSY => noted(real()),
            answer => noted(answer),
        },
    };
    match attempt() {
        libc::EBUSY => {
            let mut look = || holder().is_none().then_some(TRY);
            acquire(here, mutex.addr(), deadline, &mut attempt, &mut look)
        }
        answer => answer,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe { lock(mutex, || None, || real::pthread_mutex_lock(mutex)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        let real = || real::pthread_mutex_timedlock(mutex, time);
        match moment(libc::CLOCK_REALTIME, time) {
            Some(deadline) => lock(mutex, || Some(deadline), real),
            None => real(),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe {
        let real = || real::pthread_mutex_clocklock(mutex, clock, time);
        match moment(clock, time) {
            Some(deadline) => lock(mutex, || Some(deadline), real),
            None => real(),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        let here =
            inside().filter(|here| knows_its_holder(mutex) && !own::has_own_thread_locals(here.0));
        let Some((cx, _)) = here else {
            return real::pthread_mutex_trylock(mutex);
        };
        let (us, thread) = (cx.addr(), own::thread());
        match holders::get(mutex.addr()).filter(|&(_, on)| on == thread) {
            Some((other, _)) if other != us => libc::EBUSY,
            held => {
                let answer = real::pthread_mutex_trylock(mutex);
                if answer == 0 && held.is_none() {
                    holders::set(mutex.addr(), (us, thread));
                }
                answer
            }
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex, which may be gone once it is unlocked: from
    // there on it is an address.
    unsafe {
        if Cx::running().is_some() && table().is_some() && knows_its_holder(mutex) {
            let last = part!(mutex, kind) & KIND == ERROR_CHECKING || part!(mutex, count) == 1;
            if last && is_held_here(mutex) {
                holders::remove(mutex.addr());
            }
        }
        let address = mutex.addr();
        let answer = real::pthread_mutex_unlock(mutex);
        if wake(address, 1) > 0 {
            give_way();
        }
        answer
    }
}
