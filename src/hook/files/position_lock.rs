//! File-position locks: a `read` that the kernel is asked for in pieces is not
//! mixed with another coroutine's.
//!
//! To the kernel one `read` of a regular file is one step: two threads that
//! read records through one descriptor get whole ones. A coroutine's takes what
//! is in memory first and has a helper fetch the rest, and is parked meanwhile;
//! so it locks the position, and others that begin to read from the same open
//! file wait until it is done.
//!
//! Not held up: plain threads and other processes, which go to the kernel; a
//! coroutine of another worker, between a first piece and the lock that its
//! lack leads to; code that can't park (a signal handler, a destructor that
//! unwinds). Numbers are taken for one open file if they are the same, or both
//! have a known duplicate.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use crate::sched::Cx;
use crate::sys::fd::table;
use crate::sys::fork::PerProcess;
use crate::util::no_park::{NoPark, NoParkMutex};

/// A forked child's readers are not its parent's.
static HELD: PerProcess<HeldPositions> = PerProcess::new();

#[derive(Default)]
struct HeldPositions {
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
    all: NoParkMutex<Vec<HeldPosition>>,
}

struct HeldPosition {
    fd: RawFd,
    /// The coroutines that wait for its end.
    waiting: Vec<Waker>,
}

/// The holder is in the middle of a read.
pub(crate) struct PositionGuard(RawFd);

/// Waits until no other read is in the middle.
#[inline]
pub(crate) fn wait_while_held(cx: Cx, fd: RawFd) {
    if HELD.get().count.load(Ordering::Relaxed) != 0 {
        wait(cx, fd, false);
    }
}

/// Locks the position, after those that hold it. None if this can't park.
#[cold]
pub(crate) fn lock(cx: Cx, fd: RawFd) -> Option<PositionGuard> {
    wait(cx, fd, true).then_some(PositionGuard(fd))
}

/// Waits until no other holds the position, then locks it if `lock`. False if this
/// can't park.
#[cold]
fn wait(cx: Cx, fd: RawFd, lock: bool) -> bool {
    // A handler may have interrupted the code that has the mutex below.
    if NoPark::is_active() || Cx::parkable().is_none() || !cx.is_at_home() {
        return false;
    }
    let positions = HELD.get();
    loop {
        let mut held = positions.all.lock();
        let other = held
            .iter_mut()
            .find(|other| table::may_share_file(other.fd, fd));
        match other {
            Some(other) => other.waiting.push(cx.waker()),
            None if lock => {
                let waiting = Vec::new();
                held.push(HeldPosition { fd, waiting });
                positions.count.store(held.len(), Ordering::Relaxed);
                return true;
            }
            None => return true,
        }
        drop(held);
        // Files do not fail by cancellation.
        cx.park_regardless();
    }
}

impl Drop for PositionGuard {
    fn drop(&mut self) {
        let positions = HELD.get();
        let mut held = positions.all.lock();
        // None in a child that forked meanwhile.
        let Some(at) = held.iter().position(|other| other.fd == self.0) else {
            return;
        };
        let ended = held.swap_remove(at);
        positions.count.store(held.len(), Ordering::Relaxed);
        drop(held);
        ended.waiting.into_iter().for_each(Waker::wake);
    }
}
