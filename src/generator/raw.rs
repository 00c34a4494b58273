//! A generator without a promise of how long it lives: the body and its stack.

use std::any::Any;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::panic::resume_unwind;
use std::ptr;
use std::thread::panicking;

use super::home::{Home, NotHere};
use super::stack::Lease;
use super::yielder::{GeneratorState, Yielder};
use crate::sched::CurrentTask;
use crate::switch::{BodyEnd, BodyState, Exchange, Passed};
use crate::sys::era::{self, Mark};
use crate::sys::report::report;
use crate::sys::{fork, signal};
use crate::task::{Slot, set_running};

/// What happens to a body whose frames can't be unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stubborn {
    /// Its frames stay where they are, for ever.
    Leaks,
    /// It borrows what its owner is about to use again: the process ends.
    Aborts,
}

pub(super) struct RawGenerator<In, Y, R> {
    exchange: Exchange<In, Y, R>,
    /// Where its frames may run.
    home: Home,
    mark: Mark,
    /// WhyLeft for ever if frames are left.
    stack: ManuallyDrop<Lease>,
    stubborn: Stubborn,
}

impl<In, Y, R> RawGenerator<In, Y, R> {
    /// # Safety
    ///
    /// - It is dropped before anything ends that `body`, `In`, `Y` or `R` borrow; or
    ///   it may be forgotten, and they borrow nothing.
    pub(super) unsafe fn new<F>(size: usize, stubborn: Stubborn, body: F) -> io::Result<Self>
    where
        F: FnOnce(&Yielder<In, Y>, In) -> R,
    {
        let home = match stubborn {
            // It may be kept until the thread ends.
            Stubborn::Leaks if !era::is_noticed() => return Err(ends_are_not_noticed()),
            Stubborn::Leaks => Home::ANYWHERE,
            // Its end must not happen elsewhere.
            Stubborn::Aborts => Home::here(),
        };
        let stack = ManuallyDrop::new(Lease::new(size)?);
        // SAFETY: the stack is ours and has a guard; we give it back once the body has
        // ended. What it borrows stays: the caller's promise.
        let exchange = unsafe {
            Exchange::new(stack.bounds(), move |port, input| {
                body(&Yielder { port }, input)
            })
        };
        Ok(Self {
            exchange,
            home,
            mark: Mark::NONE,
            stack,
            stubborn,
        })
    }

    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        self.exchange.is_done()
    }

    #[inline(always)]
    pub(super) fn resume(&mut self, input: In) -> GeneratorState<Y, R> {
        if !self.home.is_here() || panicking() {
            return self.resume_elsewhere(input);
        }
        let passed = self.exchange.resume(input);
        self.has_passed(passed)
    }

    #[inline(never)]
    fn resume_elsewhere(&mut self, input: In) -> GeneratorState<Y, R> {
        match self.home.above_shared() {
            Some(cx) if !panicking() => self.resume_above(cx, input),
            _ => self.resume_rarely(input),
        }
    }

    /// On a shared stack, whose coroutine a body does not see.
    #[inline]
    fn resume_above(&mut self, shared: CurrentTask, input: In) -> GeneratorState<Y, R> {
        let passed = {
            let _hidden = Hidden::hide(shared);
            self.exchange.resume(input)
        };
        self.has_passed(passed)
    }

    #[cold]
    #[inline(never)]
    fn resume_rarely(&mut self, input: In) -> GeneratorState<Y, R> {
        if !self.is_done() {
            self.home.enter().unwrap_or_else(|why| refuse(why));
        }
        let passed = {
            let _hidden = Hidden::enter();
            self.exchange.resume_anywhere(input)
        };
        self.has_passed(passed)
    }

    #[inline(always)]
    fn has_passed(&mut self, passed: Passed<Y, R>) -> GeneratorState<Y, R> {
        match passed {
            Passed::Yielded(value) => {
                self.mark.renew();
                GeneratorState::Yielded(value)
            }
            Passed::Returned(value) => GeneratorState::Complete(value),
            Passed::Panicked(payload) => raise(payload),
        }
    }
}

/// Goes on with what has ended a body.
#[cold]
#[inline(never)]
fn raise(payload: Box<dyn Any + Send>) -> ! {
    match CurrentTask::running() {
        Some(cx) => cx.unwind_on(payload),
        None => resume_unwind(payload),
    }
}

impl<Y, R> RawGenerator<(), Y, R> {
    /// The next value; `None` from the end on.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Y> {
        if self.is_done() {
            return None;
        }
        match self.resume(()) {
            GeneratorState::Yielded(value) => Some(value),
            GeneratorState::Complete(_) => None,
        }
    }
}

impl<In, Y, R> Drop for RawGenerator<In, Y, R> {
    fn drop(&mut self) {
        let kept = match self.exchange.state() {
            BodyState::Empty => None,
            BodyState::Suspended => self.home.enter().err().map(WhyLeft::NotHere),
            BodyState::Running => Some(WhyLeft::Runs),
        };
        if let Some(why) = kept {
            return leave_frames(self.stubborn, why);
        }
        let left = LeftFrames(self.stubborn);
        let ending = {
            let _hidden = Hidden::enter();
            self.exchange.end()
        };
        if matches!(ending, BodyEnd::Stays) {
            return;
        }
        mem::forget(left);
        // SAFETY: dropped once, here; no frame is left on it.
        unsafe { ManuallyDrop::drop(&mut self.stack) };
        if let BodyEnd::Panicked(payload) = ending {
            // A second panic would abort.
            if !panicking() {
                raise(payload);
            }
        }
    }
}

/// Why frames of a body are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhyLeft {
    NotHere(NotHere),
    /// What runs it goes on, or never will: `exit` was called in it, or the coroutine in
    /// which it waits has been abandoned.
    Runs,
    Stubborn,
}

/// When it is dropped frames of a body are left as they are.
struct LeftFrames(Stubborn);

impl Drop for LeftFrames {
    fn drop(&mut self) {
        leave_frames(self.0, WhyLeft::Stubborn);
    }
}

#[cold]
fn leave_frames(stubborn: Stubborn, why: WhyLeft) {
    let says = match why {
        WhyLeft::NotHere(NotHere::AnotherCoroutine) => "its frames belong to another coroutine",
        WhyLeft::NotHere(NotHere::ThreadLocalsEnded) => "its thread-locals have ended",
        WhyLeft::Runs => "it runs",
        WhyLeft::Stubborn if cfg!(panic = "abort") => {
            "this program aborts on panics, so nothing can unwind it"
        }
        WhyLeft::Stubborn => "it goes on whenever its `yield_` unwinds",
    };
    match stubborn {
        Stubborn::Leaks if why != WhyLeft::Stubborn || cfg!(panic = "abort") => {}
        Stubborn::Leaks => report(format_args!(
            "a generator was dropped before its end, and {says}: its stack is left as it is"
        )),
        Stubborn::Aborts => {
            report(format_args!(
                "the scope of a generator ended before the generator, which borrows from its \
                 caller, and {says}: resume it to its end"
            ));
            signal::abort()
        }
    }
}

#[cold]
fn refuse(why: NotHere) -> ! {
    match why {
        NotHere::AnotherCoroutine => panic!(
            "a generator was resumed in another coroutine than before, or outside of it: its \
             frames may refer to what is that coroutine's. Resume it where it was resumed first \
             (one of a scope: where the scope began), and send what it yields"
        ),
        NotHere::ThreadLocalsEnded => panic!(
            "a generator was resumed after thread-locals have ended that its frames may refer \
             to: resume it to its end before, or let it begin in the destructor that needs it"
        ),
    }
}

#[cold]
fn ends_are_not_noticed() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "with this C library the end of thread-locals can't be noticed, to which a generator that \
         is kept may refer; use generator::scope",
    )
}

/// A body on top of a shared coroutine is no coroutine: its frames do not lie on the
/// shared stack, so parking there would copy the wrong bytes. Code that runs while
/// this lives finds itself outside of coroutines, and waits by blocking the thread.
struct Hidden {
    /// Null: nothing was hidden.
    slot: *const Slot,
    /// In the child of a fork nothing comes back: it has no coroutines.
    forks: u32,
}

impl Hidden {
    fn enter() -> Self {
        let shared = CurrentTask::running().filter(|cx| cx.is_shared());
        shared.map_or_else(Self::nothing, Self::hide)
    }

    fn nothing() -> Self {
        Self {
            slot: ptr::null(),
            forks: 0,
        }
    }

    /// Of the coroutine that runs.
    #[inline(always)]
    fn hide(shared: CurrentTask) -> Self {
        set_running(ptr::null());
        Self {
            slot: shared.slot(),
            forks: fork::generation(),
        }
    }
}

impl Drop for Hidden {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.slot.is_null() && self.forks == fork::generation() {
            set_running(self.slot);
        }
    }
}
