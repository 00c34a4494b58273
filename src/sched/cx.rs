//! The coroutine's side: how code that runs in a coroutine waits.
//!
//! Every wait has the same shape: leave a waker with whoever will know, then
//! [`Cx::suspend`], then look again. Nothing else runs on this thread between
//! the two, and a wake-up from another thread lies in the inbox until the
//! worker reads it on its own stack; so no wake-up can fall in between (I1).

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::wake;
use super::worker::Worker;
use crate::driver::{Clock, Direction, Hint, Outcome, TimerKey, WaitKey, WatchError};
use crate::switch::{self, SwitchReason};
use crate::sys::errno;
use crate::task::{Addr, Flags, RUNNING, Slot};
use crate::util::section::Section;

/// How long a descriptor that the kernel does not watch is left alone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

thread_local! {
    /// The slot of a coroutine that polls a foreign future just now.
    static POLLING: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// "This code runs in a coroutine." Valid until the coroutine ends; it never
/// leaves the coroutine's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cx(NonNull<Slot>);

impl Cx {
    /// For calls on descriptors: `None` on plain threads, on a worker's own
    /// stack, and inside `unhooked`. While unwinding too such a call goes
    /// through here, but it has one try only: [`Cx::wait`] fails then.
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        Self::running().filter(|cx| !cx.slot().has(Flags::UNHOOKED))
    }

    /// For our own functions: `None` outside coroutines only.
    #[inline(always)]
    pub(crate) fn running() -> Option<Self> {
        NonNull::new(RUNNING.get().cast_mut()).map(Self)
    }

    /// For our own timed waits: a coroutine that may park. One that unwinds
    /// may not (it would show its panic count to all others on this thread);
    /// then the caller blocks the thread for real.
    #[inline(always)]
    pub(crate) fn parkable() -> Option<Self> {
        Self::running().filter(|cx| cx.may_park())
    }

    /// Whether this code runs on the coroutine's stack, as it does but for
    /// signal handlers with a stack of their own (I13): the next handler begins
    /// at the top of that.
    #[inline(always)]
    pub(crate) fn is_at_home(self) -> bool {
        // SAFETY: this coroutine runs here.
        unsafe { Worker::runs_at(switch::stack_pointer()) }
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> &'static Slot {
        // SAFETY: slots stay where they are (I2) and ours is live while we run.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn worker(self) -> &'static Worker {
        Worker::current().expect("a coroutine runs on a worker")
    }

    /// What time it is, by the worker's clock.
    #[inline(always)]
    pub(super) fn now(self) -> Instant {
        if Clock::all_show_system_time() {
            Instant::now()
        } else {
            self.worker().clock.now()
        }
    }

    /// The coroutine's address.
    #[inline(always)]
    pub(crate) fn addr(self) -> Addr {
        self.worker().addr(self.slot())
    }

    /// What the coroutine is known by.
    pub(crate) fn identity(self) -> Addr {
        self.worker().identity(self.slot())
    }

    /// Wakes this coroutine.
    #[inline(always)]
    pub(crate) fn waker(self) -> Waker {
        wake::waker(self.addr())
    }

    /// Whether this coroutine is the only one that its worker has.
    pub(crate) fn is_alone(self) -> bool {
        self.worker().slots.live() <= 1
    }

    /// Whether this coroutine's frames may be copied away while it is parked.
    #[inline(always)]
    pub(crate) fn is_shared(self) -> bool {
        self.slot().has(Flags::SHARED)
    }

    /// Whether this coroutine may park now. While it unwinds it may not: it
    /// would show its panic count to all others on this thread (I10). Unless
    /// the count is its own; and it is not ending, which nobody could tell it.
    #[inline(always)]
    pub(crate) fn may_park(self) -> bool {
        !std::thread::panicking() || self.may_park_panicking()
    }

    #[cold]
    fn may_park_panicking(self) -> bool {
        self.has_own_locals() && !self.is_ending()
    }

    /// Back to the worker; returns when the coroutine is resumed. Wake-ups may
    /// be spurious.
    ///
    /// # Panics
    ///
    /// While unwinding: see [`Cx::current`]. The panic aborts the process, as
    /// any panic while unwinding does, with a message that says why.
    #[inline(always)]
    pub(crate) fn suspend(self, reason: SwitchReason) {
        debug_assert!(!Section::is_here(), "a coroutine suspends in a section");
        if std::thread::panicking() && !self.may_park_panicking() {
            refuse_while_panicking();
        }
        // SAFETY: this code runs in the coroutine whose yielder the worker set
        // when it resumed it.
        unsafe { switch::suspend(Worker::yielder(), reason) };
    }

    /// Parks until woken, or until the deadline of a `timeout` around this at
    /// the latest; may return early.
    #[inline(always)]
    pub(crate) fn park(self) {
        if self.slot().has(Flags::LIMITED) {
            self.park_limited();
        } else {
            self.suspend(SwitchReason::Parked);
        }
    }

    #[cold]
    fn park_limited(self) {
        self.park_until(None);
    }

    /// As [`Cx::park`], and until `deadline` at the latest.
    #[inline(always)]
    pub(crate) fn park_until(self, deadline: Option<Instant>) {
        let first = deadline.into_iter().chain(self.deadline()).min();
        let timer = first.map(|at| self.start_timer(at));
        self.suspend(SwitchReason::Parked);
        timer.inspect(|&key| self.stop_timer(key));
    }

    /// As [`Cx::park_until`], but no `timeout` around this ends it early: for
    /// waits whose callers could not tell.
    pub(crate) fn park_regardless_until(self, deadline: Option<Instant>) {
        let timer = deadline.map(|at| self.start_timer(at));
        self.suspend(SwitchReason::Parked);
        timer.inspect(|&key| self.stop_timer(key));
    }

    /// As [`Cx::park_until`], for waits that can't return without what they wait
    /// for: a `timeout` around this ends them by unwinding, or, in a program that
    /// aborts on panics, not at all.
    #[inline(always)]
    pub(crate) fn park_for_output(self, deadline: Option<Instant>) {
        if cfg!(panic = "abort") {
            self.park_regardless_until(deadline);
        } else if deadline.is_none() {
            self.park();
        } else {
            self.park_until(deadline);
        }
    }

    /// Lets the other runnable coroutines run.
    #[inline(always)]
    pub(crate) fn yield_now(self) {
        self.suspend(SwitchReason::Yielded);
    }

    /// Counts one operation that did not park; yields when the coroutine has
    /// done so many that others should have their turn.
    #[inline(always)]
    pub(crate) fn spend(self) {
        let budget = &self.worker().budget;
        budget.set(budget.get().saturating_sub(1));
        if budget.get() == 0 && self.may_park() && !self.is_polling() && self.is_at_home() {
            self.yield_now();
        }
    }

    /// Polls a foreign future. Executors keep in thread-locals what they do for
    /// the time of a poll, so no other coroutine should run meanwhile: not for
    /// fairness, and not because of a lock that somebody holds for a moment.
    pub(crate) fn poll<T>(self, poll: impl FnOnce() -> T) -> T {
        struct Polled;
        impl Drop for Polled {
            fn drop(&mut self) {
                POLLING.with(|polling| polling.set(ptr::null()));
            }
        }
        POLLING.with(|polling| polling.set(self.slot()));
        let _polled = Polled;
        poll()
    }

    /// Whether this coroutine is in [`Cx::poll`], and shares its thread-locals.
    /// It may be forgotten when others polled, too, while it waited in there.
    pub(crate) fn is_polling(self) -> bool {
        ptr::eq(POLLING.get(), self.slot()) && !self.has_own_locals()
    }

    /// Sleeps. `ECANCELED` if cancelled, `ETIME` if a `timeout` ends first.
    pub(crate) fn sleep_until(self, deadline: Instant) -> io::Result<()> {
        loop {
            self.check_parkable()?;
            if self.now() >= deadline {
                return Ok(());
            }
            self.park_until(Some(deadline));
        }
    }

    /// Takes the park token, parking until there is one. Ends early as
    /// [`Cx::unwind_or_return`] says.
    ///
    /// All in one frame: it is what a parked coroutine keeps.
    #[inline(always)]
    pub(crate) fn take_token(self) {
        loop {
            if self.unwind_or_return() || self.slot().take(Flags::TOKEN) {
                return;
            }
            self.park();
        }
    }

    /// As [`Cx::take_token`], until `deadline` at the latest.
    pub(crate) fn take_token_until(self, deadline: Option<Instant>) {
        loop {
            if self.unwind_or_return()
                || self.slot().take(Flags::TOKEN)
                || deadline.is_some_and(|at| self.now() >= at)
            {
                return;
            }
            self.park_until(deadline);
        }
    }

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
    pub(crate) fn drained(self, fd: RawFd, direction: Direction) {
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

    /// Whether a short transfer means drained.
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
    /// unwinding: nobody may park then), `EPERM` (a regular file is always
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
    pub(crate) fn begin_wait_if_drained(self, fd: RawFd, direction: Direction) -> Option<WaitKey> {
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
        // SAFETY: the yielder is that of the coroutine that runs, which is who
        // calls this: nobody else has begun a wait.
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
            eprintln!(
                "crore: the kernel watches no more descriptors ({}): those beyond are looked \
                 at every {} ms; raise fs.epoll.max_user_watches",
                io::Error::from(error),
                LOOK_EVERY.as_millis()
            );
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

    fn start_timer(self, at: Instant) -> TimerKey {
        let waker = self.waker();
        self.worker().driver.borrow_mut().insert_timer(at, waker)
    }

    fn stop_timer(self, key: TimerKey) {
        self.worker().driver.borrow_mut().remove_timer(key);
    }
}

/// Switches this coroutine's hooks off or on; returns whether they were off.
/// On a plain thread there is nothing to switch: `false`.
pub(crate) fn set_unhooked(off: bool) -> bool {
    let Some(cx) = Cx::running() else {
        return false;
    };
    let was_off = cx.slot().take(Flags::UNHOOKED);
    if off {
        cx.slot().set(Flags::UNHOOKED);
    }
    was_off
}

#[cold]
fn refuse_while_panicking() -> ! {
    panic!(
        "a coroutine must not park while it unwinds: a destructor waits (join, lock, sleep, \
         channel, yield); let it try without waiting, or do the waiting before the panic"
    );
}
