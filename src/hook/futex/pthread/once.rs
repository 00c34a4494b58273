//! One-time initialisation: `pthread_once`, and with it `call_once` of C and C++.
//!
//! An init routine that waits suspends its coroutine. Others that come
//! meanwhile must not stop the thread which has to resume it: they queue at the
//! control word. In a coroutine the word is taken here, by the protocol of
//! glibc, for glibc's own code and plain threads meet us at it:
//!
//! ```text
//!   0 ──► generation | RUNNING ──► DONE          (an init that unwinds: 0)
//! ```
//!
//! The generation counts forks: of an init that ran when the process forked
//! nothing is left in the child, so there the word counts as 0. glibc keeps the
//! number to itself; it is read off a word of our own while an init of ours runs.
//! Where the word is not what we take it for, glibc does it all.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering, fence};

use libc::pthread_once_t;

use super::{Here, Manner, acquire, parkable, wake};
use crate::hook::futex::futex_wake_all;
use crate::hook::libc::hook;
use crate::hook::libc::next::all_are_looked_up;

/// As C and C++ write them: they may throw.
pub(super) type Init = unsafe extern "C-unwind" fn();

const RUNNING: c_int = 1;
const DONE: c_int = 2;

/// What glibc writes while an init runs; 0: not known.
static RUNS_NOW: AtomicI32 = AtomicI32::new(0);

/// Learns what the word is while an init runs. (Not in a hook: a worker begins
/// outside of coroutines, and a forked child has workers of its own.)
pub(super) fn learn() {
    thread_local! {
        static WORD: AtomicI32 = const { AtomicI32::new(0) };
        static SEEN: Cell<c_int> = const { Cell::new(0) };
    }
    unsafe extern "C-unwind" fn note() {
        SEEN.set(WORD.with(|word| word.load(Ordering::Relaxed)));
    }
    let end = WORD.with(|word| {
        word.store(0, Ordering::Relaxed);
        // SAFETY: a control word, which no other thread knows.
        unsafe { pthread_once::next(word.as_ptr(), note) };
        word.load(Ordering::Relaxed)
    });
    let seen = SEEN.get();
    let as_expected = end == DONE && seen & (RUNNING | DONE) == RUNNING;
    RUNS_NOW.store(if as_expected { seen } else { 0 }, Ordering::Release);
}

/// An init that unwinds was none: the next may try.
struct Unfinished<'a>(&'a AtomicI32);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        settle(self.0, 0);
    }
}

/// Ends an init, and wakes all that wait for its end.
fn settle(word: &AtomicI32, end: c_int) {
    word.store(end, Ordering::Release);
    futex_wake_all(word.as_ptr());
}

/// # Safety
///
/// - As for `pthread_once`.
#[cold]
unsafe fn once(here: Here, word: &AtomicI32, running: c_int, init: Init) {
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen & DONE != 0 {
            return;
        }
        if seen == running {
            let over = || (word.load(Ordering::Acquire) != running).then_some(0);
            let mut attempt = || over().unwrap_or(libc::EBUSY);
            acquire(
                here,
                word.as_ptr().addr(),
                None,
                &mut attempt,
                &mut { over },
                Manner::USUAL,
            );
            continue;
        }
        let taken = word.compare_exchange(seen, running, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_ok() {
            break;
        }
    }
    let unfinished = Unfinished(word);
    // SAFETY: the caller's function.
    unsafe { init() };
    std::mem::forget(unfinished);
    settle(word, DONE);
}

hook!(
    next,
    unsafe extern "C-unwind" fn pthread_once(control: *mut pthread_once_t, init: Init) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { run_once(control, init) }
    }
);

hook!(
    /// glibc's other name for `pthread_once`, which old programs call.
    unsafe extern "C-unwind" fn __pthread_once(control: *mut pthread_once_t, init: Init) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { run_once(control, init) }
    }
);

/// Lets an exception pass, which no other hook does: it is of the caller's own
/// function.
///
/// # Safety
///
/// - As for `pthread_once`.
pub(super) unsafe fn run_once(control: *mut pthread_once_t, init: Init) -> c_int {
    let running = RUNS_NOW.load(Ordering::Acquire);
    // SAFETY: the caller's promise.
    unsafe {
        match parkable() {
            Some(here) if running != 0 => {
                let word = AtomicI32::from_ptr(control);
                if word.load(Ordering::Acquire) & DONE == 0 {
                    once(here, word, running, init);
                }
                0
            }
            _ if !all_are_looked_up() => early(AtomicI32::from_ptr(control), init),
            _ => {
                let answer = pthread_once::next(control, init);
                // That was a plain store of glibc's.
                fence(Ordering::SeqCst);
                wake(control.addr(), usize::MAX);
                answer
            }
        }
    }
}

/// A call before libc's own has been looked up: before glibc 2.34 `dlsym` makes one
/// itself. There is hardly another thread.
///
/// # Safety
///
/// - `init` may be called.
#[cold]
unsafe fn early(word: &AtomicI32, init: Init) -> c_int {
    loop {
        match word.compare_exchange(0, RUNNING, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: the caller's promise.
                unsafe { init() };
                word.store(DONE, Ordering::Release);
                return 0;
            }
            Err(state) if state & DONE != 0 => return 0,
            Err(_) => crate::sys::syscall::sched_yield(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_what_we_take_it_for() {
        learn();
        assert_eq!(RUNS_NOW.load(Ordering::Relaxed) & 3, RUNNING);
    }
}
