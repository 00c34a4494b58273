//! The worker's loop: its run queue, its looks at the kernel, its sleep.

use std::hint;
use std::io;
use std::ptr;
use std::task::Waker;

use super::cancel::why_unwound;
use super::idle::{self, Awake, Idler};
use super::label::TaskLabel;
use super::look_ahead::{AHEAD, ENOUGH};
use super::mailbox::Mailbox;
use super::plan::InjectedTask;
use super::worker::{PARK_TIME_BITS, Worker};
use super::worker_handle::Message;
use crate::driver::{Driver, Moment, earlier};
use crate::stack::Kept;
use crate::switch::{Carrier, EntryPoint, SwitchReason};
use crate::sys::fork;
use crate::sys::simulated;
use crate::sys::syscall::sched_yield;
use crate::task::{self, Flags, JoinError, JoinRef, Slot, TaskState, set_running};
use crate::util::gate::barrier;

/// Coroutines resumed before the worker looks at the clock and the inbox.
pub(super) const SLICE: u32 = 64;

/// Of so many coroutines resumed at most one is new, as long as others wait.
const START_EVERY: u32 = 2;

/// A busy worker asks the kernel for readiness this often, in nanoseconds: rarely enough that
/// the system call (0.5 µs) does not show among yields of 15 ns. And not before
/// all tasks have run that were woken the last time: those woken now would only
/// stand behind them.
const POLL_EVERY: u64 = 200_000;

/// For how long a worker looks out for mail before it sleeps, if its last
/// sleep was ended by mail within these nanoseconds: about what a sleep and a wake-up
/// cost, so it never loses more than it could have saved, and that only once.
const SPIN: u64 = 20_000;

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
        let _watched = self.handle.watch.begin(&self.handle.counters);
        self.polled.set(self.clock.moment());
        self.round.set(0);
        loop {
            self.slice();
            if self.handle.mailbox.has_mail() {
                self.read_mail();
            }
            if self.ends.is_behind() {
                self.tell_of_ends();
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
                    // The last look is under the lock: see README.md, pinned tasks.
                    if self.accept_injected() {
                        continue;
                    }
                    self.count(&self.driver.borrow());
                    return Ok(());
                }
                self.polled.set(if self.notify_of_ends() {
                    self.clock.moment()
                } else {
                    self.idle()?
                });
                self.begin_round();
            }
        }
    }

    /// Resumes up to [`SLICE`] coroutines.
    #[inline]
    pub(super) fn slice(&self) {
        for turn in 0..SLICE {
            // The next to run, and not one that waits behind others here: those may
            // compute, while another worker has time for it.
            if turn % START_EVERY == START_EVERY - 1 && self.handle.mailbox.has_injected() {
                self.accept_injected();
            }
            let next = self.pop(turn);
            let Some(index) = next else { return };
            self.resume(index);
        }
    }

    /// The others are to run before the driver is polled again.
    pub(super) fn begin_round(&self) {
        let queued = self.queue.borrow().len() as u64;
        self.round.set(self.handle.counters.resumed.get() + queued);
    }

    /// Polls the driver if everybody has run who was woken by the last poll, and
    /// that was some time ago.
    pub(super) fn poll_if_due(&self) -> io::Result<()> {
        if self.handle.counters.resumed.get() >= self.round.get() {
            let now = self.clock.moment();
            if now.nanos_since(self.polled.get()) >= POLL_EVERY {
                self.count_wait(now);
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
        let counters = &self.handle.counters;
        let turns = counters.turns.get();
        let _ = self.poll_if_due();
        if counters.turns.get() != turns {
            // It waits for its turn, and is not in the queue yet.
            counters.runnable.add(1);
            counters.parked.set(counters.parked.get() - 1);
        }
    }

    /// Takes one task that has not started, our own or another worker's.
    #[inline(never)]
    fn take_work(&self) -> bool {
        if self.handle.mailbox.has_injected() && self.accept_injected() {
            return true;
        }
        let steals = self.workers.has_many() && self.slots.has_room();
        let stolen = steals.then(|| self.workers.steal(self.position)).flatten();
        let Some(task) = stolen else { return false };
        self.handle.counters.steals.add(1);
        self.accept(task);
        true
    }

    /// The next task to run.
    #[inline(always)]
    fn pop(&self, turn: u32) -> Option<u32> {
        if turn as usize % AHEAD == 0 {
            if self.events_pending.get() {
                self.dispatch_early();
            }
            self.look_far_ahead();
        }
        let mut queue = self.queue.brief();
        if let Some(world) = simulated::world().filter(|_| !queue.is_empty()) {
            let next = world.next(&queue);
            queue.swap(0, next);
        }
        let next = queue.pop_front()?;
        self.look_ahead(&queue);
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
    pub(super) fn dispatch(&self, most: usize) {
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
    pub(super) fn idle(&self) -> io::Result<Moment> {
        // A worker that once ran millions should not keep a queue for them.
        if self.queue.brief().capacity() > QUEUE_KEPT {
            self.queue.borrow_mut().shrink_to(QUEUE_KEPT);
        }
        let result = match idle::idle(self) {
            Awake::Stole(task) => {
                self.handle.counters.steals.add(1);
                self.accept(task);
                return Ok(self.clock.moment());
            }
            Awake::Slept(result) => result,
            Awake::Stayed => Ok(self.clock.moment()),
        };
        let mailbox = &self.handle.mailbox;
        if mailbox.has_mail() {
            self.read_mail();
        }
        if mailbox.has_stealable() {
            self.share_work();
        }
        result
    }

    /// Others left the tasks here alone while this worker was on its way to them. If it
    /// has come for something else as well, one of the others is to look at them.
    #[cold]
    fn share_work(&self) {
        let is_busy = !self.queue.brief().is_empty() || self.events_pending.get();
        if is_busy || !self.slots.has_room() {
            self.workers.nudge(self.position);
        }
    }

    /// All that were in the queue at the last look have run: how long that took.
    fn count_wait(&self, now: Moment) {
        // Between the turns of one that is driven its thread does something else.
        if !self.driven.get() {
            let micros = now.nanos_since(self.polled.get()) / 1_000;
            let counters = &self.handle.counters;
            counters.queue_wait_micros.set(micros);
            if micros > counters.longest_queue_wait_micros.get() {
                counters.longest_queue_wait_micros.set(micros);
            }
        }
    }

    /// Publishes how much there is of everything.
    #[inline]
    fn count(&self, driver: &Driver) {
        let counters = &self.handle.counters;
        let queued = self.queue.brief().len() as u64;
        counters.runnable.set(queued);
        counters.parked.set(u64::from(self.slots.live()) - queued);
        counters.timers.set(driver.timers() as u64);
        let descriptors = driver.reactor.table.registered_count();
        counters.descriptors.set(descriptors as u64);
        self.stacks.count();
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
        let now = driver.reactor.now();
        self.park_time.set((now >> PARK_TIME_BITS) as u32);
        self.handle.counters.turns.add(1);
        self.count(&driver);
        drop(driver);
        self.stacks.tend_if_due(now);
        self.trim_if_due(now);
        self.wake_all(woken);
        result
    }

    /// Runs one coroutine until it suspends or ends. (All that knows what kind
    /// a task is: this, the prefetch, and `poll.rs`.)
    /// Inlined in both loops: a call costs a yield 19 instructions.
    #[inline(always)]
    pub(super) fn resume(&self, index: u32) {
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
        self.step_resumed(slot);
        // SAFETY: the carrier was installed on this thread, at the top of the stack
        // that the slot holds; this is the worker's loop, on its own stack (I1); the
        // carrier is idle exactly if the task is new (I3).
        let reason = unsafe {
            if slot.has(Flags::OWN_TLS) {
                self.resume_own(slot, carrier, entry)
            } else {
                Self::set_carrier(carrier);
                // A handler that finds it running looks at its carrier.
                barrier();
                set_running(slot);
                let reason = Carrier::resume(carrier, entry);
                set_running(ptr::null());
                reason
            }
        };
        self.handle.counters.resumed.add(1);
        self.step_back(slot, reason);
        if !matches!(reason, SwitchReason::Finished | SwitchReason::Panicked) {
            self.suspended(slot, !entry.is_null());
        }
        match reason {
            SwitchReason::Yielded => self.requeue(index, slot),
            // Who is woken now goes before it, not behind another such slice.
            SwitchReason::OutOfBudget => {
                self.budget_used_up();
                self.requeue(index, slot);
            }
            SwitchReason::Called => self.called(index, slot),
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
            let thread = self.take_thread(slot);
            self.tls.take(slot, stack, thread).map_err(|error| {
                // Nothing has run on it.
                if self.stacks.end(slot) == Kept::Cold {
                    self.stacks.take_measured();
                }
                JoinError::not_started(error)
            })?;
        }
        // SAFETY: a new task's slot has its side of the cell, which lives (I14).
        let entry = unsafe { (*slot.cell.get()).entry() };
        #[cfg(all(
            feature = "futex",
            target_env = "gnu",
            not(target_feature = "crt-static")
        ))]
        if slot.has(Flags::OWN_TLS) {
            return Ok((carrier, self.named_entry(slot, entry)));
        }
        Ok((carrier, entry))
    }
}

impl Idler for Worker {
    type Message = Message;
    type Task = InjectedTask;
    /// The time.
    type Slept = io::Result<Moment>;

    fn mailbox(&self) -> &Mailbox<Message, InjectedTask> {
        &self.handle.mailbox
    }

    fn has_room(&self) -> bool {
        self.slots.has_room()
    }

    fn steal_before_sleep(&self) -> Option<InjectedTask> {
        self.workers.steal_before_sleep(self.position)
    }

    /// Sleeps in the driver, and notes whether mail ended that soon.
    fn sleep(&self) -> io::Result<Moment> {
        let begun = self.clock.moment();
        self.count_wait(begun);
        let park = || {
            self.look(|driver, woken| {
                let tend = self.stacks.tend_at();
                let trim = self.trim.due(self.handle.counters.resumed.get());
                driver.upkeep = earlier(tend, trim);
                driver.park(begun, woken)
            })
        };
        let sleep = || self.handle.watch.asleep(&self.workers.doze, park);
        let Some(ended) = self.ends.sleeping(sleep) else {
            return Ok(begun);
        };
        let ended = ended?;
        let short = self.handle.mailbox.has_mail() && ended.nanos_since(begun) < SPIN;
        self.spins.set(short);
        Ok(ended)
    }

    /// Looks out for mail for a moment, if the last time it came at once:
    /// two workers that answer each other do so without sleeping. The other
    /// may need our core, so it is given away between the looks. Where
    /// nothing comes, the next sleep is a true one again.
    fn looks_out(&self, bids: bool) -> bool {
        if !self.spins.get() || simulated::world().is_some() {
            return false;
        }
        let begun = self.clock.moment();
        while self.clock.moment().nanos_since(begun) < SPIN {
            for _ in 0..GLANCES {
                if self.handle.mailbox.has_news(bids) {
                    return true;
                }
                hint::spin_loop();
            }
            sched_yield();
        }
        self.spins.set(false);
        false
    }
}
