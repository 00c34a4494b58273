//! Descriptor waits: parks the current task until a descriptor may be ready.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::current::Cx;
use super::worker::Worker;
use crate::driver::{Direction, Hint, Outcome, WaitKey, WatchError};
use crate::switch::{self, SwitchReason};
use crate::sys::errno;
use crate::sys::report::report;
use crate::task::Flags;

/// How long a descriptor that the kernel does not watch is left alone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Cx {
    /// `false`: the descriptor is known not to be ready; park without a try.
    #[inline(always)]
    pub(crate) fn worth_trying(self, fd: RawFd, direction: Direction) -> bool {
        // A signal handler may have interrupted the driver.
        let driver = self.worker().driver.try_borrow();
        driver.map_or(true, |driver| {
            driver.reactor.table.hint(fd, direction) == Hint::Try
        })
    }

    /// A call said `EAGAIN`.
    #[inline]
    pub(crate) fn clear_readiness(self, fd: RawFd, direction: Direction) {
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.table.clear_readiness(fd, direction);
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
        direction: Direction,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        self.wait_or_again(fd, direction, deadline, false)
    }

    /// As [`Cx::wait`]; `again` if the same call has waited before. Then it is
    /// `EBADF` as well if another thread has closed the number since.
    #[inline(always)]
    pub(crate) fn wait_or_again(
        self,
        fd: RawFd,
        direction: Direction,
        deadline: Option<Instant>,
        mut again: bool,
    ) -> io::Result<()> {
        loop {
            self.check_parkable()?;
            let started = self.begin_wait(fd, direction, again);
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
        !self.slot().has(Flags::ENDING) && !std::thread::panicking() && self.is_at_home()
    }

    /// The first half of a wait that keeps as little on the stack as can be:
    /// then comes [`Cx::suspend_until_woken`], then [`Cx::end_wait`].
    ///
    /// `again`: the call has waited before, see [`Cx::wait_or_again`].
    #[inline(always)]
    pub(crate) fn begin_wait(
        self,
        fd: RawFd,
        direction: Direction,
        again: bool,
    ) -> Result<WaitKey, WatchError> {
        if again {
            self.restart_wait(fd, direction)
        } else {
            self.start_wait(fd, direction)
        }
    }

    /// [`Cx::begin_wait`] if the next step is to wait, and not to try.
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
    }

    /// Back to the worker, as [`Cx::suspend`] where
    /// [`Cx::waits_without_limit`].
    #[inline(always)]
    pub(crate) fn suspend_until_woken() {
        debug_assert!(Self::running().is_some_and(Self::waits_without_limit));
        // SAFETY: the yielder is that of the running coroutine, which calls this on
        // its own stack: elsewhere no wait is begun (I13).
        unsafe { switch::suspend(Worker::yielder(), SwitchReason::Parked) };
    }

    /// Parks until any of the descriptors may be ready, or closed. Errors as
    /// [`Cx::wait`], but for `EPERM` and `EBADF` which the caller's next try
    /// will meet.
    pub(crate) fn wait_any(
        self,
        fds: &[(RawFd, Direction)],
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        loop {
            self.check_parkable()?;
            let mut keys = Vec::with_capacity(fds.len());
            let mut refused = None;
            for &(fd, direction) in fds {
                match self.start_wait(fd, direction) {
                    Ok(key) => keys.push(key),
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            if refused.is_none() {
                self.park_until(deadline);
            }
            let mut ready = false;
            for key in keys {
                ready |= !matches!(self.end_wait(key), Outcome::Pending);
            }
            match refused {
                Some(error) if !matches!(error, WatchError::AlwaysReady | WatchError::NotOpen) => {
                    return self.wait_unwatched(error, deadline);
                }
                Some(_) => return Ok(()),
                None if ready => return Ok(()),
                None => {}
            }
            if deadline.is_some_and(|at| self.now() >= at) {
                return Err(io::Error::from_raw_os_error(errno::ETIMEDOUT));
            }
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
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::Relaxed) {
            report(format_args!(
                "the kernel watches no more descriptors ({}): those beyond are looked at every \
                 {} ms; raise fs.epoll.max_user_watches",
                io::Error::from(error),
                LOOK_EVERY.as_millis()
            ));
        }
        let soon = self.now() + LOOK_EVERY;
        self.park_until(Some(deadline.map_or(soon, |at| at.min(soon))));
        if deadline.is_some_and(|at| self.now() >= at) {
            return Err(io::Error::from_raw_os_error(errno::ETIMEDOUT));
        }
        self.check_parkable()
    }

    #[inline(always)]
    fn start_wait(self, fd: RawFd, direction: Direction) -> Result<WaitKey, WatchError> {
        let waker = self.waker();
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.wait(fd, direction, waker)
    }

    #[cold]
    fn restart_wait(self, fd: RawFd, direction: Direction) -> Result<WaitKey, WatchError> {
        let mut driver = self.worker().driver.borrow_mut();
        driver.reactor.wait_again(fd, direction, self.waker())
    }

    /// What became of a wait.
    #[inline(always)]
    pub(crate) fn end_wait(self, key: WaitKey) -> Outcome {
        self.worker().driver.borrow_mut().reactor.table.finish(key)
    }
}
