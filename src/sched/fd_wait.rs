//! Descriptor waits: parks the current task until a descriptor may be ready.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::current::CurrentTask;
use super::worker::Worker;
use crate::driver::{Condition, Direction, Hint, Outcome, WaitKey, WaitTarget, WatchError};
use crate::switch::{self, SwitchReason};
use crate::sys::errno;
use crate::sys::report::report;
use crate::task::Flags;

/// How long a descriptor that the kernel does not watch is left alone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl CurrentTask {
    /// `false`: the descriptor is known not to be ready; park without a try. Of reads
    /// only: what is written may find room though an earlier call did not, before any
    /// event, if it is smaller.
    #[inline(always)]
    pub(crate) fn worth_trying(self, fd: RawFd, direction: Direction) -> bool {
        if direction == Direction::Write {
            return true;
        }
        // A signal handler may have interrupted the driver.
        let driver = self.worker().driver.try_borrow();
        driver.map_or(true, |driver| {
            driver.reactor.table.hint(fd, direction) == Hint::Try
        })
    }

    /// A call said `EAGAIN`. Whether an end or an error was told of nevertheless.
    #[inline]
    pub(crate) fn clear_readiness(self, fd: RawFd, condition: impl Into<Condition>) -> bool {
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.table.clear_readiness(fd, condition)
    }

    /// What became known of urgent data and errors, once: whether it was an error.
    pub(crate) fn take_exception(self, fd: RawFd) -> Option<bool> {
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.table.take_exception(fd)
    }

    /// A call moved something, but less than asked.
    #[inline(always)]
    pub(crate) fn moved_short(self, fd: RawFd, direction: Direction) {
        if let Some(mut driver) = self.worker().driver.try_borrow_mut() {
            driver.reactor.moved_short(fd, direction);
        }
    }

    /// Whether a short transfer clears the readiness.
    #[inline]
    pub(crate) fn is_stream(self, fd: RawFd) -> bool {
        self.worker().driver.borrow_mut().reactor.is_stream(fd)
    }

    /// Parks until the descriptor may be ready.
    ///
    /// # Errors
    ///
    /// By raw number: `ETIMEDOUT` (`deadline`), `ETIME` (that of a `timeout`
    /// around this), `EBADF` (closed meanwhile), `ECANCELED` (also while
    /// unwinding: no coroutine may park then), `EPERM` (a regular file is always
    /// ready and can't be polled), or whatever else a [`WatchError`] is. Where that is
    /// [`WatchError::Exhausted`] this returns early, time and again.
    #[inline(always)]
    pub(crate) fn wait(
        self,
        fd: RawFd,
        condition: impl Into<Condition>,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        self.wait_or_again(fd, condition, deadline, false)
    }

    /// As [`CurrentTask::wait`]; `again` if the same call has waited before. Then it is
    /// `EBADF` as well if another thread has closed the number since.
    #[inline(always)]
    pub(crate) fn wait_or_again(
        self,
        fd: RawFd,
        condition: impl Into<Condition>,
        deadline: Option<Instant>,
        mut again: bool,
    ) -> io::Result<()> {
        let condition = condition.into();
        loop {
            self.check_parkable_for(condition.direction())?;
            let started = self.begin_wait(fd, condition, again);
            again = true;
            let key = match started {
                Ok(key) => key,
                Err(error) => return self.wait_unwatched(error, deadline),
            };
            self.park_until(deadline);
            match self.end_wait(key) {
                Outcome::Ready => return Ok(()),
                Outcome::Closed => return Err(io::Error::from_raw_os_error(errno::EBADF)),
                Outcome::Pending if deadline.is_some_and(|at| self.now() >= at) => {
                    return Err(io::Error::from_raw_os_error(errno::ETIMEDOUT));
                }
                Outcome::Pending => {}
            }
        }
    }

    /// Nothing ends the coroutine, no `timeout` is around this, and it may park.
    #[inline(always)]
    pub(crate) fn waits_without_limit(self) -> bool {
        !self.slot().has(Flags::ENDING) && !std::thread::panicking() && self.on_own_stack()
    }

    /// The first half of a wait that keeps as little on the stack as can be:
    /// then comes [`CurrentTask::suspend_until_woken`], then [`CurrentTask::end_wait`].
    ///
    /// `again`: the call has waited before, see [`CurrentTask::wait_or_again`].
    #[inline(always)]
    pub(crate) fn begin_wait(
        self,
        fd: RawFd,
        condition: impl Into<Condition>,
        again: bool,
    ) -> Result<WaitKey, WatchError> {
        if again {
            self.restart_wait(fd, condition.into())
        } else {
            self.start_wait(fd, condition)
        }
    }

    /// [`CurrentTask::begin_wait`] if the next step is to wait, and not to try.
    #[inline(always)]
    pub(crate) fn begin_wait_if_not_ready(
        self,
        fd: RawFd,
        direction: Direction,
    ) -> Option<WaitKey> {
        // A signal handler may have interrupted the driver.
        let mut driver = self.worker().driver.try_borrow_mut()?;
        driver
            .reactor
            .wait_if_not_ready(fd, direction, self.waker())
            .inspect(|_| self.note_wait(|| WaitTarget::Descriptor(fd, direction.into())))
    }

    /// Back to the worker, as [`CurrentTask::suspend`] where
    /// [`CurrentTask::waits_without_limit`].
    #[inline(always)]
    pub(crate) fn suspend_until_woken() {
        debug_assert!(Self::running().is_some_and(Self::waits_without_limit));
        // SAFETY: the yielder is that of the running coroutine, which calls this on
        // its own stack: elsewhere no wait is begun (I13).
        unsafe { switch::suspend(Worker::yielder(), SwitchReason::Parked) };
    }

    /// Parks until any of the descriptors may be ready, or closed, or until `until`,
    /// or for a moment; the caller looks. What is always ready is not waited for: it
    /// stays as it is. The coroutine's end does not cut it short: for what takes no
    /// error.
    pub(crate) fn wait_on_any(self, fds: &[(RawFd, Condition)], until: Option<Instant>) {
        for &(fd, condition) in fds {
            self.clear_readiness(fd, condition);
        }
        let mut refused = None;
        let mut start = |&(fd, condition): &(RawFd, Condition)| match refused {
            None => match self.start_wait(fd, condition) {
                Ok(key) => Some(key),
                Err(WatchError::AlwaysReady) => None,
                Err(error) => {
                    refused = Some(error);
                    None
                }
            },
            Some(_) => None,
        };
        // The usual one without allocation.
        let (first, others) = match fds {
            [] => (None, Vec::new()),
            [one, others @ ..] => (start(one), others.iter().filter_map(start).collect()),
        };
        self.park_regardless_until(match refused {
            Some(error) => Some(self.soon(error, until)),
            None => until,
        });
        for key in first.into_iter().chain(others) {
            self.end_wait(key);
        }
    }

    /// Parks until a stream has something to read, where it is known to have nothing: what
    /// `poll` finds, without asking the kernel before or after. `false`: one does not know
    /// (it ends, `until` has come, or the wait was cut short); ask.
    pub(crate) fn has_become_readable(self, fd: RawFd, until: Option<Instant>) -> bool {
        if !self.waits_without_limit() {
            return false;
        }
        let Some(key) = self.begin_wait_if_not_ready(fd, Direction::Read) else {
            return false;
        };
        let worker = self.worker();
        let turns = worker.handle.counters.turns.get();
        self.park_regardless_until(until);
        let woken = self.end_wait(key) == Outcome::Ready;
        // Not by an event from before, of bytes that have been read since.
        woken && worker.handle.counters.turns.get() != turns && {
            let driver = worker.driver.borrow();
            driver.reactor.table.is_readable_stream(fd)
        }
    }

    /// The kernel watches no more descriptors for us (`error`): comes back soon
    /// for another look, so that all works on, only slower. Other errors are
    /// the caller's.
    #[cold]
    fn wait_unwatched(self, error: WatchError, deadline: Option<Instant>) -> io::Result<()> {
        if !matches!(error, WatchError::Exhausted(_)) {
            return Err(error.into());
        }
        self.park_until(Some(self.soon(error, deadline)));
        if deadline.is_some_and(|at| self.now() >= at) {
            return Err(io::Error::from_raw_os_error(errno::ETIMEDOUT));
        }
        self.check_parkable()
    }

    /// When to look again at what is not watched, for this reason.
    #[cold]
    fn soon(self, error: WatchError, deadline: Option<Instant>) -> Instant {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if matches!(error, WatchError::Exhausted(_)) && !TOLD.swap(true, Ordering::Relaxed) {
            report(format_args!(
                "the kernel watches no more descriptors ({}): those beyond are looked at every \
                 {} ms; raise fs.epoll.max_user_watches",
                io::Error::from(error),
                LOOK_EVERY.as_millis()
            ));
        }
        let soon = self.now() + LOOK_EVERY;
        deadline.map_or(soon, |at| at.min(soon))
    }

    #[inline(always)]
    fn start_wait(self, fd: RawFd, condition: impl Into<Condition>) -> Result<WaitKey, WatchError> {
        let (waker, condition) = (self.waker(), condition.into());
        self.note_wait(|| WaitTarget::Descriptor(fd, condition));
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.wait(fd, condition, waker)
    }

    #[cold]
    fn restart_wait(self, fd: RawFd, condition: Condition) -> Result<WaitKey, WatchError> {
        self.note_wait(|| WaitTarget::Descriptor(fd, condition));
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.wait_again(fd, condition, self.waker())
    }

    /// What became of a wait. If it was woken, the next one for the descriptor is:
    /// what came may be for that one, too.
    #[inline(always)]
    pub(crate) fn end_wait(self, key: WaitKey) -> Outcome {
        let mut driver = self.worker().driver.borrow_mut();
        let outcome = driver.reactor.table.finish(key);
        let has_next = driver.reactor.table.has_next();
        drop(driver);
        if has_next {
            self.wake_next();
        }
        outcome
    }

    #[cold]
    #[inline(never)]
    fn wake_next(self) {
        let next = self.worker().driver.borrow_mut().reactor.table.take_next();
        next.inspect(Waker::wake_by_ref);
    }
}
