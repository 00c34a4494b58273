//! The carrier, trampoline of a stack: one corosensei coroutine that calls entry
//! point after entry point.
//!
//! It lies at the top of its stack (drawn in the [parent](super)). Only the
//! thread that installed it touches it (I3): the worker's loop between two
//! resumes, and the code on its stack meanwhile, which reads its yielder.

use std::any::Any;
use std::cell::Cell;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::stack::StackBounds;
use crate::sys::tsan;

/// What a carrier calls: the head of a larger allocation that `run` knows.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct EntryPoint {
    /// May unwind. Called once, with a pointer to this head.
    pub(crate) run: unsafe fn(NonNull<EntryPoint>),
}

/// Why control came back to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SwitchReason {
    /// The coroutine waits for a wake-up.
    Parked,
    /// The coroutine can go on at once.
    Yielded,
    /// The same, and it has used up its budget of operations.
    OutOfBudget,
    /// Another coroutine is to run until it suspends, then this one goes on.
    Called,
    /// The entry point returned; the carrier is at its idle point.
    Finished,
    /// The entry point unwound; [`take_panic`] has the payload. Idle as well.
    Panicked,
    /// The coroutine must never be resumed: its frames are to be forgotten (I6).
    Abandoned,
    /// A closure has run on the coroutine's stack; it is suspended as before.
    RanOnStack,
}

type Input = *const EntryPoint;
type CoroYielder = Yielder<Input, SwitchReason>;
type Coro = Coroutine<Input, SwitchReason, (), BorrowedStack>;

/// The way from running code back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct YielderPtr(*const CoroYielder);

impl YielderPtr {
    /// Nothing runs.
    pub(crate) const NONE: Self = Self(ptr::null());

    /// Leaves the running coroutine; returns what it is resumed with.
    ///
    /// # Safety
    ///
    /// - It is the yielder of the carrier which runs this code, on its own stack.
    #[inline(always)]
    pub(super) unsafe fn leave(self, reason: SwitchReason) -> *const EntryPoint {
        // SAFETY: the caller runs on the stack at whose base the yielder lives
        // (I13), a base frame that stays where it is (I7).
        unsafe { (*self.0).suspend(reason) }
    }

    /// Runs `f`, which does not panic, on the worker's stack, as if it were called here.
    ///
    /// # Safety
    ///
    /// - As [`YielderPtr::leave`].
    pub(crate) unsafe fn on_worker_stack(self, f: &mut dyn FnMut()) {
        struct OnWorker<'a>(&'a mut dyn FnMut());
        // SAFETY: it is another stack, and not another thread.
        unsafe impl Send for OnWorker<'_> {}
        impl OnWorker<'_> {
            fn run(self) {
                (self.0)();
            }
        }
        let here = OnWorker(f);
        // SAFETY: as in `leave`. The worker waits in its resume, and nothing lies below.
        unsafe { (*self.0).on_parent_stack(move || here.run()) }
    }
}

/// The place of the suspended stack pointer among the words of a [`Coro`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SpWord(usize);

/// A coroutine handle that lies at the top of the stack it is for. See the
/// module.
#[repr(C, align(64))]
pub(crate) struct Carrier {
    /// Never dropped in place: forgetting an idle carrier loses nothing, its
    /// frames own nothing (see `body`).
    coro: ManuallyDrop<Coro>,
    yielder: YielderPtr,
    sp_word: SpWord,
    /// The lowest address of the stack.
    limit: NonZeroUsize,
}

// The sanitizer keeps words of its own in the handle.
const _: () = assert!(size_of::<Carrier>() == if cfg!(feature = "sanitizer") { 128 } else { 64 });
const WORDS: usize = size_of::<Coro>() / size_of::<usize>();

thread_local! {
    /// How a new carrier tells `install` where its yielder is.
    static NEW_YIELDER: Cell<YielderPtr> = const { Cell::new(YielderPtr::NONE) };
    /// Where the frames of the entry point that was called last begin; see
    /// [`Carrier::copy_boundary`].
    static BOUNDARY: Cell<usize> = const { Cell::new(0) };
    /// The payload of the last entry point that panicked.
    /// (Without a destructor: coroutines may run while the thread's other
    /// thread-locals end.)
    static PANIC: Cell<Option<ManuallyDrop<Box<dyn Any + Send>>>> = const { Cell::new(None) };
}

/// The panic payload that came with [`SwitchReason::Panicked`].
pub(crate) fn take_panic() -> Box<dyn Any + Send> {
    let payload = PANIC
        .take()
        .expect("SwitchReason::Panicked comes with a payload");
    ManuallyDrop::into_inner(payload)
}

impl Carrier {
    /// Where the carrier of a stack lies.
    #[inline(always)]
    pub(crate) fn at(bounds: StackBounds) -> *mut Self {
        ptr::with_exposed_provenance_mut(bounds.base.get() - size_of::<Self>())
    }

    /// Writes a carrier to the top of the stack and brings it to its idle point.
    ///
    /// # Safety
    ///
    /// - The memory between the bounds is readable, writable, and the caller's
    ///   alone, a guard below it.
    /// - It stays so, at its address, until the carrier is not resumed any more.
    pub(crate) unsafe fn install(bounds: StackBounds) -> *mut Self {
        let at = Self::at(bounds);
        debug_assert!(at.is_aligned() && bounds.limit.get() % 16 == 0);
        let stack = BorrowedStack {
            // The carrier is at least one line long, so this is not zero.
            base: NonZeroUsize::new(at.expose_provenance()).expect("a stack is not at address 0"),
            limit: bounds.limit,
        };
        let mut coro = Coro::with_stack(stack, body);
        let before = words(&coro);
        let idle = tsan::entering(at.addr(), || coro.resume(ptr::null()));
        assert!(matches!(
            idle,
            CoroutineResult::Yield(SwitchReason::Finished)
        ));
        let sp_word = learn_sp_word(&before, &words(&coro), bounds);
        let carrier = Self {
            coro: ManuallyDrop::new(coro),
            yielder: NEW_YIELDER.get(),
            sp_word,
            limit: bounds.limit,
        };
        // SAFETY: the memory is the caller's alone, aligned as `base` is, and lies
        // above the stack that corosensei was given.
        unsafe { at.write(carrier) };
        at
    }

    /// Calls the entry point on the idle carrier, or (`null`) goes on with the
    /// coroutine that is suspended on it, until that suspends or ends.
    ///
    /// # Safety
    ///
    /// - `this` was installed, its memory has been left alone since.
    /// - Called on the worker's own stack, on the thread that installed it.
    /// - `entry` is non-null, and valid until it ends, exactly if the carrier is
    ///   idle; or it is the head of a stack call, and the carrier is not.
    #[inline(always)]
    pub(crate) unsafe fn resume(this: *mut Self, entry: *const EntryPoint) -> SwitchReason {
        // SAFETY: installed and left alone, so a live coroutine. Nothing else has
        // a reference to it: only this thread uses it (I3), from the worker's own
        // stack, and the code that runs meanwhile reads `yielder` and `limit`.
        let coro = unsafe { &mut (*this).coro };
        match tsan::entering(this.addr(), || coro.resume(entry)) {
            CoroutineResult::Yield(reason) => reason,
            // `body` never returns.
            CoroutineResult::Return(()) => unreachable!("a carrier ended"),
        }
    }

    /// As [`Carrier::resume`], but not on the worker's own stack: on another carrier's, a
    /// generator's or a thread's, which waits as that does. What a coroutine that runs there
    /// is copied by stays.
    ///
    /// # Safety
    ///
    /// - As there but for the stack.
    #[inline(always)]
    pub(crate) unsafe fn resume_above(this: *mut Self, entry: *const EntryPoint) -> SwitchReason {
        let boundary = Self::copy_boundary();
        // SAFETY: the caller's; a stack that waits is all that is needed of the one here.
        let reason = unsafe { Self::resume(this, entry) };
        set_boundary(boundary);
        reason
    }

    /// What [`suspend`](super::suspend()) needs on this carrier's stack. No
    /// reference: the worker, while it resumes, has one to `coro` in here.
    ///
    /// # Safety
    ///
    /// - `this` was installed.
    #[inline(always)]
    pub(crate) unsafe fn yielder(this: *const Self) -> YielderPtr {
        // SAFETY: installed; never written again, outside of `coro`.
        unsafe { (*this).yielder }
    }

    /// Whether the address lies on the carrier's stack, below itself.
    ///
    /// # Safety
    ///
    /// - `this` was installed.
    #[inline(always)]
    pub(crate) unsafe fn holds(this: *const Self, address: usize) -> bool {
        // SAFETY: forwarded.
        unsafe { Self::stack(this) }.contains(&address)
    }

    /// The stack below itself.
    ///
    /// # Safety
    ///
    /// - `this` was installed.
    #[inline(always)]
    pub(crate) unsafe fn stack(this: *const Self) -> Range<usize> {
        // SAFETY: installed; never written again, outside of `coro`.
        let limit = unsafe { (*this).limit };
        limit.get()..this.addr()
    }

    /// Whether any of `len` bytes lies on the carrier's stack.
    ///
    /// # Safety
    ///
    /// - `this` was installed.
    pub(crate) unsafe fn holds_any(this: *const Self, address: usize, len: usize) -> bool {
        // SAFETY: as in `holds`.
        let limit = unsafe { (*this).limit };
        address < this.addr() && address.saturating_add(len) > limit.get()
    }

    /// The lowest address of its stack.
    pub(crate) fn limit(&self) -> usize {
        self.limit.get()
    }

    /// The suspended stack pointer. Everything live lies at or above it.
    #[inline(always)]
    pub(crate) fn sp(&self) -> usize {
        let words = (&raw const *self.coro).cast::<usize>();
        // SAFETY: `learn_sp_word` found the word among those of the coroutine.
        unsafe { words.add(self.sp_word.0).read() }
    }

    /// Says where the carrier's frames now begin.
    ///
    /// # Safety
    ///
    /// - The bytes from `sp` up are what they were when [`Carrier::sp`] gave
    ///   `sp` for this carrier.
    pub(crate) unsafe fn set_sp(&mut self, sp: usize) {
        debug_assert!((self.limit.get()..ptr::from_ref(self).addr()).contains(&sp));
        let words = (&raw mut *self.coro).cast::<usize>();
        // SAFETY: the word is one that `learn_sp_word` saw changing with the
        // stack pointer, and `sp` is a value that it has had.
        unsafe { words.add(self.sp_word.0).write(sp) };
    }

    /// Bytes that a call instruction pushes. The word belongs to the base frames:
    /// all entry points return to the one place in `call` (I7).
    pub(crate) const RETURN_ADDRESS: usize = if cfg!(target_arch = "x86_64") { 8 } else { 0 };

    /// The border between the base frames and those of the entry point that was
    /// called last on this thread. It is the same for all of one stack.
    pub(crate) fn copy_boundary() -> usize {
        BOUNDARY.get()
    }
}

/// Sets the copy boundary. Never inlined, as [`set_panic`]: [`body`] lives on
/// while blocks of thread-locals change under it, and must not keep the address
/// of one (I12).
#[inline(never)]
fn set_boundary(boundary: usize) {
    BOUNDARY.set(boundary);
}

#[cold]
#[inline(never)]
fn set_panic(payload: Box<dyn Any + Send>) {
    PANIC.set(Some(ManuallyDrop::new(payload)));
}

#[cold]
#[inline(never)]
fn set_yielder(yielder: &CoroYielder) {
    NEW_YIELDER.set(YielderPtr(yielder));
}

/// The carrier's life. Its frames own nothing that needs dropping, so a
/// suspended carrier can be forgotten; and they hold nothing that is needed
/// after an entry point was called and that differs between two of them, so that
/// on a shared stack one image of them serves all (I7).
fn body(yielder: &CoroYielder, _: Input) {
    set_yielder(yielder);
    let mut reason = SwitchReason::Finished;
    loop {
        let entry = yielder.suspend(reason);
        // SAFETY: an idle carrier is resumed with a valid entry point (I3).
        reason = match catch_unwind(AssertUnwindSafe(move || unsafe { call(entry) })) {
            Ok(()) => SwitchReason::Finished,
            Err(payload) => {
                set_panic(payload);
                SwitchReason::Panicked
            }
        };
    }
}

/// Notes the copy boundary and calls the entry point. Inlined into
/// `catch_unwind`'s callee, so that the entry point's frames begin right below
/// the stack pointer read here.
///
/// # Safety
///
/// - `entry` is non-null, and valid until it ends.
#[inline(always)]
unsafe fn call(entry: *const EntryPoint) {
    set_boundary(stack_pointer() - Carrier::RETURN_ADDRESS);
    // SAFETY: the caller's promise; called once, with its own head.
    unsafe { ((*entry).run)(NonNull::new_unchecked(entry.cast_mut())) };
    // Something to do after the call, so that it is one (I7): a jump in its
    // place would find the stack pointer elsewhere.
    //
    // SAFETY: no instruction.
    unsafe { std::arch::asm!("", options(nomem, nostack, preserves_flags)) };
}

/// Where the calling code's frames end.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads one register.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

/// corosensei does not publish the suspended stack pointer, and a shared stack
/// has to read and change it. Of the words of a `Coroutine` exactly one changes
/// from "created" to "suspended": that one. Checked at every installation; the
/// crate is pinned in Cargo.toml.
fn learn_sp_word(before: &[usize; WORDS], after: &[usize; WORDS], bounds: StackBounds) -> SpWord {
    let mut changed = (0..WORDS).filter(|&i| before[i] != after[i]);
    let word = changed.next().expect("no word of the coroutine changed");
    assert!(
        changed.next().is_none() && (bounds.limit.get()..bounds.base.get()).contains(&after[word]),
        "corosensei's Coroutine is not laid out as expected; use the pinned version"
    );
    SpWord(word)
}

fn words(coro: &Coro) -> [usize; WORDS] {
    // SAFETY: a `Coro` is made of `WORDS` initialised words: pointers and
    // addresses, no padding (its size is the sum of its fields').
    unsafe { mem::transmute_copy(coro) }
}

/// corosensei's view of a stack, which it does not own.
#[derive(Debug)]
pub(super) struct BorrowedStack {
    base: StackPointer,
    limit: StackPointer,
}

impl BorrowedStack {
    /// All of it. Whoever makes a coroutine on it answers for the memory.
    pub(super) fn new(bounds: StackBounds) -> Self {
        Self {
            base: bounds.base,
            limit: bounds.limit,
        }
    }
}

// SAFETY: the callers of `Carrier::install` and `Exchange::new` give memory of their
// own that stays, with a guard below the limit, which is a page's start; the base, or
// the carrier above it, is aligned to 64 bytes.
unsafe impl Stack for BorrowedStack {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::suspend;
    use crate::sys::mem::Reserve;

    thread_local! {
        static SEEN: Cell<(YielderPtr, u32)> = const { Cell::new((YielderPtr::NONE, 0)) };
    }

    fn stack() -> (Reserve, StackBounds) {
        let reserve = Reserve::new(256 * 1024).unwrap();
        let low = reserve.base().expose_provenance();
        let bounds = StackBounds {
            base: NonZeroUsize::new(low + reserve.len()).unwrap(),
            limit: NonZeroUsize::new(low).unwrap(),
        };
        (reserve, bounds)
    }

    unsafe fn count_thrice(_: NonNull<EntryPoint>) {
        for i in 1..=3 {
            let (yielder, _) = SEEN.get();
            SEEN.set((yielder, i));
            // SAFETY: the test stores the running carrier's yielder.
            unsafe { suspend(yielder, SwitchReason::Yielded) };
        }
    }

    unsafe fn fail(_: NonNull<EntryPoint>) {
        std::panic::resume_unwind(Box::new("torn"));
    }

    #[test]
    fn a_carrier_runs_one_entry_point_after_another() {
        let (_reserve, bounds) = stack();
        let entry = EntryPoint { run: count_thrice };
        // SAFETY: the memory is this test's, used on one thread.
        unsafe {
            let carrier = Carrier::install(bounds);
            let idle = (*carrier).sp();
            SEEN.set((Carrier::yielder(carrier), 0));
            for _ in 0..2 {
                for i in 1..=3 {
                    let given = if i == 1 {
                        &raw const entry
                    } else {
                        ptr::null()
                    };
                    assert_eq!(Carrier::resume(carrier, given), SwitchReason::Yielded);
                    assert_eq!(SEEN.get().1, i);
                    let sp = (*carrier).sp();
                    assert!(
                        sp < Carrier::copy_boundary()
                            && Carrier::copy_boundary() <= bounds.base.get()
                    );
                    assert!(sp < idle, "running code lies below the idle point");
                }
                assert_eq!(
                    Carrier::resume(carrier, ptr::null()),
                    SwitchReason::Finished
                );
                assert_eq!((*carrier).sp(), idle, "the idle point never moves");
            }
        }
    }

    #[test]
    fn a_panic_is_a_reason_to_switch_and_the_carrier_lives_on() {
        let (_reserve, bounds) = stack();
        let entry = EntryPoint { run: fail };
        // SAFETY: as above.
        unsafe {
            let carrier = Carrier::install(bounds);
            for _ in 0..2 {
                assert_eq!(Carrier::resume(carrier, &entry), SwitchReason::Panicked);
                assert_eq!(*take_panic().downcast::<&str>().unwrap(), "torn");
            }
        }
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", not(feature = "sanitizer")))]
    fn who_is_stopped_half_way_through_a_switch_is_walked_without_a_fault() {
        use crate::sys::testing::in_child;
        use crate::sys::unwind::stepping;
        let test = "who_is_stopped_half_way_through_a_switch_is_walked_without_a_fault";
        let output = in_child(&format!("{}::{test}", module_path!()), || {
            let (_reserve, bounds) = stack();
            let entry = EntryPoint { run: count_thrice };
            // SAFETY: as above.
            let (steps, found) = unsafe {
                let carrier = Carrier::install(bounds);
                SEEN.set((Carrier::yielder(carrier), 0));
                stepping::at_each_instruction(|| {
                    Carrier::resume(carrier, &raw const entry);
                    Carrier::resume(carrier, ptr::null());
                })
            };
            assert_eq!(SEEN.get().1, 2);
            // Within a switch the tables are wrong.
            assert!(steps > 50 && found > steps / 2, "{found} of {steps}");
            eprintln!("{found} of {steps}");
        });
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}
