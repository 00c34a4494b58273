//! Floor 4: what a worker waits for: descriptors, time, and other threads.
//!
//! One [`Driver`] per worker thread, used by that thread alone: `&mut self`,
//! no locks. It takes `Waker`s and hands them back when their time has come;
//! it calls none of them and knows nothing of coroutines.
//!
//! - `pool` numbered nodes and lists · `wheel` timers in ticks · `clock` ticks
//!   and instants · `epoch` what other threads close · `fd` hints
//!   · `waiters` who waits for a descriptor · `reactor` epoll
//!
//! The life of a blocking call on a descriptor:
//!
//! ```text
//!  loop {
//!      if hint(fd, dir) == Try {
//!          try the call without blocking
//!              done                         → return (short, and stream(fd)? drained(fd, dir))
//!              EAGAIN                       → drained(fd, dir)
//!      }
//!      key = wait(fd, dir, waker)?          EPERM: a file, which is never waited for
//!      suspend                              … the worker turns; the waker comes back …
//!      match finish(key) { Ready → again, Closed → EBADF, Pending → timed out or cancelled }
//!  }
//! ```
//!
//! A call that found the descriptor ready need not be told: events only ever
//! end a direction's being drained.
//!
//! Nothing here ticks. With no timer and nobody waiting, or everybody's
//! registration checked, a blocking turn sleeps until something happens.
//! (One alarm that was set for a timer since removed may go off once.)

pub(crate) mod epoch;

mod clock;
mod fd;
mod pool;
mod reactor;
mod waiters;
mod wheel;

#[cfg(test)]
mod bench;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_ops;
#[cfg(test)]
mod rng;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use clock::Clock;
use reactor::Reactor;
use wheel::Wheel;

pub(crate) use fd::{Direction, Hint, Outcome};
pub(crate) use waiters::WaitKey;
pub(crate) use wheel::TimerKey;

/// Ends another thread's blocking turn.
pub(crate) use mio::Waker as RemoteWaker;

/// How a turn waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Not at all.
    Poll,
    /// Until an event, a timer or the remote waker, unless something is due.
    Park,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Descriptor(RawFd, Direction),
    Time(Instant),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Driver {
    clock: Clock,
    timers: Wheel<Waker>,
    reactor: Reactor,
}

impl Driver {
    /// A driver with nothing to wait for.
    ///
    /// # Errors
    ///
    /// It needs three descriptors: `EMFILE` and `ENFILE` in words.
    pub(crate) fn new() -> io::Result<Self> {
        let reactor = Reactor::new().map_err(|e| {
            io::Error::new(
                e.kind(),
                format!(
                    "cannot create a worker's reactor (an epoll, an eventfd and a timerfd): {e}; \
                     if descriptors ran out, raise `ulimit -n`"
                ),
            )
        })?;
        Ok(Self {
            clock: Clock::new(),
            timers: Wheel::new(),
            reactor,
        })
    }

    /// Ends a blocking turn, now or the next one, from any thread.
    pub(crate) fn remote_waker(&self) -> Arc<RemoteWaker> {
        self.reactor.remote_waker()
    }

    /// Whether to try a call or to wait at once.
    #[inline]
    pub(crate) fn hint(&self, fd: RawFd, direction: Direction) -> Hint {
        self.reactor.hint(fd, direction)
    }

    /// Whether a short read or write on `fd` shows that it is drained. Says
    /// no for a descriptor that was never waited for.
    ///
    /// True of plain TCP without urgent data. Where something in the kernel
    /// sits on the connection (kTLS, sockmap) a read may end short at a
    /// record; the check of parked waiters then finds what is left.
    #[inline]
    pub(crate) fn stream(&mut self, fd: RawFd) -> bool {
        self.reactor.is_stream(fd)
    }

    /// Notes that a call moved something, but less than asked, which drains
    /// what is a [`stream`](Self::stream).
    #[inline(always)]
    pub(crate) fn moved_short(&mut self, fd: RawFd, direction: Direction) {
        self.reactor.moved_short(fd, direction);
    }

    /// Notes that a call just found the direction not ready, or left it so.
    #[inline]
    pub(crate) fn drained(&mut self, fd: RawFd, direction: Direction) {
        self.reactor.set_drained(fd, direction);
    }

    /// Parks `waker` until the direction is ready. To be called when the hint
    /// was [`Hint::Drained`] or a call has failed with `EAGAIN` since the
    /// last turn: what was ready before is not reported again.
    ///
    /// # Errors
    ///
    /// `EBADF`; `EPERM` for files that are always ready; `ENOSPC` at
    /// `fs.epoll.max_user_watches`; `ENOMEM`.
    #[inline]
    pub(crate) fn wait(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> io::Result<WaitKey> {
        self.reactor.wait(fd, direction, waker)
    }

    /// As [`Driver::wait`] if the hint is [`Hint::Drained`].
    #[inline(always)]
    pub(crate) fn wait_if_drained(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> Option<WaitKey> {
        self.reactor.wait_if_drained(fd, direction, waker)
    }

    /// As [`Driver::wait`], for a call that has waited before, without any
    /// other wait on this driver since: `EBADF` also if the number was closed
    /// in between.
    pub(crate) fn wait_again(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
    ) -> io::Result<WaitKey> {
        self.reactor.wait_again(fd, direction, waker)
    }

    /// Ends a wait, whether it was woken or not, and says what happened.
    #[inline(always)]
    pub(crate) fn finish(&mut self, key: WaitKey) -> Outcome {
        self.reactor.finish(key)
    }

    /// Ends all waits on a descriptor whose epoch was bumped: call
    /// [`epoch::bump`], then this on every worker, then close or replace it.
    /// It may come late: what was registered after the bump stays.
    pub(crate) fn fd_gone(&mut self, fd: RawFd, woken: &mut Vec<Waker>) {
        self.reactor.fd_gone(fd, woken);
    }

    /// Wakes `waker` at `deadline` or up to a tick (65.5 µs) later.
    pub(crate) fn insert_timer(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        self.timers.insert(self.clock.ceil(deadline), waker)
    }

    /// Takes a timer back; false if it has fired.
    pub(crate) fn remove_timer(&mut self, key: TimerKey) -> bool {
        self.timers.remove(key).is_some()
    }

    /// The tick of the latest turn, which is about now for a worker that turns.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        self.reactor.now()
    }

    /// Everybody who waits here, with what for and, for descriptors, since when.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (&Waker, Awaited, Option<Duration>)> {
        let now = self.present();
        let descriptors = self.reactor.pending_all();
        let descriptors = descriptors.map(move |(waker, fd, direction, since)| {
            let ticks = u64::from((now as u32).wrapping_sub(since));
            let awaited = Awaited::Descriptor(fd, direction);
            (waker, awaited, Some(Clock::span(ticks)))
        });
        let timers = self.timers.all().filter_map(|(tick, waker)| {
            let at = self.clock.instant(tick)?;
            Some((waker, Awaited::Time(at), None))
        });
        descriptors.chain(timers)
    }

    /// How long ago a tick was.
    pub(crate) fn ago(&self, tick: u64) -> Duration {
        Clock::span(self.present().saturating_sub(tick))
    }

    fn present(&self) -> u64 {
        self.clock.floor(Instant::now())
    }

    /// A time at or before which no timer is due.
    #[cfg(test)]
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.clock.instant(self.timers.next_deadline()?)
    }

    /// Looks for due timers, appends the wakers of all whose they are to
    /// `woken`, and looks for events, which [`deliver`](Self::deliver) tells;
    /// not while there is a backlog of these. May return early with nothing.
    /// `now` is the time, and so is what is returned.
    ///
    /// # Errors
    ///
    /// None that can be expected: what `epoll_wait` and `timerfd_settime` say.
    pub(crate) fn turn(
        &mut self,
        mode: Turn,
        now: Instant,
        woken: &mut Vec<Waker>,
    ) -> io::Result<Instant> {
        let before = woken.len();
        self.reactor.begin_turn(self.clock.floor(now), woken);
        self.fire(woken);
        self.reactor.recheck(woken);
        if self.backlog() > 0 {
            return Ok(now);
        }
        if mode == Turn::Park && woken.len() == before && self.arm(now)? {
            self.reactor.poll(true)?;
            let now = Instant::now();
            self.reactor.begin_turn(self.clock.floor(now), woken);
            self.fire(woken);
            return Ok(now);
        }
        if !self.reactor.is_idle() {
            self.reactor.poll(false)?;
        }
        Ok(now)
    }

    /// How many events have not been delivered.
    #[inline(always)]
    pub(crate) fn backlog(&self) -> usize {
        self.reactor.backlog()
    }

    /// Appends the wakers of all whom the next `most` events concern. Those
    /// after them are asked from memory for the next call: who delivers a few,
    /// lets them run and comes again waits for memory but once, where a
    /// thousand are evicted again before they run.
    pub(crate) fn deliver(&mut self, most: usize, woken: &mut Vec<Waker>) {
        self.reactor.deliver(most, woken);
    }

    /// Fires the timers that are due by the turn's time.
    fn fire(&mut self, woken: &mut Vec<Waker>) {
        self.timers
            .advance(self.reactor.now(), &mut |waker| woken.push(waker));
    }

    /// Sets the alarm for what has to be done next; false if that is now.
    fn arm(&mut self, now: Instant) -> io::Result<bool> {
        let timer = self.timers.next_deadline();
        let check = self.reactor.next_check();
        let first = timer.map(|timer| check.map_or(timer, |check| timer.min(check)));
        let Some(tick) = first.or(check) else {
            return Ok(true);
        };
        if tick <= self.reactor.now() {
            return Ok(false);
        }
        // A tick beyond the clock's end never comes.
        if let Some(at) = self.clock.instant(tick) {
            self.reactor.arm(tick, at.saturating_duration_since(now))?;
        }
        Ok(true)
    }
}
