//! The I/O driver: what a worker waits for: descriptors, time, and
//! other threads.
//!
//! One [`Driver`] per worker thread, used by that thread alone: `&mut self`,
//! no locks. It takes `Waker`s and hands them back when their time has come;
//! it calls none of them and knows nothing of coroutines.
//!
//! - `linked_slab` numbered nodes and lists · `wheel` timers in ticks · `clock`
//!   ticks and instants · `wait_queue` the waiters of a descriptor · `fd_table`
//!   readiness · `poller` the kernel's event queue · `reactor` what is registered
//!   there
//!
//! The life of a blocking call on a descriptor:
//!
//! ```text
//!  loop {
//!      if table.hint(fd, dir) == Try {
//!          try the call without blocking
//!              done      → return (moved less than asked? moved_short(fd, dir))
//!              EAGAIN    → table.clear_readiness(fd, dir)
//!      }
//!      key = reactor.wait(fd, dir, waker)?   (WatchError)
//!      suspend                               … poll or park; dispatch hands the waker back …
//!      match table.finish(key) { Ready → again, Closed → EBADF, Pending → timed out or cancelled }
//!  }
//! ```
//!
//! A call that found the descriptor ready need not be told: an event only ever
//! says that a direction may be ready again.
//!
//! Nothing here ticks. With no timer and no waiter, or every waiter's
//! registration validated, [`Driver::park`] sleeps until something happens.
//! (A timer fd that was set for a timer since removed may end one sleep early.)

mod clock;
mod fd_table;
mod linked_slab;
#[cfg(any(test, fuzzing))]
mod memory;
mod poller;
mod reactor;
mod wait_queue;
mod wheel;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_ops;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;
use std::task::Waker;
use std::time::{Duration, Instant};

use reactor::Reactor;
use wheel::Wheel;

pub(crate) use clock::{Clock, Moment, ticks};
pub(crate) use fd_table::Hint;
#[cfg(test)]
pub(crate) use memory::{FileKind, MemoryBackend};
#[cfg(test)]
pub(crate) use poller::Readiness;
pub(crate) use poller::{Backend, DeregisterFn, Epoll, Notifier, WatchError};
pub(crate) use wait_queue::{Condition, Direction, Outcome, WaitKey};
pub(crate) use wheel::TimerKey;
#[cfg(any(feature = "sim", all(test, loom)))]
pub(crate) use {
    clock::TimeSource,
    poller::{Poller, ReadyEvent},
};

/// What a waker that the driver holds waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitTarget {
    Descriptor(RawFd, Condition),
    Time(Instant),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Driver {
    clock: Clock,
    timers: Wheel<Waker>,
    pub(crate) reactor: Reactor,
    /// The tick at which [`Driver::park`] is to return for something else.
    pub(crate) upkeep: Option<u64>,
}

impl Driver {
    /// A driver with nothing to wait for.
    ///
    /// # Errors
    ///
    /// What [`Backend::poller`] says.
    pub(crate) fn new(backend: &dyn Backend) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::new(backend.time()),
            timers: Wheel::new(),
            reactor: Reactor::new(backend.poller()?),
            upkeep: None,
        })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Wakes `waker` at `deadline` or up to a tick (65.5 µs) later.
    #[inline(always)]
    pub(crate) fn insert_timer(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        self.timers.insert(self.clock.ceil(deadline), waker)
    }

    /// Takes a timer back; false if it has fired.
    #[inline(always)]
    pub(crate) fn remove_timer(&mut self, key: TimerKey) -> bool {
        self.timers.remove(key).is_some()
    }

    /// All that wait here, for what, and for descriptors since when.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (&Waker, WaitTarget, Option<Duration>)> {
        let now = self.present();
        let descriptors = self.reactor.table.pending_all();
        let descriptors = descriptors.map(move |(waker, fd, condition, since)| {
            let ticks = u64::from((now as u32).wrapping_sub(since));
            let target = WaitTarget::Descriptor(fd, condition);
            (waker, target, Some(Clock::span(ticks)))
        });
        let timers = self.timers.all().filter_map(|(tick, waker)| {
            let at = self.clock.instant(tick)?;
            Some((waker, WaitTarget::Time(at), None))
        });
        descriptors.chain(timers)
    }

    /// How many timers are set.
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// How long ago a tick was.
    pub(crate) fn ago(&self, tick: u64) -> Duration {
        Clock::span(self.present().saturating_sub(tick))
    }

    fn present(&self) -> u64 {
        self.clock.moment().tick()
    }

    /// A time at or before which no timer is due.
    #[cfg(test)]
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.clock.instant(self.timers.next_deadline()?)
    }

    /// Appends to `woken` the wakers of all timers that are due at `now`, and
    /// takes events from the kernel, for [`Reactor::dispatch`]; not while some
    /// are pending. Never blocks.
    ///
    /// # Errors
    ///
    /// None that can be expected: what `epoll_wait` says.
    pub(crate) fn poll(&mut self, now: Moment, woken: &mut Vec<Waker>) -> io::Result<()> {
        self.run_due(now, woken);
        if self.reactor.pending_events() == 0 && !self.reactor.table.is_idle() {
            self.reactor.poll(false)?;
        }
        Ok(())
    }

    /// As [`poll`](Self::poll), but with nothing due and no event pending it
    /// first sleeps until an event, a timer or the notifier. May return early
    /// with nothing. Returns the time.
    ///
    /// # Errors
    ///
    /// None that can be expected: what `epoll_wait` and `timerfd_settime` say.
    pub(crate) fn park(&mut self, now: Moment, woken: &mut Vec<Waker>) -> io::Result<Moment> {
        let before = woken.len();
        self.run_due(now, woken);
        if self.reactor.pending_events() > 0 {
            return Ok(now);
        }
        if woken.len() == before && self.arm(now)? {
            self.reactor.poll(true)?;
            let now = self.clock.moment();
            self.reactor.set_now(now.tick(), woken);
            self.fire(woken);
            return Ok(now);
        }
        if !self.reactor.table.is_idle() {
            self.reactor.poll(false)?;
        }
        Ok(now)
    }

    /// All that is due at `now`: timers, and validations of registrations.
    #[inline]
    fn run_due(&mut self, now: Moment, woken: &mut Vec<Waker>) {
        self.reactor.set_now(now.tick(), woken);
        self.fire(woken);
        self.reactor.revalidate(woken);
    }

    /// Fires the timers that are due by the reactor's time.
    #[inline]
    fn fire(&mut self, woken: &mut Vec<Waker>) {
        self.timers
            .advance(self.reactor.now(), &mut |waker| woken.push(waker));
    }

    /// Sets the timer fd for what has to be done next; false if that is now.
    fn arm(&mut self, now: Moment) -> io::Result<bool> {
        let timer = self.timers.next_deadline();
        let next = earlier(timer, self.reactor.next_validation());
        let Some(tick) = earlier(next, self.upkeep) else {
            return Ok(true);
        };
        if tick <= self.reactor.now() {
            return Ok(false);
        }
        self.reactor.arm(tick, now.until(tick))?;
        Ok(true)
    }
}

/// The earlier of two times, if there is one.
#[inline(always)]
pub(crate) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}
