//! Contention: waits for locks, sampled by the place of the call.
//!
//! Off, a wait for a lock looks at one word more. While somebody measures, each begins with a
//! look at the clock; of those that end one in [`EVERY`] is kept, and all that have taken
//! [`LONG`], with the return addresses that lead to the call. What is kept lies in a table
//! whose memory was taken before: the lock may be an allocator's.
//!
//! The calls are gathered on the worker's stack, which has the room. Coroutines alone are
//! looked at, on stacks of ours.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::current::CurrentTask;
use super::worker::Worker;
use crate::switch::stack_pointer;
use crate::sys::unwind;
use crate::util::no_park::NoParkMutex;

/// One in so many of the short waits is kept, and counts for so many.
const EVERY: u32 = 16;

/// So long a wait is kept anyway.
const LONG: Duration = Duration::from_millis(1);

/// Return addresses that are kept of each.
const CALLS: usize = 48;

/// Places that there is room for.
const PLACES: usize = 4_096;

/// Whether somebody measures.
static ON: AtomicBool = AtomicBool::new(false);

static MEASURED: NoParkMutex<Option<Measured>> = NoParkMutex::new(None);

/// Whether somebody measures now.
pub(crate) fn is_measuring() -> bool {
    ON.load(Ordering::Relaxed) || MEASURED.lock().is_some()
}

/// What was kept so far.
struct Measured {
    /// The indices of the runtime's workers.
    workers: Vec<u32>,
    waits: HashMap<Calls, LockWaits>,
}

/// How often was waited at one place, and for how long.
#[derive(Clone, Copy, Default)]
pub(crate) struct LockWaits {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Calls {
    addresses: [usize; CALLS],
    len: usize,
}

/// A wait that is measured, until it is dropped.
pub(crate) struct LockWait(Instant);

/// The caller waits for a lock from here on, until what this returns is dropped.
#[inline(always)]
pub(crate) fn contended() -> Option<LockWait> {
    if ON.load(Ordering::Relaxed) {
        begin()
    } else {
        None
    }
}

#[cold]
fn begin() -> Option<LockWait> {
    CurrentTask::running().map(|_| LockWait(Instant::now()))
}

impl Drop for LockWait {
    fn drop(&mut self) {
        keep(self.0.elapsed());
    }
}

#[cold]
#[inline(never)]
fn keep(time: Duration) {
    let is_long = time >= LONG;
    if !is_long && !is_chosen() {
        return;
    }
    let stands_for = if is_long { 1 } else { EVERY };
    let Some(cx) = CurrentTask::running() else {
        return;
    };
    let mut calls = Calls {
        addresses: [0; CALLS],
        len: 0,
    };
    // SAFETY: this coroutine runs here, and on its own stack if the address says so (I3, I13).
    unsafe {
        if Worker::runs_at(stack_pointer()) {
            let mut within = false;
            let mut walk = || {
                unwind::walk(|call, frame| {
                    let (before, now) = (within, Worker::runs_at(frame));
                    within |= now;
                    if now { calls.add(call) } else { !before }
                });
            };
            Worker::yielder().on_worker_stack(&mut walk);
        }
    }
    if let Some(measured) = &mut *MEASURED.lock() {
        measured.add(cx.worker().index(), calls, stands_for, time);
    }
}

/// In no step with what the program does.
fn is_chosen() -> bool {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    turn.wrapping_mul(0x9e37_79b9) >> 16 & 0xffff < 0x1_0000 / EVERY
}

impl Calls {
    /// `false` when it is full.
    fn add(&mut self, call: usize) -> bool {
        self.addresses[self.len] = call;
        self.len += 1;
        self.len < CALLS
    }
}

impl Measured {
    fn add(&mut self, worker: u32, calls: Calls, stands_for: u32, time: Duration) {
        let has_room = self.waits.len() < PLACES || self.waits.contains_key(&calls);
        if has_room && self.workers.contains(&worker) {
            let waits = self.waits.entry(calls).or_default();
            waits.count += u64::from(stands_for);
            waits.time += time * stands_for;
        }
    }
}

/// Measures the waits of coroutines of these workers while `f` runs: those of each place,
/// by the calls that lead there, the innermost first. One at a time.
pub(crate) fn measure(workers: Vec<u32>, f: impl FnOnce()) -> Vec<(Box<[usize]>, LockWaits)> {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.store(false, Ordering::Relaxed);
        }
    }
    let waits = HashMap::with_capacity(PLACES);
    *MEASURED.lock() = Some(Measured { workers, waits });
    ON.store(true, Ordering::Relaxed);
    let off = Off;
    f();
    drop(off);
    let measured = MEASURED.lock().take();
    let waits = measured.map(|measured| measured.waits).unwrap_or_default();
    let all = waits.into_iter();
    all.map(|(calls, waits)| (calls.addresses[..calls.len].into(), waits))
        .collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_chosen() {
        let chosen = (0..160_000).filter(|_| is_chosen()).count();
        assert!((9_000..11_000).contains(&chosen), "{chosen}");
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out() {
        let mut measured = Measured {
            workers: vec![1],
            waits: HashMap::new(),
        };
        let at = |place| Calls {
            addresses: [place; CALLS],
            len: 1,
        };
        for place in 0..PLACES + 10 {
            measured.add(1, at(place), 1, LONG);
        }
        measured.add(1, at(0), 16, LONG);
        measured.add(2, at(0), 1, LONG);
        assert_eq!(measured.waits.len(), PLACES);
        assert_eq!(measured.waits[&at(0)].count, 17);
        assert_eq!(measured.waits[&at(0)].time, 17 * LONG);
    }
}
