//! Turns at a file's own position: a `read` that the kernel is asked for in
//! pieces is not mixed with another coroutine's.
//!
//! To the kernel one `read` of a regular file is one step: two threads that
//! read records through one descriptor get whole ones. A coroutine's takes what
//! is in memory first and has a helper fetch the rest, and is parked meanwhile;
//! so it takes a turn, and whoever begins to read from the same open file waits
//! until that is over.
//!
//! Not held up: plain threads and other processes, which go to the kernel; a
//! coroutine of another worker, between a first piece and the turn that its
//! lack leads to; who can't park (a signal handler, a destructor that unwinds).
//! Numbers are taken for one open file if they are the same, or both have a
//! known duplicate.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use crate::hook::fd::cache;
use crate::sched::Cx;
use crate::sys::fork::PerProcess;
use crate::util::section::{Section, SectionMutex};

/// A forked child's readers are not its parent's.
static TURNS: PerProcess<Turns> = PerProcess::new();

#[derive(Default)]
struct Turns {
    /// How many there are, for those who only look.
    count: AtomicUsize,
    taken: SectionMutex<Vec<Entry>>,
}

struct Entry {
    fd: RawFd,
    /// Those who wait for its end.
    waiting: Vec<Waker>,
}

/// Who has this is in the middle of a read.
pub(crate) struct Turn(RawFd);

/// Waits until nobody is in the middle of a read.
#[inline]
pub(crate) fn let_pass(cx: Cx, fd: RawFd) {
    if TURNS.get().count.load(Ordering::Relaxed) != 0 {
        wait(cx, fd, false);
    }
}

/// Takes a turn, after those who have one. None if this can't park.
#[cold]
pub(crate) fn take(cx: Cx, fd: RawFd) -> Option<Turn> {
    wait(cx, fd, true).then_some(Turn(fd))
}

/// Waits until nobody has a turn, then takes one if `take`. False if this can't
/// park.
#[cold]
fn wait(cx: Cx, fd: RawFd, take: bool) -> bool {
    // A handler may have interrupted who holds the lock.
    if Section::is_here() || Cx::parkable().is_none() || !cx.is_at_home() {
        return false;
    }
    let turns = TURNS.get();
    loop {
        let mut taken = turns.taken.lock();
        let other = taken
            .iter_mut()
            .find(|entry| cache::may_be_one(entry.fd, fd));
        match other {
            Some(other) => other.waiting.push(cx.waker()),
            None if take => {
                let waiting = Vec::new();
                taken.push(Entry { fd, waiting });
                turns.count.store(taken.len(), Ordering::Relaxed);
                return true;
            }
            None => return true,
        }
        drop(taken);
        // Files do not fail by cancellation.
        cx.park_regardless();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let turns = TURNS.get();
        let mut taken = turns.taken.lock();
        // None in a child that forked meanwhile.
        let Some(at) = taken.iter().position(|entry| entry.fd == self.0) else {
            return;
        };
        let ended = taken.swap_remove(at);
        turns.count.store(taken.len(), Ordering::Relaxed);
        drop(taken);
        ended.waiting.into_iter().for_each(Waker::wake);
    }
}
