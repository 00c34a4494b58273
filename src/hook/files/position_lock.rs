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

use crate::sched::CurrentTask;
use crate::sys::fd::table::{self, Meaning};
use crate::sys::fork::PerProcess;
use crate::sys::syscall::Errno;
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

/// How many positions are locked.
pub(crate) fn held() -> usize {
    HELD.get().all.lock().len()
}

/// Waits until no other read is in the middle.
///
/// # Errors
///
/// `EBADF` if the number was closed meanwhile.
#[inline]
pub(crate) fn wait_while_held(cx: CurrentTask, fd: RawFd) -> Result<(), Errno> {
    if HELD.get().count.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let meaning = Meaning::of(fd);
    wait(cx, fd, false);
    match meaning.holds() {
        true => Ok(()),
        false => Err(libc::EBADF),
    }
}

/// Locks the position, after those that hold it. None if this can't park.
#[cold]
pub(crate) fn lock(cx: CurrentTask, fd: RawFd) -> Option<PositionGuard> {
    wait(cx, fd, true).then_some(PositionGuard(fd))
}

/// Waits until no other holds the position, then locks it if `lock`. False if this
/// can't park.
#[cold]
fn wait(cx: CurrentTask, fd: RawFd, lock: bool) -> bool {
    // A handler may have interrupted the code that has the mutex below.
    if NoPark::is_active() || CurrentTask::parkable().is_none() || !cx.on_own_stack() {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_end_of_a_read_is_told_to_all_that_wait() {
        let entered = Cell::new(0);
        let enter = || {
            let cx = CurrentTask::current().expect("a coroutine");
            // A number that nobody has.
            let _held = lock(cx, 8_200).expect("it may park");
            entered.set(entered.get() + 1);
            crate::yield_now();
        };
        crate::run(|| {
            crate::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn_local(enter);
                }
            });
        })
        .unwrap();
        assert_eq!(entered.get(), 4);
    }
}
