//! A descriptor as a case: registered with the worker's reactor while it is waited for.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::{Direction, Outcome, WaitKey, WatchError};
use crate::sched::CurrentTask;
use crate::sync::channel::Ready;
use crate::sys::ready;

/// How long a descriptor that the kernel does not watch is left alone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Not `Send`, as a key is not: it is of this thread's reactor. So no future that may be
/// polled elsewhere waits for one.
pub(super) struct Descriptor<'a> {
    fd: BorrowedFd<'a>,
    direction: Direction,
    key: Option<WaitKey>,
    /// The kernel does not watch it: when to look again.
    look: Option<Instant>,
    not_send: PhantomData<*const ()>,
}

impl<'a> Descriptor<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>, direction: Direction) -> Self {
        Self {
            fd,
            direction,
            key: None,
            look: None,
            not_send: PhantomData,
        }
    }

    fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether a call would not wait, by the kernel's word if ours is not certain.
    fn would_not_wait(&self, cx: CurrentTask) -> bool {
        let (fd, direction) = (self.number(), self.direction);
        if !cx.worth_trying(fd, direction) {
            return false;
        }
        let writes = direction == Direction::Write;
        // An error is the call's that follows.
        let ready = ready::poll(self.fd, writes, Some(Instant::now())).unwrap_or(true);
        if !ready {
            cx.clear_readiness(fd, direction);
        }
        ready
    }
}

impl Ready for Descriptor<'_> {
    type Output = ();

    fn is_ready(&mut self, waker: Option<&Waker>) -> bool {
        let cx = CurrentTask::running().unwrap_or_else(|| outside());
        if let Some(key) = self.key.take() {
            if cx.end_wait(key) != Outcome::Pending {
                return true;
            }
        }
        self.look = None;
        let asked = self.direction == Direction::Read && cx.is_asked();
        if asked || self.would_not_wait(cx) {
            return true;
        }
        if waker.is_none() {
            return false;
        }
        match cx.begin_wait(self.number(), self.direction, false) {
            Ok(key) => self.key = Some(key),
            Err(WatchError::Exhausted(_)) => self.look = Some(cx.now() + LOOK_EVERY),
            // The call that follows says what is wrong.
            Err(_) => return true,
        }
        false
    }

    fn leave(&mut self) {
        if let (Some(key), Some(cx)) = (self.key.take(), CurrentTask::running()) {
            cx.end_wait(key);
        }
    }

    fn ask_again(&self) -> Option<Instant> {
        self.look
    }

    fn output(&mut self) {}
}

impl Drop for Descriptor<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cold]
fn outside() -> ! {
    panic!(
        "a select! over a descriptor was called outside a coroutine: a plain thread has no event \
         queue; spawn a coroutine for this, or call it inside crore::run(|| …)"
    )
}
