//! The worker's loop: what runs next, and when the worker sleeps.

use std::hint;
use std::io;
use std::ptr;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::cancel::{PATIENCE, why_unwound};
use super::describe::Who;
use super::remote::Unstarted;
use super::worker::{ERA_BITS, Worker};
use crate::driver::Driver;
use crate::switch::{Carrier, EntryPoint, SwitchReason};
use crate::sys::fork;
use crate::task::{self, Flags, JoinError, JoinRef, PacketRef, Slot, State, alias, set_running};
use crate::util::{contain, prefetch, report};

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
/// everybody has run who was woken the last time: those woken now would only
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
        let mut polled = self.clock.now();
        // Resumes after which everybody has run who was woken by the last poll.
        let mut round = 0;
        let counters = &self.remote.counters;
        loop {
            self.slice();
            if self.remote.mailbox.has_mail() {
                self.read_mail();
            }
            if main.is_some_and(JoinRef::is_done) && !self.pool.is_stopping() {
                self.pool.stop();
            }
            if self.pool.is_stopping() && !self.stopping.get() {
                self.stop();
            }
            if self.events_pending.get() {
                // However many are in the queue.
                self.dispatch(SLICE as usize);
                round = counters.resumed.get() + self.queue.borrow().len() as u64;
            } else if !self.queue.brief().is_empty() {
                if counters.resumed.get() >= round {
                    let now = self.clock.now();
                    if now - polled >= POLL_EVERY {
                        polled = now;
                        self.look(|driver, woken| driver.poll(now, woken))?;
                        round = counters.resumed.get() + self.queue.borrow().len() as u64;
                    }
                }
            } else if !self.take_work() {
                if self.stopping.get() && self.slots.live() == 0 {
                    self.stacks.count();
                    return Ok(());
                }
                polled = if self.tell_of_ends() {
                    self.clock.now()
                } else {
                    self.idle()?
                };
                round = counters.resumed.get() + self.queue.borrow().len() as u64;
            }
        }
    }

    /// Resumes up to [`SLICE`] coroutines.
    #[inline]
    fn slice(&self) {
        for turn in 0..SLICE {
            if turn % START_EVERY == 0 && self.remote.mailbox.has_jobs() {
                self.take_own();
            }
            let next = self.pop(turn);
            let Some(index) = next else { return };
            self.resume(index);
        }
    }

    /// Takes one task that this worker was offered; whether there was one.
    pub(super) fn take_own(&self) -> bool {
        self.remote
            .mailbox
            .take_job()
            .is_some_and(|task| self.adopt_or_return(task))
    }

    /// Takes one task that has not started, our own or another worker's.
    fn take_work(&self) -> bool {
        (self.remote.mailbox.has_jobs() && self.take_own())
            || self
                .pool
                .steal(self.place)
                .is_some_and(|task| self.adopt_or_return(task))
    }

    /// With all slots taken, the task waits where it will be looked for again
    /// when one of ours has ended.
    fn adopt_or_return(&self, task: Unstarted) -> bool {
        match self.adopt(task) {
            Ok(()) => true,
            Err(task) => {
                let kept = self.pool.offer(self.place, task);
                debug_assert!(kept.is_ok(), "a running worker owns its mailbox");
                false
            }
        }
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

    /// Wakes those whom the next events concern. A few at a time: between the
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

    /// With nothing to do: wakes those who wait for tasks to end, if any have
    /// since. They may be ours, so there may be something to do after `true`.
    fn tell_of_ends(&self) -> bool {
        let ended = self.remote.counters.ended.get();
        let tell = self.pool.watchers.any() && self.told.replace(ended) != ended;
        if tell {
            self.pool.watchers.tell();
        }
        tell
    }

    /// Sleeps until something happens. See README.md for why nothing that
    /// happens is missed. Returns the time.
    fn idle(&self) -> io::Result<Instant> {
        // A worker that once ran millions should not keep a queue for them.
        if self.queue.brief().capacity() > QUEUE_KEPT {
            self.queue.borrow_mut().shrink_to(QUEUE_KEPT);
        }
        let mailbox = &self.remote.mailbox;
        mailbox.set_idle();
        // From here on an offer anywhere nudges us; what was offered before,
        // we find ourselves.
        let stolen = self.pool.steal_before_sleep(self.place);
        if let Some(task) = stolen {
            mailbox.awake();
            self.adopt_or_return(task);
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
        let short = self.remote.mailbox.has_mail() && ended - begun < SPIN;
        self.spins.set(short);
        Ok(ended)
    }

    /// Looks out for mail for a moment, if the last time it came at once:
    /// two workers that answer each other do so without sleeping. Whoever
    /// writes may need our core, so it is given away between the looks. Where
    /// nothing comes, the next sleep is a true one again.
    fn mail_came_soon(&self) -> bool {
        if !self.spins.get() {
            return false;
        }
        let begun = self.clock.now();
        while begun.elapsed() < SPIN {
            for _ in 0..GLANCES {
                if self.remote.mailbox.has_news() {
                    return true;
                }
                hint::spin_loop();
            }
            std::thread::yield_now();
        }
        self.spins.set(false);
        false
    }

    /// Polls the driver, or parks in it, and wakes all that waited for what has
    /// happened.
    #[inline]
    fn look<T>(
        &self,
        look: impl FnOnce(&mut Driver, &mut Vec<Waker>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut woken = self.woken.take();
        let mut driver = self.driver.borrow_mut();
        let result = look(&mut driver, &mut woken);
        driver.reactor.dispatch(ENOUGH, &mut woken);
        self.events_pending.set(driver.reactor.pending_events() > 0);
        self.era.set((driver.reactor.now() >> ERA_BITS) as u32);
        drop(driver);
        self.remote.counters.turns.add(1);
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
        let (carrier, entry) = if slot.state() == State::New {
            match self.start(slot) {
                Ok(start) => start,
                Err(error) => return self.end_unstarted(index, slot, error),
            }
        } else {
            (self.stacks.carrier(&self.slots, slot), ptr::null())
        };
        slot.set_state(State::Running);
        self.budget.set(BUDGET);
        // SAFETY: the carrier was installed on this thread, at the top of the
        // stack that the slot holds; it is idle exactly if the task is new (I3).
        let reason = unsafe {
            if slot.has(Flags::OWN) {
                self.resume_own(slot, carrier, entry)
            } else {
                set_running(slot);
                Self::set_carrier(carrier);
                let reason = Carrier::resume(carrier, entry);
                set_running(ptr::null());
                reason
            }
        };
        self.remote.counters.resumed.add(1);
        if !matches!(reason, SwitchReason::Finished | SwitchReason::Panicked) {
            self.suspended(slot, !entry.is_null());
        }
        match reason {
            SwitchReason::Yielded => self.requeue(index, slot),
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
            slot.frame.set(self.era.get());
        }
        slot.set_state(State::Parked);
    }

    /// A task has suspended, for the first time or again.
    #[inline(always)]
    fn suspended(&self, slot: &Slot, first: bool) {
        self.stacks.suspended(slot, first);
        if first {
            // SAFETY: a started task of ours.
            unsafe { task::detach_if_unjoinable(slot) };
        }
    }

    #[inline(always)]
    pub(super) fn requeue(&self, index: u32, slot: &Slot) {
        slot.clear(Flags::NOTIFIED);
        slot.set_state(State::Queued);
        self.push(index);
    }

    /// Gives a new task a stack; the carrier there and what it is to run.
    #[cold]
    fn start(&self, slot: &Slot) -> Result<(*mut Carrier, *const EntryPoint), JoinError> {
        if slot.has(Flags::CANCELLED) {
            return Err(JoinError::cancelled());
        }
        let who = Who { worker: self, slot };
        let carrier = self.stacks.start(&self.slots, slot, &who);
        let carrier = carrier.map_err(JoinError::not_started)?;
        if slot.has(Flags::OWN) {
            let stack = self.stacks.bounds(slot);
            self.own.take(slot, stack).map_err(|error| {
                self.stacks.end(slot);
                JoinError::not_started(error)
            })?;
        }
        // SAFETY: a new task's packet is there, closure inside.
        Ok((carrier, unsafe { (*slot.packet.get()).entry() }))
    }

    /// A task has ended: stack, slot and packet go, the joiner is woken.
    fn end(&self, index: u32, slot: &Slot, error: Option<JoinError>) {
        self.stacks.end(slot);
        if slot.has(Flags::OWN) {
            self.own.give(slot);
        }
        // A shared coroutine that unwound has not ended its locals itself.
        self.end_locals(slot);
        let packet = self.free_slot(index, slot);
        // SAFETY: the slot gave the task's side up; the closure was taken out
        // when the task started.
        let packet = unsafe { PacketRef::from_slot(packet) };
        if let Some(error) = error {
            // A payload's destructor is foreign code on the worker's stack.
            contain(|| match packet {
                // SAFETY: as above.
                Some(packet) => unsafe { packet.fail(error) },
                None => drop(error),
            });
        }
    }

    /// A task ends that has never run.
    #[cold]
    fn end_unstarted(&self, index: u32, slot: &Slot, error: JoinError) {
        if !error.is_cancelled() {
            report(format_args!(
                "a coroutine spawned at {}: {error}",
                self.site(slot)
            ));
        }
        self.discard(index, slot, error);
    }

    /// A task ends whose work is still in its packet.
    #[cold]
    pub(super) fn discard(&self, index: u32, slot: &Slot, error: JoinError) {
        let packet = self.free_slot(index, slot);
        // SAFETY: the task's side, given up by the slot.
        let packet = unsafe { PacketRef::from_slot(packet) }.expect("it has the work");
        // SAFETY: the task never ran, or is a future that has not ended: the
        // work is there. Its destructor is foreign code.
        contain(|| unsafe { packet.discard(error) });
    }

    fn tell_of_abandoned(&self, slot: &Slot) {
        let refusals = self.with_extra(slot, |extra| extra.refusals);
        let why = if refusals > PATIENCE {
            format!("went on after its cancellation had failed {PATIENCE} of its waits")
        } else {
            "waited for scoped coroutines of which one was abandoned".into()
        };
        report(format_args!(
            "the coroutine {:?} spawned at {} {why}; it is abandoned, its destructors do \
             not run",
            self.name(slot).as_deref().unwrap_or("(unnamed)"),
            self.site(slot),
        ));
    }

    /// A task that must never be resumed: its frames are forgotten, their
    /// memory never used again, since anybody may still point there (I6).
    #[cold]
    fn abandon(&self, index: u32, slot: &Slot) {
        // Where nothing can unwind, this is how every cancelled one ends.
        if !cfg!(panic = "abort") {
            self.tell_of_abandoned(slot);
        }
        self.remote.counters.abandoned.add(1);
        self.stacks.abandon(&self.slots, slot);
        if slot.has(Flags::OWN) {
            self.own.abandon(slot);
        }
        let packet = self.free_slot(index, slot);
        // SAFETY: as in `end`.
        if let Some(packet) = unsafe { PacketRef::from_slot(packet) } {
            // SAFETY: as in `end`.
            contain(|| unsafe { packet.fail(JoinError::abandoned()) });
        }
    }

    /// Makes the slot free; what it held of the packet is the caller's.
    pub(super) fn free_slot(&self, index: u32, slot: &Slot) -> *const crate::task::Header {
        let extra = slot.extra.get();
        let extra = (extra != 0).then(|| self.extras.borrow_mut().remove(extra as usize));
        let packet = slot.packet.get();
        self.slots.free(index);
        self.remote.counters.ended.add(1);
        if let Some(alias) = extra.and_then(|extra| extra.alias) {
            alias::discard(alias);
        }
        packet
    }
}
