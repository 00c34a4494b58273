//! The worker's loop: its run queue, its looks at the kernel, its sleep.

use std::hint;
use std::io;
use std::ptr;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::cancel::why_unwound;
use super::label::TaskLabel;
use super::worker::{PARK_TIME_BITS, Worker};
use crate::driver::Driver;
use crate::switch::{Carrier, EntryPoint, SwitchReason};
use crate::sys::fork;
use crate::sys::syscall::sched_yield;
use crate::task::{self, Flags, JoinError, JoinRef, Slot, TaskState, set_running};
use crate::util::prefetch;

/// Coroutines resumed before the worker looks at the clock and the inbox.
const SLICE: u32 = 64;

/// Of so many coroutines resumed at most one is new, as long as others wait.
const START_EVERY: u32 = 2;

/// How far ahead in the run queue memory is asked for: the frames half as far,
/// the slots twice as far. Resumes of shared coroutines in random order, ns of CPU:
///
/// | distance | 2 | 4 | 8 | 12 | 16 | 32 |
/// |---|---|---|---|---|---|---|
/// | a million | 84 | 72 | 65 | 70 | 60 | 68 |
/// | five million | 152 | 119 | 80 | 90 | 92 | 184 |
///
/// (A group of eight at a time, so that the processor looks for eight pages at
/// once: on own stacks a yield takes 4 ns more among a thousand, 20 more among
/// 100 000; but those that have been parked are resumed faster, of a million in
/// random order in 195 ns instead of 275, and their timers in half the time.)
const AHEAD: usize = 8;

/// So many in the queue are enough for the look ahead.
const ENOUGH: usize = 3 * AHEAD;

/// A busy worker asks the kernel for readiness this often: rarely enough that
/// the system call (0.5 µs) does not show among yields of 15 ns. And not before
/// all tasks have run that were woken the last time: those woken now would only
/// stand behind them.
const POLL_EVERY: Duration = Duration::from_micros(200);

/// For how long a worker looks out for mail before it sleeps, if its last
/// sleep was ended by mail within this time: about what a sleep and a wake-up
/// cost, so it never loses more than it could have saved, and that only once.
const SPIN: Duration = Duration::from_micros(20);

/// Looks at the mailbox for each look at the clock.
const GLANCES: u32 = 16;

/// Room in the run queue that an idle worker keeps.
const QUEUE_KEPT: usize = 1 << 16;

/// Hooked operations that a coroutine may do between two parks.
pub(super) const BUDGET: u32 = 128;

impl Worker {
    /// Runs coroutines until the runtime stops and all of this worker's have
    /// ended. The worker that has the main task stops the runtime.
    ///
    /// # Errors
    ///
    /// What `epoll_wait` says, which is never the caller's fault: then the
    /// coroutines are still there, so the caller must not go on.
    pub(crate) fn run(&self, main: Option<&JoinRef>) -> io::Result<()> {
        self.polled.set(self.clock.now());
        self.round.set(0);
        loop {
            self.slice();
            if self.handle.mailbox.has_mail() {
                self.read_mail();
            }
            if main.is_some_and(JoinRef::is_done) && !self.workers.is_stopping() {
                self.workers.stop();
            }
            if self.workers.is_stopping() && !self.stopping.get() {
                self.stop();
            }
            if self.events_pending.get() {
                // However many are in the queue.
                self.dispatch(SLICE as usize);
                self.begin_round();
            } else if !self.queue.brief().is_empty() {
                self.poll_if_due()?;
            } else if !self.take_work() {
                if self.stopping.get() && self.slots.live() == 0 {
                    self.stacks.count();
                    return Ok(());
                }
                self.polled.set(if self.notify_of_ends() {
                    self.clock.now()
                } else {
                    self.idle()?
                });
                self.begin_round();
            }
        }
    }

    /// Resumes up to [`SLICE`] coroutines.
    #[inline]
    fn slice(&self) {
        for turn in 0..SLICE {
            if turn % START_EVERY == 0 && self.handle.mailbox.has_injected() {
                self.accept_injected();
            }
            let next = self.pop(turn);
            let Some(index) = next else { return };
            self.resume(index);
        }
    }

    /// The others are to run before the driver is polled again.
    fn begin_round(&self) {
        let queued = self.queue.borrow().len() as u64;
        self.round.set(self.handle.counters.resumed.get() + queued);
    }

    /// Polls the driver if everybody has run who was woken by the last poll, and
    /// that was some time ago.
    fn poll_if_due(&self) -> io::Result<()> {
        if self.handle.counters.resumed.get() >= self.round.get() {
            let now = self.clock.now();
            if now - self.polled.get() >= POLL_EVERY {
                self.polled.set(now);
                self.look(|driver, woken| driver.poll(now, woken))?;
                self.begin_round();
            }
        }
        Ok(())
    }

    /// A coroutine has used up its budget, which may have taken milliseconds: the
    /// clock is looked at before the slice is over. (Should the poll fail, so will
    /// that of the loop.)
    #[cold]
    fn budget_used_up(&self) {
        let _ = self.poll_if_due();
    }

    /// Takes one task that has not started, our own or another worker's.
    #[inline(never)]
    fn take_work(&self) -> bool {
        let stolen = || self.workers.steal(self.position);
        (self.handle.mailbox.has_injected() && self.accept_injected())
            || stolen().is_some_and(|task| self.accept(task))
    }

    /// The next task to run; and a word to the processor about those after it:
    /// first their slots, then, when these have arrived, what the slots lead to,
    /// and then what that leads to.
    #[inline(always)]
    fn pop(&self, turn: u32) -> Option<u32> {
        if turn as usize % AHEAD == 0 && self.events_pending.get() {
            self.dispatch_early();
        }
        let mut queue = self.queue.brief();
        let next = queue.pop_front()?;
        if let Some(&far) = queue.get(2 * AHEAD) {
            prefetch(ptr::from_ref(self.slots.slot(far)).cast());
            self.stacks.prefetch(self.slots.slot(queue[AHEAD]));
            let near = self.slots.slot(queue[AHEAD / 2]);
            self.stacks.prefetch_frames(near);
        }
        Some(next)
    }

    /// Keeps the queue long enough for the look ahead, while there are events.
    #[inline(never)]
    fn dispatch_early(&self) {
        if self.queue.brief().len() < ENOUGH {
            self.dispatch(AHEAD);
        }
    }

    /// Wakes the tasks that the next events concern. A few at a time: between the
    /// event of a thousandth and its turn to run the others would have displaced
    /// from the cache what both of them touch.
    #[inline(never)]
    fn dispatch(&self, most: usize) {
        let mut woken = self.woken.take();
        let mut driver = self.driver.borrow_mut();
        driver.reactor.dispatch(most, &mut woken);
        self.events_pending.set(driver.reactor.pending_events() > 0);
        drop(driver);
        self.wake_all(woken);
    }

    /// With nothing to do: wakes the quiescence waiters, if tasks have ended since.
    /// They may be ours, so there may be something to do after `true`.
    fn notify_of_ends(&self) -> bool {
        let ended = self.handle.counters.ended.get();
        let waiters = &self.workers.quiescence;
        let notify = waiters.any() && self.ended_notified.replace(ended) != ended;
        if notify {
            waiters.notify();
        }
        notify
    }

    /// Sleeps until something happens. See README.md for why nothing that
    /// happens is missed. Returns the time.
    #[inline(never)]
    fn idle(&self) -> io::Result<Instant> {
        // A worker that once ran millions should not keep a queue for them.
        if self.queue.brief().capacity() > QUEUE_KEPT {
            self.queue.borrow_mut().shrink_to(QUEUE_KEPT);
        }
        let mailbox = &self.handle.mailbox;
        mailbox.set_idle();
        // From here on an injection anywhere nudges us; what was injected before,
        // we find ourselves.
        let stolen = self.workers.steal_before_sleep(self.position);
        if let Some(task) = stolen {
            mailbox.awake();
            self.accept(task);
            return Ok(self.clock.now());
        }
        let result = if self.mail_came_soon() || !mailbox.may_sleep(self.slots.has_room()) {
            Ok(self.clock.now())
        } else {
            self.sleep()
        };
        mailbox.awake();
        if mailbox.has_mail() {
            self.read_mail();
        }
        result
    }

    /// Sleeps in the driver, and notes whether mail ended that soon.
    fn sleep(&self) -> io::Result<Instant> {
        let begun = self.clock.now();
        let ended = self.look(|driver, woken| driver.park(begun, woken))?;
        let short = self.handle.mailbox.has_mail() && ended - begun < SPIN;
        self.spins.set(short);
        Ok(ended)
    }

    /// Looks out for mail for a moment, if the last time it came at once:
    /// two workers that answer each other do so without sleeping. The other
    /// may need our core, so it is given away between the looks. Where
    /// nothing comes, the next sleep is a true one again.
    fn mail_came_soon(&self) -> bool {
        if !self.spins.get() {
            return false;
        }
        let begun = self.clock.now();
        while self.clock.now() - begun < SPIN {
            for _ in 0..GLANCES {
                if self.handle.mailbox.has_news() {
                    return true;
                }
                hint::spin_loop();
            }
            sched_yield();
        }
        self.spins.set(false);
        false
    }

    /// Polls the driver, or parks in it, and wakes all that waited for what has
    /// happened.
    ///
    /// Inside the loop it would cost each resume three instructions.
    #[inline(never)]
    fn look<T>(
        &self,
        look: impl FnOnce(&mut Driver, &mut Vec<Waker>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut woken = self.woken.take();
        let mut driver = self.driver.borrow_mut();
        let result = look(&mut driver, &mut woken);
        driver.reactor.dispatch(ENOUGH, &mut woken);
        self.events_pending.set(driver.reactor.pending_events() > 0);
        self.park_time
            .set((driver.reactor.now() >> PARK_TIME_BITS) as u32);
        drop(driver);
        self.handle.counters.turns.add(1);
        self.stacks.count();
        self.wake_all(woken);
        result
    }

    /// Runs one coroutine until it suspends or ends. (All that knows what kind
    /// a task is: this, the prefetch, and `poll.rs`.)
    #[inline]
    fn resume(&self, index: u32) {
        let slot = self.slots.slot(index);
        if slot.has(Flags::POLLED) {
            return self.poll(index, slot);
        }
        let (carrier, entry) = if slot.state() == TaskState::New {
            match self.start(slot) {
                Ok(start) => start,
                Err(error) => return self.end_unstarted(index, slot, error),
            }
        } else {
            (self.stacks.carrier(&self.slots, slot), ptr::null())
        };
        slot.set_state(TaskState::Running);
        self.budget.set(BUDGET);
        // SAFETY: the carrier was installed on this thread, at the top of the stack
        // that the slot holds; this is the worker's loop, on its own stack (I1); the
        // carrier is idle exactly if the task is new (I3).
        let reason = unsafe {
            if slot.has(Flags::OWN_TLS) {
                self.resume_own(slot, carrier, entry)
            } else {
                set_running(slot);
                Self::set_carrier(carrier);
                let reason = Carrier::resume(carrier, entry);
                set_running(ptr::null());
                reason
            }
        };
        self.handle.counters.resumed.add(1);
        if !matches!(reason, SwitchReason::Finished | SwitchReason::Panicked) {
            self.suspended(slot, !entry.is_null());
        }
        match reason {
            SwitchReason::Yielded => self.requeue(index, slot),
            SwitchReason::OutOfBudget => {
                self.requeue(index, slot);
                self.budget_used_up();
            }
            SwitchReason::Parked if slot.has(Flags::NOTIFIED) => self.requeue(index, slot),
            // Only now, with the frames at rest, may a wake-up resume it (I1).
            SwitchReason::Parked => self.park(slot),
            SwitchReason::Finished => self.end(index, slot, None),
            // Not in our process but in a child that the coroutine forked.
            SwitchReason::Panicked if Self::current().is_none() => fork::end_child(101),
            SwitchReason::Panicked => self.end(index, slot, Some(why_unwound(self.payload(slot)))),
            SwitchReason::Abandoned => self.abandon(index, slot),
            SwitchReason::RanOnStack => {
                unreachable!("a stack call is over before its worker goes on")
            }
        }
    }

    /// A task waits from now on. (The slot's line is being written anyway.)
    #[inline(always)]
    pub(super) fn park(&self, slot: &Slot) {
        if !slot.has(Flags::SHARED) {
            slot.set_park_time(self.park_time.get());
        }
        slot.set_state(TaskState::Parked);
    }

    /// A task has suspended, for the first time or again.
    #[inline(always)]
    fn suspended(&self, slot: &Slot, first: bool) {
        self.stacks.suspended(slot, first);
        if first {
            // SAFETY: a started task: its slot has its side of the cell, or null
            // (I14).
            unsafe { task::detach_if_unjoinable(slot) };
        }
    }

    #[inline(always)]
    pub(super) fn requeue(&self, index: u32, slot: &Slot) {
        slot.clear(Flags::NOTIFIED);
        slot.set_state(TaskState::Queued);
        self.push(index);
    }

    /// Gives a new task a stack; the carrier there and what it is to run.
    #[cold]
    fn start(&self, slot: &Slot) -> Result<(*mut Carrier, *const EntryPoint), JoinError> {
        if slot.has(Flags::CANCELLED) {
            return Err(JoinError::cancelled());
        }
        let label = TaskLabel { worker: self, slot };
        let carrier = self.stacks.start(&self.slots, slot, &label);
        let carrier = carrier.map_err(JoinError::not_started)?;
        if slot.has(Flags::OWN_TLS) {
            let stack = self.stacks.bounds(slot);
            self.tls.take(slot, stack).map_err(|error| {
                self.stacks.end(slot);
                JoinError::not_started(error)
            })?;
        }
        // SAFETY: a new task's slot has its side of the cell, which lives (I14).
        Ok((carrier, unsafe { (*slot.cell.get()).entry() }))
    }
}
