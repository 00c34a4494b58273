//! The exchange: a coroutine that passes values both ways, which generators are
//! made of.
//!
//! Unlike a [carrier](super::Carrier) it is one corosensei coroutine for one body,
//! has no worker, and is resumed by whoever holds it. The values travel in registers
//! if they fit; what else the two sides tell each other is in the [`Control`], which
//! lies at the top of the stack.
//!
//! corosensei is built without unwinding (carriers need none), so both ways of a
//! panic are made here: what leaves the body is caught at its root and handed to
//! the resumer, and a body that is to end early is resumed with no value.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::thread::panicking;

use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::carrier::{BorrowedStack, stack_pointer};
use crate::stack::StackBounds;
use crate::sys::{tsan, unwind};

/// How often a body may swallow the unwind that is to end it.
const PATIENCE: u32 = 1_000;

type Payload = Box<dyn Any + Send>;
type ExchangeCoro<In, Y, R> = Coroutine<MaybeUninit<In>, Y, Result<R, Payload>, BorrowedStack>;

/// What both sides know besides the value. Only one of them runs at a time, on one
/// thread.
#[repr(align(64))]
#[derive(Default)]
struct Control {
    /// The body runs, or waits for others in what it has called. (Here, as the handle is
    /// borrowed meanwhile: what is stored there need not be seen by who drops it then.)
    running: Cell<bool>,
    /// The body was resumed without a value: it is to unwind.
    ending: Cell<bool>,
    /// It was resumed by code that unwinds: the thread's panic count says nothing of it.
    resumer_unwinds: Cell<bool>,
    /// The panic of what a body that never began had captured.
    torn: Cell<Option<Payload>>,
}

const _: () = assert!(size_of::<Control>() == 64);

/// A body that has not begun. If it is dropped, a panic is kept.
struct Fresh<F> {
    body: ManuallyDrop<Box<F>>,
    control: NonNull<Control>,
}

impl<F> Fresh<F> {
    fn begin(self) -> Box<F> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.body) }
    }
}

impl<F> Drop for Fresh<F> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        let body = unsafe { ManuallyDrop::take(&mut self.body) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
            // SAFETY: it lies on the stack, which is there longer than the body.
            unsafe { self.control.as_ref() }.torn.set(Some(payload));
        }
    }
}

/// The payload of the unwind that ends a body. The panic hook never sees it.
struct Unwound;

/// Why control came back to the resumer.
pub(crate) enum Passed<Y, R> {
    Yielded(Y),
    Returned(R),
    /// The body has ended by this.
    Panicked(Payload),
}

/// What is on a body's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// The body has not begun, or has ended: nothing.
    Empty,
    Suspended,
    /// It runs, or its resumer waits for others: for ever, perhaps.
    Running,
}

/// What became of a body that was to end.
#[must_use]
pub(crate) enum BodyEnd {
    /// Its frames are gone.
    Ended,
    /// The same, by this panic of its own.
    Panicked(Payload),
    /// It can't unwind, or does not want to: its frames are left as they are.
    Stays,
}

/// See the module. A body whose frames still lie on the stack is forgotten when this
/// is dropped: [`Exchange::end`] is for that.
pub(crate) struct Exchange<In, Y, R> {
    /// Not dropped while suspended: it would abort.
    coro: ManuallyDrop<ExchangeCoro<In, Y, R>>,
    /// There as long as the stack is ours.
    control: NonNull<Control>,
    /// A body may have anything on its stack, and it may have seen `In`s that live
    /// no longer than those of now: neither `Send` nor `Sync`, and invariant.
    _here: PhantomData<(*mut (), fn(In) -> In)>,
}

impl<In, Y, R> Exchange<In, Y, R> {
    /// # Safety
    ///
    /// - The memory between the bounds is readable, writable, and the caller's alone,
    ///   a guard below it; for ever, unless the body has ended.
    /// - What `body` borrows is there until it has ended.
    pub(crate) unsafe fn new<F>(bounds: StackBounds, body: F) -> Self
    where
        F: FnOnce(Port<In, Y>, In) -> R,
    {
        let (control, stack) = {
            let at = bounds.base.get() - size_of::<Control>();
            let at = ptr::with_exposed_provenance_mut::<Control>(at);
            // SAFETY: the memory is the caller's alone; a base is a multiple of 64.
            unsafe { at.write(Control::default()) };
            let control = NonNull::new(at).expect("a stack is not at address 0");
            (control, Self::stack_below(control, bounds.limit))
        };
        // corosensei moves it to the stack, and does not look whether there is room.
        let fresh = Fresh {
            body: ManuallyDrop::new(Box::new(body)),
            control,
        };
        let root = move |yielder: &Yielder<MaybeUninit<In>, Y>, first: MaybeUninit<In>| {
            let port = Port {
                yielder: NonNull::from(yielder),
                control,
                limit: bounds.limit,
                size: bounds.base.get() - bounds.limit.get(),
            };
            // SAFETY: only `resume` resumes a body that has not begun.
            let first = unsafe { first.assume_init() };
            let (mut begins, mut result) = (Some((fresh, port, first)), None);
            unwind::catch_at_root(&mut || {
                result = begins
                    .take()
                    .map(|(fresh, port, first)| fresh.begin()(port, first));
            })
            .map(|()| result.expect("it was called, and has returned"))
        };
        // SAFETY: what the body borrows, and its stack, stay until it ends or for
        // ever: the caller's promises.
        let coro = unsafe { Coroutine::with_stack_unchecked(stack, root) };
        Self {
            coro: ManuallyDrop::new(coro),
            control,
            _here: PhantomData,
        }
    }

    fn stack_below(control: NonNull<Control>, limit: NonZeroUsize) -> BorrowedStack {
        BorrowedStack::new(StackBounds {
            base: control.addr(),
            limit,
        })
    }

    /// Whether the body can't be resumed: it has returned or panicked, or it runs.
    #[inline(always)]
    pub(crate) fn is_done(&self) -> bool {
        self.coro.done()
    }

    pub(crate) fn state(&self) -> BodyState {
        if self.control().running.get() {
            BodyState::Running
        } else if self.coro.started() && !self.coro.done() {
            BodyState::Suspended
        } else {
            BodyState::Empty
        }
    }

    /// Runs the body up to its next yield, or its end. Not for code that unwinds.
    ///
    /// # Panics
    ///
    /// When the body has ended.
    #[inline(always)]
    pub(crate) fn resume(&mut self, input: In) -> Passed<Y, R> {
        match self.switch(MaybeUninit::new(input)) {
            CoroutineResult::Yield(value) => Passed::Yielded(value),
            CoroutineResult::Return(result) => {
                result.map_or_else(Passed::Panicked, Passed::Returned)
            }
        }
    }

    /// # Panics
    ///
    /// When the body has ended.
    #[inline(always)]
    fn switch(&mut self, input: MaybeUninit<In>) -> CoroutineResult<Y, std::thread::Result<R>> {
        self.control().running.set(true);
        // After the store: corosensei asks the same, and it is then asked once.
        if self.is_done() {
            ended_already(self.control());
        }
        let base = self.control.addr().get();
        let result = tsan::entering(base, || self.coro.resume(input));
        self.control().running.set(false);
        result
    }

    /// As [`Exchange::resume`], for any code.
    pub(crate) fn resume_anywhere(&mut self, input: In) -> Passed<Y, R> {
        self.control().resumer_unwinds.set(panicking());
        let passed = self.resume(input);
        self.control().resumer_unwinds.set(false);
        passed
    }

    /// Ends the body: one that has not begun is dropped, one that is suspended
    /// unwinds. Call it once, as the last thing, and not while it runs. If it unwinds (a
    /// destructor of a `Y` panics) the frames stay.
    pub(crate) fn end(&mut self) -> BodyEnd {
        debug_assert_ne!(self.state(), BodyState::Running);
        let ending = match self.state() {
            BodyState::Suspended => self.unwind(),
            BodyState::Empty | BodyState::Running => BodyEnd::Ended,
        };
        if !matches!(ending, BodyEnd::Stays) {
            // SAFETY: the caller is done with it. No frame of the body is left.
            unsafe { ManuallyDrop::drop(&mut self.coro) };
        }
        match self.control().torn.take() {
            Some(payload) => BodyEnd::Panicked(payload),
            None => ending,
        }
    }

    fn unwind(&mut self) -> BodyEnd {
        if cfg!(panic = "abort") {
            return BodyEnd::Stays;
        }
        self.control().ending.set(true);
        self.control().resumer_unwinds.set(panicking());
        for _ in 0..PATIENCE {
            match self.switch(MaybeUninit::uninit()) {
                // It has caught the unwind.
                CoroutineResult::Yield(_) => {}
                CoroutineResult::Return(Err(payload)) if !payload.is::<Unwound>() => {
                    return BodyEnd::Panicked(payload);
                }
                CoroutineResult::Return(_) => return BodyEnd::Ended,
            }
        }
        BodyEnd::Stays
    }

    #[inline(always)]
    fn control(&self) -> &Control {
        // SAFETY: `new` wrote it to the stack, which stays as long as this does.
        unsafe { self.control.as_ref() }
    }
}

/// The way from a body back to its resumer.
pub(crate) struct Port<In, Y> {
    /// Lies at the base of the stack, where it outlives the body.
    yielder: NonNull<Yielder<MaybeUninit<In>, Y>>,
    control: NonNull<Control>,
    /// The lowest address of the stack, and its bytes.
    limit: NonZeroUsize,
    size: usize,
}

impl<In, Y> Port<In, Y> {
    /// Hands `value` to the resumer; returns what it resumes with.
    ///
    /// # Panics
    ///
    /// - On another stack than the body's own: its resumer may not be waiting.
    /// - While the body unwinds: its panic count would show on the resumer's thread.
    ///
    /// Unwinds where the body is to end.
    #[inline(always)]
    pub(crate) fn pass(&self, value: Y) -> In {
        if !self.is_on_own_stack() {
            wrong_stack();
        }
        if panicking() {
            refuse_while_unwinding(self.control().resumer_unwinds.get());
        }
        // SAFETY: lies at the base of the stack that we run on. The resumer waits:
        // only it starts code on this stack.
        let input = unsafe { self.yielder.as_ref() }.suspend(value);
        if self.control().ending.get() {
            resume_unwind(Box::new(Unwound));
        }
        // SAFETY: all but `unwind` resume with a value, and that says so.
        unsafe { input.assume_init() }
    }

    #[inline(always)]
    fn is_on_own_stack(&self) -> bool {
        stack_pointer().wrapping_sub(self.limit.get()) < self.size
    }

    #[inline(always)]
    fn control(&self) -> &Control {
        // SAFETY: at the top of the stack that this lies on.
        unsafe { self.control.as_ref() }
    }
}

#[cold]
fn ended_already(control: &Control) -> ! {
    control.running.set(false);
    panic!("a generator was resumed after its end: ask `is_done` before")
}

#[cold]
fn wrong_stack() -> ! {
    panic!(
        "a generator's `yield_` was called on another stack than the generator's own: inside \
         another generator, another coroutine, a call of `grow`, or a signal handler"
    )
}

/// Unless it is only the resumer that unwinds. (Never inlined: the caller's table says
/// what an unwind out of this call meets, if there may be one.)
#[cold]
#[inline(never)]
fn refuse_while_unwinding(resumer_unwinds: bool) {
    assert!(
        resumer_unwinds && !unwind::is_in_cleanup(),
        "a generator must not yield while it unwinds: a destructor called `yield_`; let the body \
         yield before its values are dropped"
    );
}
