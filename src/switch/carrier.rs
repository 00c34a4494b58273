//! The carrier: one corosensei coroutine that runs job after job on one stack.

use std::any::Any;
use std::cell::Cell;
use std::mem::{self, ManuallyDrop};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::visit::receive;
use crate::stack::StackBounds;

/// What a carrier runs: the head of a larger allocation that `run` knows.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Job {
    /// Runs the job; may unwind. Called once, with a pointer to this head.
    pub(crate) run: unsafe fn(NonNull<Job>),
}

/// Why control came back to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Event {
    /// The job waits for a wake-up.
    Parked,
    /// The job can go on at once.
    Yielded,
    /// The job returned; the carrier is at its idle point.
    Finished,
    /// The job unwound; [`take_panic`] has the payload. Idle as well.
    Panicked,
    /// The job must never be resumed: its frames are to be forgotten.
    Abandoned,
    /// A suspended job was visited, and is suspended as before.
    Visited,
}

type Input = *const Job;
type Link = Yielder<Input, Event>;
type Coro = Coroutine<Input, Event, (), Place>;

/// The way from a running job back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct YielderPtr(*const Link);

impl YielderPtr {
    /// No job runs.
    pub(crate) const NONE: Self = Self(ptr::null());

    /// Leaves the running job; returns what it is resumed with.
    ///
    /// # Safety
    ///
    /// - As [`suspend`].
    #[inline(always)]
    pub(super) unsafe fn leave(self, event: Event) -> *const Job {
        // SAFETY: the yielder lives at the base of the running stack.
        unsafe { (*self.0).suspend(event) }
    }
}

/// The place of the suspended stack pointer among the words of a [`Coro`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SpWord(usize);

/// A coroutine handle that lies at the top of the stack it is for.
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
    static LINK: Cell<YielderPtr> = const { Cell::new(YielderPtr::NONE) };
    /// Where the frames of the job that was called last begin: the cut (see
    /// `Carrier::cut`).
    static CUT: Cell<usize> = const { Cell::new(0) };
    /// The payload of the last job that panicked.
    /// (Without a destructor: coroutines may run while the thread's other
    /// thread-locals end.)
    static PANIC: Cell<Option<ManuallyDrop<Box<dyn Any + Send>>>> = const { Cell::new(None) };
}

/// The panic payload that came with [`Event::Panicked`].
pub(crate) fn take_panic() -> Box<dyn Any + Send> {
    let payload = PANIC.take().expect("Event::Panicked comes with a payload");
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
    /// - The memory between the bounds is readable, writable, and nobody else's.
    /// - It stays so until the carrier is not resumed any more.
    pub(crate) unsafe fn install(bounds: StackBounds) -> *mut Self {
        let at = Self::at(bounds);
        let place = Place {
            // The carrier is at least one line long, so this is not zero.
            base: NonZeroUsize::new(at.expose_provenance()).expect("a stack is not at address 0"),
            limit: bounds.limit,
        };
        let mut coro = Coro::with_stack(place, body);
        let before = words(&coro);
        let event = coro.resume(ptr::null());
        assert!(matches!(event, CoroutineResult::Yield(Event::Finished)));
        let sp_word = learn_sp_word(&before, &words(&coro), bounds);
        let carrier = Self {
            coro: ManuallyDrop::new(coro),
            yielder: LINK.get(),
            sp_word,
            limit: bounds.limit,
        };
        // SAFETY: the top of the stack, a carrier long, is the caller's to give, and
        // lie above corosensei's base.
        unsafe { at.write(carrier) };
        at
    }

    /// Runs the job on the idle carrier, or (`null`) the job that is suspended
    /// on it, until it suspends or ends.
    ///
    /// # Safety
    ///
    /// - `this` was installed, its memory has been left alone since.
    /// - Called on the worker's own stack, on the thread that installed it.
    /// - `job` is non-null exactly if the carrier is idle, but for a visit.
    #[inline(always)]
    pub(crate) unsafe fn resume(this: *mut Self, job: *const Job) -> Event {
        // SAFETY: as the caller promises.
        match unsafe { &mut (*this).coro }.resume(job) {
            CoroutineResult::Yield(event) => event,
            // `body` never returns.
            CoroutineResult::Return(()) => unreachable!("a carrier ended"),
        }
    }

    /// What [`suspend`] needs while a job of this carrier runs. No reference:
    /// whoever resumed the job has one to the coroutine in here.
    ///
    /// # Safety
    ///
    /// - `this` was installed.
    #[inline(always)]
    pub(crate) unsafe fn yielder(this: *const Self) -> YielderPtr {
        // SAFETY: forwarded.
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
        let limit = unsafe { (*this).limit };
        (limit.get()..this.addr()).contains(&address)
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
    ///   `sp` for a carrier on this very stack.
    pub(crate) unsafe fn set_sp(&mut self, sp: usize) {
        let words = (&raw mut *self.coro).cast::<usize>();
        // SAFETY: the word is one that `learn_sp_word` saw changing with the
        // stack pointer, and `sp` is a value that it has had.
        unsafe { words.add(self.sp_word.0).write(sp) };
    }

    /// Bytes that a call instruction pushes. The word counts as the root's: all
    /// jobs return to the one place in `call`.
    pub(crate) const RETURN_ADDRESS: usize = if cfg!(target_arch = "x86_64") { 8 } else { 0 };

    /// The border between the root and the frames of the job that ran last on
    /// this thread. It is the same for all jobs of one stack.
    pub(crate) fn cut() -> usize {
        CUT.get()
    }
}

/// Leaves the running job and goes back to its worker.
///
/// Inlined so that the processor's return predictor sees few frames (a
/// suspension inside one more call costs 6 to 15 ns).
///
/// # Safety
///
/// - `yielder` is the running job's, and this code runs on its stack.
#[inline(always)]
pub(crate) unsafe fn suspend(yielder: YielderPtr, event: Event) {
    // SAFETY: the caller's word; what comes back is null or a visit.
    unsafe {
        let asked = yielder.leave(event);
        if !asked.is_null() {
            receive(asked);
        }
    }
}

/// Sets the cut. Never inlined, as [`set_panic`]: [`body`] lives on while
/// blocks of thread-locals change under it (`sched/own.rs`), and must not keep
/// the address of one.
#[inline(never)]
fn set_cut(cut: usize) {
    CUT.set(cut);
}

#[cold]
#[inline(never)]
fn set_panic(payload: Box<dyn Any + Send>) {
    PANIC.set(Some(ManuallyDrop::new(payload)));
}

#[cold]
#[inline(never)]
fn set_link(yielder: &Link) {
    LINK.set(YielderPtr(yielder));
}

/// The carrier's life. Its frames own nothing that needs dropping, so a
/// suspended carrier can be forgotten; and they hold nothing that is needed
/// after a job was called and that differs from job to job, so that on a shared
/// stack the root of one job serves every other.
fn body(yielder: &Link, _: Input) {
    set_link(yielder);
    let mut event = Event::Finished;
    loop {
        let job = yielder.suspend(event);
        event = match catch_unwind(AssertUnwindSafe(move || call(job))) {
            Ok(()) => Event::Finished,
            Err(payload) => {
                set_panic(payload);
                Event::Panicked
            }
        };
    }
}

/// Notes the cut and calls the job. Inlined into `catch_unwind`'s callee, so
/// that a job's frames begin right below the stack pointer read here.
#[inline(always)]
fn call(job: *const Job) {
    set_cut(stack_pointer() - Carrier::RETURN_ADDRESS);
    // SAFETY: `resume` passes a valid job to an idle carrier.
    unsafe { ((*job).run)(NonNull::new_unchecked(job.cast_mut())) };
    // Something to do after the call, so that it is one: a jump in its place
    // would find the stack pointer elsewhere.
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

/// corosensei's view of a stack that somebody else owns.
#[derive(Debug)]
struct Place {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: `Carrier::install`'s caller gives exclusive memory with a guard page
// below the limit; base and limit are 16-byte aligned (asserted by the arena).
unsafe impl Stack for Place {
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

    unsafe fn count_thrice(_: NonNull<Job>) {
        for i in 1..=3 {
            let (yielder, _) = SEEN.get();
            SEEN.set((yielder, i));
            // SAFETY: the test stores the running carrier's yielder.
            unsafe { suspend(yielder, Event::Yielded) };
        }
    }

    unsafe fn fail(_: NonNull<Job>) {
        std::panic::resume_unwind(Box::new("torn"));
    }

    #[test]
    fn a_carrier_runs_job_after_job() {
        let (_reserve, bounds) = stack();
        let job = Job { run: count_thrice };
        // SAFETY: the memory is this test's, used on one thread.
        unsafe {
            let carrier = Carrier::install(bounds);
            let idle = (*carrier).sp();
            SEEN.set((Carrier::yielder(carrier), 0));
            for _ in 0..2 {
                for i in 1..=3 {
                    let given = if i == 1 { &raw const job } else { ptr::null() };
                    assert_eq!(Carrier::resume(carrier, given), Event::Yielded);
                    assert_eq!(SEEN.get().1, i);
                    let sp = (*carrier).sp();
                    assert!(sp < Carrier::cut() && Carrier::cut() <= bounds.base.get());
                    assert!(sp < idle, "a running job lies below the idle point");
                }
                assert_eq!(Carrier::resume(carrier, ptr::null()), Event::Finished);
                assert_eq!((*carrier).sp(), idle, "the idle point never moves");
            }
        }
    }

    #[test]
    fn a_panic_is_an_event_and_the_carrier_lives_on() {
        let (_reserve, bounds) = stack();
        let job = Job { run: fail };
        // SAFETY: as above.
        unsafe {
            let carrier = Carrier::install(bounds);
            for _ in 0..2 {
                assert_eq!(Carrier::resume(carrier, &job), Event::Panicked);
                assert_eq!(*take_panic().downcast::<&str>().unwrap(), "torn");
            }
        }
    }
}
