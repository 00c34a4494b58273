//! The current task: how code that runs in a coroutine waits.
//!
//! Every wait has the same shape: leave a waker where the event will be noticed,
//! then [`CurrentTask::suspend`], then look again. Nothing else runs on this thread between
//! the two, and a wake-up from another thread lies in the mailbox until the worker
//! reads it on its own stack; so no wake-up can fall in between (I1).
//!
//! Waits for descriptors are in `fd_wait.rs`, how waits fail in `cancel.rs`.

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::task::Waker;
use std::time::Instant;

use super::locals::{LocalId, LocalLookup};
use super::wake;
use super::worker::Worker;
use crate::driver::{Clock, TimerKey, WaitTarget};
use crate::stack::limit_of_stack;
use crate::switch::{self, SwitchReason};
use crate::sys::simulated;
use crate::sys::stack_of_thread::is_on_signal_stack;
use crate::task::{self, Addr, Flags, Slot};
use crate::util::no_park::NoPark;

thread_local! {
    /// The slot of a coroutine that polls a foreign future just now.
    static POLLING: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// "This code runs in a coroutine." Valid until the coroutine ends; it never
/// leaves the coroutine's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurrentTask(NonNull<Slot>);

impl CurrentTask {
    /// For calls on descriptors: `None` on plain threads, on a worker's own
    /// stack, inside `unhooked`, and in a no-park scope, which a signal handler may have
    /// interrupted. While unwinding too such a call goes
    /// through here, but it has one try only: [`CurrentTask::wait`] fails then.
    #[inline(always)]
    pub(crate) fn current() -> Option<Self> {
        NonNull::new(task::running_outside_scopes().cast_mut())
            .map(Self)
            .filter(|cx| !cx.slot().has(Flags::UNHOOKED))
    }

    /// For our own functions: `None` outside coroutines only.
    #[inline(always)]
    pub(crate) fn running() -> Option<Self> {
        NonNull::new(task::running().cast_mut()).map(Self)
    }

    /// Whether there is one: [`CurrentTask::running`].
    #[inline(always)]
    pub(crate) fn present() -> bool {
        !task::running().is_null()
    }

    /// That of a slot; `None` if it is null.
    ///
    /// # Safety
    ///
    /// - It is of a coroutine that runs on this thread, or was interrupted there.
    pub(super) unsafe fn of_slot(slot: *const Slot) -> Option<Self> {
        NonNull::new(slot.cast_mut()).map(Self)
    }

    /// For our own timed waits: a coroutine that may park. One that unwinds
    /// may not (it would show its panic count to all others on this thread);
    /// then the caller blocks the thread for real.
    #[inline(always)]
    pub(crate) fn parkable() -> Option<Self> {
        Self::running().filter(|cx| cx.may_park())
    }

    /// Whether this code runs on a stack of the coroutine's, where it may be left: its
    /// own, or one that its program has made and switched to. Signal handlers with a
    /// stack of their own do not (I13): the next handler begins at the top of that.
    #[inline(always)]
    pub(crate) fn on_own_stack(self) -> bool {
        let at = switch::stack_pointer();
        // SAFETY: this coroutine runs on this thread (I3).
        unsafe { Worker::runs_at(at) || self.on_second_stack(at) }
    }

    /// Not of a coroutine on a shared stack: how much of that to copy would not be
    /// known. Nor is the worker's own stack one, where a handler may run just before
    /// or after a switch.
    #[cold]
    #[inline(never)]
    fn on_second_stack(self, at: usize) -> bool {
        !self.is_shared() && !self.worker().own_stack.contains(&at) && !is_on_signal_stack()
    }

    /// Whether other code may run where these bytes are while the coroutine is parked:
    /// on a stack that it shares.
    pub(crate) fn is_on_shared_stack(self, address: usize, len: usize) -> bool {
        // SAFETY: this coroutine runs on this thread (I3).
        self.is_shared()
            && (unsafe { Worker::stack_holds_any(address, len) } || self.may_have_grown(address))
    }

    /// Its frames on the shared stack may not be those that it runs on. Whatever is a
    /// stack of ours is taken for that then.
    fn may_have_grown(self, address: usize) -> bool {
        self.worker().grown_shared.get() > 0 && limit_of_stack(address).is_some()
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
    pub(crate) fn now(self) -> Instant {
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
    /// the count is its own; and it is not ending, which its waits could not report.
    #[inline(always)]
    pub(crate) fn may_park(self) -> bool {
        !std::thread::panicking() || self.may_park_panicking()
    }

    #[cold]
    fn may_park_panicking(self) -> bool {
        self.has_own_tls() && !self.is_ending()
    }

    /// Whether it may park in a wait that its end does not cut short. As
    /// [`CurrentTask::may_park`], but it may be ending: nobody is to be told.
    pub(crate) fn may_wait_on(self) -> bool {
        !std::thread::panicking() || self.has_own_tls()
    }

    /// Back to the worker; returns when the coroutine is resumed. Wake-ups may
    /// be spurious.
    ///
    /// # Panics
    ///
    /// While unwinding: see [`CurrentTask::current`]. The panic aborts the process, as
    /// any panic while unwinding does, with a message that says why.
    #[inline(always)]
    pub(crate) fn suspend(self, reason: SwitchReason) {
        if std::thread::panicking() && !self.may_park_panicking() {
            refuse_while_panicking();
        }
        self.suspend_regardless(reason);
    }

    /// As [`CurrentTask::suspend`], where [`CurrentTask::may_wait_on`].
    #[inline(always)]
    pub(super) fn suspend_regardless(self, reason: SwitchReason) {
        debug_assert!(
            !NoPark::is_active(),
            "a coroutine suspends in a no-park scope"
        );
        if let Some(world) = simulated::world() {
            world.suspends();
        }
        // SAFETY: this code runs in the coroutine whose carrier the worker set when
        // it resumed it, on its own stack (I13).
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

    /// As [`CurrentTask::park`], and until `deadline` at the latest; whether that is known
    /// to have come.
    #[inline(always)]
    pub(crate) fn park_until(self, deadline: Option<Instant>) -> bool {
        let first = deadline.into_iter().chain(self.deadline()).min();
        let timer = first.map(|at| self.start_timer(at));
        self.suspend(SwitchReason::Parked);
        timer.is_some_and(|key| !self.stop_timer(key)) && first == deadline
    }

    /// As [`CurrentTask::park_until`], but no `timeout` around this ends it early: for
    /// waits whose callers could not tell.
    pub(crate) fn park_regardless_until(self, deadline: Option<Instant>) {
        let timer = deadline.map(|at| self.start_timer(at));
        if !self.may_wait_on() {
            refuse_while_panicking();
        }
        self.suspend_regardless(SwitchReason::Parked);
        if let Some(key) = timer {
            self.stop_timer(key);
        }
    }

    /// As [`CurrentTask::park_until`], for waits that can't return without what they wait
    /// for: a `timeout` around this ends them by unwinding, or, in a program that
    /// aborts on panics, not at all.
    ///
    /// `stuck` is what [`CurrentTask::unwind_if_ending`] said.
    #[inline(always)]
    pub(crate) fn park_for_output(self, stuck: bool, deadline: Option<Instant>) {
        if stuck {
            self.park_stuck(deadline);
        } else if cfg!(panic = "abort") {
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
        self.spend_for(1);
    }

    /// [`CurrentTask::spend`] for an operation that takes as long as so many.
    #[inline(always)]
    pub(crate) fn spend_for(self, operations: u32) {
        let budget = &self.worker().budget;
        budget.set(budget.get().saturating_sub(operations));
        if budget.get() == 0 {
            self.give_way();
        }
    }

    /// Yields, and has the worker look at the clock: a used-up budget may be
    /// milliseconds.
    #[cold]
    fn give_way(self) {
        // There nothing but a wait of its own makes a call of a coroutine return.
        let driven = self.worker().driven.get();
        if !driven && self.may_park() && !self.is_polling() && self.on_own_stack() {
            self.suspend(SwitchReason::OutOfBudget);
        }
    }

    /// Whether a time is over. A wait that finds it so has not waited, and
    /// counts as an operation: who waits for nothing again and again gives way.
    #[inline(always)]
    pub(crate) fn is_over(self, deadline: Option<Instant>) -> bool {
        let over = deadline.is_some_and(|at| self.now() >= at);
        if over {
            self.spend();
        }
        over
    }

    /// Polls a foreign future. Executors keep in thread-locals what they do for
    /// the time of a poll, so no other coroutine should run meanwhile: not for
    /// fairness, and not because a lock is held for a moment.
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

    /// Whether this coroutine is in [`CurrentTask::poll`], and shares its thread-locals.
    /// It may be forgotten when others polled, too, while it waited in there.
    pub(crate) fn is_polling(self) -> bool {
        ptr::eq(POLLING.get(), self.slot()) && !self.has_own_tls()
    }

    /// Sleeps. `ECANCELED` if cancelled, `ETIME` if a `timeout` ends first.
    pub(crate) fn sleep_until(self, deadline: Instant) -> io::Result<()> {
        self.check_parkable()?;
        let mut over = self.is_over(Some(deadline));
        while !over {
            // The timer that fires need not be compared with the clock.
            over = self.park_until(Some(deadline));
            self.check_parkable()?;
        }
        Ok(())
    }

    /// Takes the park token, parking until there is one. Ends early as
    /// [`CurrentTask::returns_early`] says.
    ///
    /// All in one frame: it is what a parked coroutine keeps.
    #[inline(always)]
    pub(crate) fn take_token(self) {
        loop {
            if self.unwind_if_ending() {
                if self.take_token_stuck(None) {
                    return;
                }
                continue;
            }
            if self.returns_early() || self.slot().take(Flags::TOKEN) {
                return;
            }
            self.park();
        }
    }

    /// As [`CurrentTask::take_token`], until `deadline` at the latest.
    pub(crate) fn take_token_until(self, deadline: Option<Instant>) {
        loop {
            if self.unwind_if_ending() {
                if self.take_token_stuck(deadline) {
                    return;
                }
                continue;
            }
            if self.returns_early() || self.slot().take(Flags::TOKEN) || self.is_over(deadline) {
                return;
            }
            self.park_until(deadline);
        }
    }

    /// One turn of [`CurrentTask::take_token_until`] where nothing can unwind; whether it
    /// was the last.
    #[cold]
    #[inline(never)]
    fn take_token_stuck(self, deadline: Option<Instant>) -> bool {
        let done = self.returns_early() || self.slot().take(Flags::TOKEN) || self.is_over(deadline);
        if !done {
            self.park_stuck(deadline);
        }
        done
    }

    /// Looks for a local of this coroutine.
    #[inline]
    pub(crate) fn local(self, id: LocalId) -> LocalLookup {
        let extras = self.worker().extras.borrow();
        // Entry 0 has no locals.
        let extra = extras.get(self.slot().extra.get() as usize);
        extra.map_or(LocalLookup::Nothing, |extra| extra.locals.find(id))
    }

    /// Gives this coroutine a local that it has [`LocalLookup::Nothing`] of.
    pub(crate) fn add_local<T>(self, id: LocalId, value: Box<T>) -> NonNull<T> {
        self.worker()
            .with_extra(self.slot(), |extra| extra.locals.add(id, value))
    }

    fn start_timer(self, at: Instant) -> TimerKey {
        let waker = self.waker();
        self.note_wait(|| WaitTarget::Time(at));
        self.worker().driver.borrow_mut().insert_timer(at, waker)
    }

    /// Whether there was something to stop.
    fn stop_timer(self, key: TimerKey) -> bool {
        self.worker().driver.borrow_mut().remove_timer(key)
    }
}

#[cold]
fn refuse_while_panicking() -> ! {
    panic!(
        "a coroutine must not park while it unwinds: a destructor waits (join, lock, sleep, \
         channel, yield); let it try without waiting, or do the waiting before the panic"
    );
}
