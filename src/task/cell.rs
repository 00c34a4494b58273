//! The task cell, with the join state: a closure (or a future) on its way in, a
//! result on its way out.
//!
//! One allocation per spawn, shared by the task and its join handle. All that
//! is shared between threads is one word of bits, changed only by the named
//! transitions below:
//!
//! ```text
//!  TASK    the task may still touch the cell    cleared when `TaskRef` is dropped
//!  HANDLE  a join handle exists                 cleared by `JoinRef::release`
//!  DONE    the result is there                  set by `TaskRef::complete`
//!  WAKER   the joiner's waker is there          `JoinRef::set_waker` and back
//! ```
//!
//! - The result is written by the task before DONE, and read by the handle
//!   after it (release, acquire).
//! - The waker belongs to the handle while neither WAKER nor DONE is set, to
//!   the task once both are.
//! - The side that clears the last of TASK and HANDLE frees the cell.
//!
//! A started coroutine whose handle is gone needs no cell: then its slot
//! forgets it, and ten million detached coroutines carry none. A future's task
//! keeps it to the end: that is where the future is.

mod closure;
mod future;

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::provisional_id::{self, is_provisional};
use super::{Addr, Coroutine, JoinError};
use crate::shim::UnsafeCell;
use crate::shim::atomic::{AtomicU32, Ordering};
use crate::switch::EntryPoint;

pub(crate) use closure::{Closure, detach_if_unjoinable};
pub(crate) use future::{PolledFuture, poll};

const TASK: u32 = 1;
const HANDLE: u32 = 2;
const DONE: u32 = 4;
const WAKER: u32 = 8;

/// The part of a cell that does not depend on the closure's type.
#[repr(C)]
pub(crate) struct Header {
    /// First, so that a pointer to the header is one to the entry point.
    entry: EntryPoint,
    vtable: &'static VTable,
    state: AtomicU32,
    coroutine: Coroutine,
    waker: UnsafeCell<Option<Waker>>,
}

type PollFn = unsafe fn(NonNull<Header>, &mut Context<'_>) -> Poll<()>;

struct VTable {
    /// `None` for a closure, which is run. Polls a future; once it is ready,
    /// drops it and writes its output as the result. By the task's side, before
    /// DONE.
    poll: Option<PollFn>,
    /// Moves the result out to `*mut Result<T, JoinError>`. Once, after DONE.
    take: unsafe fn(NonNull<Header>, *mut ()),
    /// Writes an error as the result. By the task's side, before DONE.
    fail: unsafe fn(NonNull<Header>, JoinError),
    /// Drops a closure that was never run, or a future that has not ended. By
    /// the task's side.
    drop_work: unsafe fn(NonNull<Header>),
    /// Drops a result that was not taken.
    drop_result: unsafe fn(NonNull<Header>),
    /// Frees the allocation and the header's parts.
    free: unsafe fn(NonNull<Header>),
}

/// What the work's place holds over time. A closure: itself, then nothing
/// while it runs, then the result. A future: itself until it has ended, then
/// the result.
#[repr(C)]
union Stage<F, T> {
    work: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T, JoinError>>,
}

#[repr(C)]
pub(super) struct TaskCell<F, T> {
    header: Header,
    stage: MaybeUninit<Stage<F, T>>,
}

/// What is the same for closures and futures.
impl<F, T> TaskCell<F, T> {
    const fn vtable(poll: Option<PollFn>) -> VTable {
        VTable {
            poll,
            take: Self::take,
            fail: Self::fail,
            drop_work: Self::drop_work,
            drop_result: Self::drop_result,
            free: Self::free,
        }
    }

    /// Where work and result live.
    pub(super) unsafe fn stage<V>(header: NonNull<Header>) -> *mut V {
        // SAFETY: the header is the head of a live cell of this type (I14);
        // only the address is made here.
        unsafe { (&raw mut (*header.cast::<Self>().as_ptr()).stage).cast() }
    }

    unsafe fn take(header: NonNull<Header>, out: *mut ()) {
        // SAFETY: after DONE the result is there, the handle's (I14), which takes
        // it once; `out` is the caller's.
        unsafe {
            out.cast::<Result<T, JoinError>>()
                .write(Self::stage::<Result<T, JoinError>>(header).read())
        };
    }

    unsafe fn fail(header: NonNull<Header>, error: JoinError) {
        // SAFETY: before DONE the stage is the task's side's (I14); it holds
        // nothing.
        unsafe { Self::stage::<Result<T, JoinError>>(header).write(Err(error)) };
    }

    unsafe fn drop_work(header: NonNull<Header>) {
        // SAFETY: the work is there, a closure that was never run or a future
        // that has not ended, the task's side's before DONE (I14). A future stays
        // where it is pinned.
        unsafe { Self::stage::<F>(header).drop_in_place() };
    }

    unsafe fn drop_result(header: NonNull<Header>) {
        // SAFETY: the result is there, not taken, and both sides have let go
        // (I14).
        unsafe { Self::stage::<Result<T, JoinError>>(header).drop_in_place() };
    }

    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: `allocate` made it with `Box`, and both sides have let go (I14);
        // the stage never drops by itself.
        drop(unsafe { Box::from_raw(header.cast::<Self>().as_ptr()) });
    }
}

impl Header {
    /// What the task is known by.
    pub(crate) fn coroutine(&self) -> &Coroutine {
        &self.coroutine
    }

    /// The identity, if the task has one.
    pub(crate) fn known(&self) -> Option<Addr> {
        self.coroutine.known()
    }

    /// What starts the task; see [`EntryPoint`].
    pub(crate) fn entry(&self) -> *const EntryPoint {
        &raw const self.entry
    }

    /// Whether the task is a future, to be polled instead of run on a stack.
    pub(crate) fn is_polled(&self) -> bool {
        self.vtable.poll.is_some()
    }

    pub(super) fn is_joinable(&self) -> bool {
        self.state.load(Ordering::Acquire) & HANDLE != 0
    }

    fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) & DONE != 0
    }
}

impl Drop for Header {
    /// Both sides have let go: a task that was not placed never will be.
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(id) = self.known().filter(|&id| is_provisional(id)) {
            provisional_id::discard_unplaced(id);
        }
    }
}

/// The task's side of a cell. Dropping it releases the cell.
pub(crate) struct TaskRef(pub(super) NonNull<Header>);

/// The join handle's side of a cell. Dropping it releases the cell, and
/// with it a result that was not taken.
pub(crate) struct JoinRef(NonNull<Header>);

/// What a task has to do: a [`Closure`] to run as a coroutine, or a future to
/// poll ([`PolledFuture`]).
pub(crate) trait Work {
    /// What comes out.
    type Output;

    /// A cell with the work inside, for a task at `addr` if it has one yet:
    /// both sides of it.
    ///
    /// The header pointer is the task's side with the work inside: give it to
    /// a slot, or end it with [`TaskRef::discard`].
    fn into_cell(self, addr: Option<Addr>, name: Option<Arc<str>>) -> (NonNull<Header>, JoinRef);
}

fn allocate<F, T>(
    work: F,
    entry: EntryPoint,
    vtable: &'static VTable,
    addr: Option<Addr>,
    name: Option<Arc<str>>,
) -> (NonNull<Header>, JoinRef) {
    let stage = Stage {
        work: ManuallyDrop::new(work),
    };
    let cell = TaskCell::<F, T> {
        header: Header {
            entry,
            vtable,
            state: AtomicU32::new(TASK | HANDLE),
            coroutine: Coroutine::new(addr, name),
            waker: UnsafeCell::new(None),
        },
        stage: MaybeUninit::new(stage),
    };
    let header = NonNull::from(Box::leak(Box::new(cell))).cast();
    (header, JoinRef(header))
}

impl TaskRef {
    /// What a slot holds, if it holds anything.
    ///
    /// # Safety
    ///
    /// - `cell` is null or a live cell's task side, given up by its holder.
    pub(crate) unsafe fn from_slot(cell: *const Header) -> Option<Self> {
        NonNull::new(cell.cast_mut()).map(Self)
    }

    /// Ends the task without a value.
    ///
    /// # Safety
    ///
    /// - The closure was taken out of the cell (the task has started).
    pub(crate) unsafe fn fail(self, error: JoinError) {
        // SAFETY: the stage is the task's side's before DONE (I14), and holds
        // nothing, as the caller says; the vtable knows the types.
        unsafe { (self.header().vtable.fail)(self.0, error) };
        self.complete();
    }

    /// Ends a task that never ran, or a future that has not ended. The work's
    /// destructor may panic; the joiner gets its error all the same.
    ///
    /// # Safety
    ///
    /// - The closure or future is still in the cell.
    pub(crate) unsafe fn discard(self, error: JoinError) {
        struct Fail(Option<(TaskRef, JoinError)>);
        impl Drop for Fail {
            fn drop(&mut self) {
                let (cell, error) = self.0.take().expect("dropped once");
                // SAFETY: the stage holds nothing: the work's destructor has been
                // called.
                unsafe { cell.fail(error) };
            }
        }
        let (header, drop_work) = (self.0, self.header().vtable.drop_work);
        let _fail = Fail(Some((self, error)));
        // SAFETY: the work is there, as the caller says, the task's side's before
        // DONE (I14); this is the only time it is dropped.
        unsafe { drop_work(header) };
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: TASK is set while a `TaskRef` lives (I14).
        unsafe { self.0.as_ref() }
    }

    /// The result has been written: publish it and wake the joiner.
    #[inline]
    pub(super) fn complete(self) {
        // With a handle that does not wait yet, both sides are done with each
        // other in one step: the handle finds the result, and frees it all.
        let state = &self.header().state;
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let quick = state.compare_exchange(TASK | HANDLE, HANDLE | DONE, release, relaxed);
        if quick.is_ok() {
            std::mem::forget(self);
        } else {
            self.complete_slowly();
        }
    }

    /// The handle waits, or is gone.
    fn complete_slowly(self) {
        let before = self.header().state.fetch_or(DONE, Ordering::AcqRel);
        debug_assert!(before & DONE == 0, "a task ended twice");
        if before & WAKER != 0 {
            // SAFETY: WAKER and DONE are set: the waker is the task's side's (I14).
            self.header()
                .waker
                .with(|waker| unsafe { (*waker).as_ref().map(Waker::wake_by_ref) });
        }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        let state = &self.header().state;
        // A handle that is gone never comes back: no need to tell it.
        let mut before = state.load(Ordering::Acquire);
        if before & HANDLE != 0 {
            before = state.fetch_and(!TASK, Ordering::AcqRel);
        }
        if before & HANDLE == 0 {
            // SAFETY: both sides have let go, this one last (I14).
            unsafe { free(self.0, before & DONE != 0) };
        }
    }
}

// SAFETY: the handle's side touches the shared word, and the waker and result
// when the word gives it them (I14); whether `T` may cross threads is
// `JoinHandle<T>`'s bound.
unsafe impl Send for JoinRef {}
// SAFETY: through `&JoinRef` only the word and the immutable parts are read.
unsafe impl Sync for JoinRef {}

impl JoinRef {
    /// The immutable parts: address and name.
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: HANDLE is set while a `JoinRef` lives (I14).
        unsafe { self.0.as_ref() }
    }

    /// The cell, to compare with what a slot holds.
    pub(crate) fn as_ptr(&self) -> *const Header {
        self.0.as_ptr()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.header().is_done()
    }

    /// Leaves a waker to be woken at the end; `true` if the end has come
    /// already (then it may or may not be woken).
    #[must_use]
    pub(crate) fn set_waker(&mut self, waker: &Waker) -> bool {
        let state = self.header().state.load(Ordering::Acquire);
        if state & DONE != 0 {
            return true;
        }
        if state & WAKER != 0 {
            // SAFETY: WAKER without DONE: both sides may only read (I14).
            let same = self
                .header()
                .waker
                .with(|w| unsafe { (*w).as_ref().is_some_and(|w| w.will_wake(waker)) });
            if same {
                return false;
            }
            let before = self.header().state.fetch_and(!WAKER, Ordering::AcqRel);
            if before & DONE != 0 {
                return true;
            }
        }
        // SAFETY: neither WAKER nor DONE was set: the waker is the handle's (I14),
        // and the task uses it only if it finds WAKER when it sets DONE.
        let old = self
            .header()
            .waker
            .with_mut(|w| unsafe { (*w).replace(waker.clone()) });
        drop(old);
        self.header().state.fetch_or(WAKER, Ordering::AcqRel) & DONE != 0
    }

    /// The result.
    ///
    /// # Safety
    ///
    /// - `T` is the closure's type of result.
    /// - The cell is done.
    pub(crate) unsafe fn take<T>(self) -> Result<T, JoinError> {
        let mut out = MaybeUninit::<Result<T, JoinError>>::uninit();
        // SAFETY: after DONE the result is the handle's (I14), which is consumed:
        // it is taken once, as a `T` by the caller's promise.
        unsafe { (self.header().vtable.take)(self.0, out.as_mut_ptr().cast()) };
        // Clearing DONE as well tells the task's side that nothing is left.
        self.release(HANDLE | DONE);
        // SAFETY: `take` has written it.
        unsafe { out.assume_init() }
    }

    /// Lets go of the cell by clearing `bits`, HANDLE among them.
    fn release(self, bits: u32) {
        let this = ManuallyDrop::new(self);
        let state = &this.header().state;
        // A task that has let go never comes back: no need to tell it.
        let mut before = state.load(Ordering::Acquire);
        if before & TASK != 0 {
            before = state.fetch_and(!bits, Ordering::AcqRel);
        }
        if before & TASK == 0 {
            // SAFETY: both sides have let go, this one last (I14).
            unsafe { free(this.0, before & !bits & DONE != 0) };
        }
    }
}

impl Drop for JoinRef {
    fn drop(&mut self) {
        // SAFETY: `self` is not used again; `release` forgets its copy.
        unsafe { ptr::read(self) }.release(HANDLE);
    }
}

/// Drops what is left and frees the cell, also if a destructor panics.
///
/// # Safety
///
/// - Both sides have let go; `with_result` exactly if a result is there.
unsafe fn free(header: NonNull<Header>, with_result: bool) {
    struct Free(NonNull<Header>);
    impl Drop for Free {
        fn drop(&mut self) {
            // SAFETY: both sides have let go (I14).
            unsafe { (self.0.as_ref().vtable.free)(self.0) };
        }
    }
    let guard = Free(header);
    if with_result {
        // SAFETY: the caller says that it is there.
        unsafe { (guard.0.as_ref().vtable.drop_result)(guard.0) };
    }
}
