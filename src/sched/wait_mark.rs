//! Wait marks: what a coroutine waits for that its worker does not know, left in its own
//! frame, where a dump finds it.
//!
//! The driver knows who waits for descriptors and times. Who waits for a lock, a channel or
//! another coroutine to end, only those know. A table of them would
//! cost each wait its upkeep and memory, and nothing may link into a coroutine's frames
//! (I8). So the function that waits writes a few words into its frame, and takes them
//! back when it is done. The worker that is asked for a dump looks for them above the
//! stack pointer of the parked coroutine, where they are within some hundred bytes.
//!
//! The words say where they are and carry a secret of the process, so that neither an
//! accident nor a program can make others: what they point to is read.

use std::ffi::c_int;
use std::hash::{BuildHasher, RandomState};
use std::marker::{PhantomData, PhantomPinned};
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::ptr;
// Not from the shim: a static lives longer than a loom model.
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::stack::peek;
use crate::task::Header;

/// What a wait is for.
#[derive(Clone, Copy)]
pub(crate) enum WaitsFor<'a> {
    /// A lock, whose holder's key is there, or 0: [`running_key`](crate::task::running_key).
    Lock(&'a AtomicU64),
    /// A lock of C's that notes its holder's number there.
    #[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
    Numbered(&'a AtomicU32),
    /// The end of the task of this cell.
    End(&'a Header),
    /// What says itself what it is.
    Object(WaitedObject<'a>),
}

/// Something that is waited for, and the function that looks at it for a dump: a worker
/// calls that between two coroutines, so it may take a lock that nobody parks with.
#[derive(Clone, Copy)]
pub(crate) struct WaitedObject<'a> {
    object: *const (),
    look: unsafe fn(*const ()) -> Blocker,
    borrowed: PhantomData<&'a ()>,
}

impl WaitsFor<'static> {
    /// A notification, of a `Notify` or a condition variable.
    pub(crate) fn notification() -> Self {
        Self::object(&0_usize, |_| Blocker::Notification)
    }
}

impl<'a> WaitsFor<'a> {
    #[inline(always)]
    pub(crate) fn object<T>(object: &'a T, look: fn(&T) -> Blocker) -> Self {
        const { assert!(align_of::<T>() > KINDS, "its address has room for the kind") };
        type Look<P> = unsafe fn(P) -> Blocker;
        Self::Object(WaitedObject {
            object: ptr::from_ref(object).cast(),
            // SAFETY: pointers and references to what has a size are passed alike. Called
            // with the pointer beside it only, in `read`.
            look: unsafe { mem::transmute::<Look<&T>, Look<*const ()>>(look) },
            borrowed: PhantomData,
        })
    }
}

/// What that comes down to at the time of the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocker {
    /// A lock that the task of this key holds; 0 if none does.
    Holder(u64),
    /// A lock that the coroutine of this number holds.
    Number(u32),
    /// The end of the task with this cell.
    End(usize),
    /// A value of a channel that so many can send to.
    Receive { senders: usize },
    /// Room in a channel that so many can receive from.
    Send { receivers: usize },
    /// So many permits of a semaphore that has so many.
    Permits {
        wanted: usize,
        free: usize,
        owned: Option<OwnedObject>,
    },
    /// A notification.
    Notification,
}

/// Something that each who waits for it has a reference of its own to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnedObject {
    pub(crate) address: usize,
    /// Strong and weak ones.
    pub(crate) references: usize,
}

/// A hash of the place and the rest; what is waited for; for an object the function that
/// looks at it, else 0.
const WORDS: usize = 3;

/// What a wait is for, in the free bits of an address.
const LOCK: usize = 0;
const NUMBERED: usize = 1;
const END: usize = 2;
const OBJECT: usize = 3;
const KINDS: usize = 3;

/// So far above the stack pointer a mark is looked for. In debug builds the frames
/// between are large.
const NEAR: usize = if cfg!(debug_assertions) {
    16 << 10
} else {
    4 << 10
};

static SECRET: AtomicUsize = AtomicUsize::new(0);

/// Makes the secret; to be called before any coroutine runs.
pub(super) fn begin() {
    if SECRET.load(Ordering::Relaxed) == 0 {
        let random = RandomState::new().hash_one(0) as usize | 1;
        // The first counts.
        let _ = SECRET.compare_exchange(0, random, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The words of a mark at `at`: nobody who does not know the secret can make the first
/// for the others and a place of their own.
#[inline(always)]
fn words(secret: usize, at: usize, what: usize, look: usize) -> [usize; WORDS] {
    [
        (secret ^ what ^ look).wrapping_mul(secret | 1) ^ at,
        what,
        look,
    ]
}

/// Waits by `wait`, with a mark.
#[inline(never)]
pub(crate) fn waiting<R>(what: WaitsFor<'_>, wait: impl FnOnce() -> R) -> R {
    let mark = pin!(WaitMark::new());
    mark.leave(what);
    wait()
}

/// A mark in the frame that has it, from [`leave`](Self::leave) until it is dropped.
pub(crate) struct WaitMark {
    words: [MaybeUninit<usize>; WORDS],
    _stays: PhantomPinned,
}

impl WaitMark {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            words: [MaybeUninit::uninit(); WORDS],
            _stays: PhantomPinned,
        }
    }

    /// The caller waits for what it borrows as long as this exists.
    #[inline(always)]
    pub(crate) fn leave(self: Pin<&mut Self>, what: WaitsFor<'_>) {
        let (what, look) = match what {
            WaitsFor::Lock(key) => (ptr::from_ref(key).expose_provenance() | LOCK, 0),
            WaitsFor::Numbered(number) => (ptr::from_ref(number).expose_provenance() | NUMBERED, 0),
            WaitsFor::End(cell) => (ptr::from_ref(cell).addr() | END, 0),
            WaitsFor::Object(it) => {
                let look = it.look as *const ();
                (
                    it.object.expose_provenance() | OBJECT,
                    look.expose_provenance(),
                )
            }
        };
        // SAFETY: nothing is moved out of it.
        let place = unsafe { (&raw mut self.get_unchecked_mut().words).cast::<[usize; WORDS]>() };
        let secret = SECRET.load(Ordering::Relaxed);
        // SAFETY: words of ours. Volatile: nobody here reads them.
        unsafe { place.write_volatile(words(secret, place.addr(), what, look)) };
    }
}

impl Drop for WaitMark {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: a word of ours.
        unsafe { (&raw mut self.words[0]).cast::<usize>().write_volatile(0) };
    }
}

/// The mark of a coroutine whose frames begin and end there.
///
/// # Safety
///
/// - They are the frames of a suspended coroutine, in their place.
pub(super) unsafe fn find(frames: Range<usize>) -> Option<Blocker> {
    const CHUNK: usize = 256;
    const WORD: usize = size_of::<usize>();
    let secret = SECRET.load(Ordering::Relaxed);
    let end = frames.end.min(frames.start + NEAR) / WORD * WORD;
    let mut at = frames.start.next_multiple_of(WORD);
    let mut chunk = [0; CHUNK];
    while at + WORDS * WORD <= end {
        let seen = &mut chunk[..((end - at) / WORD).min(CHUNK)];
        // SAFETY: frames of a suspended coroutine, as the caller says.
        unsafe { peek(at, seen) };
        for (i, mark) in seen.windows(WORDS).enumerate() {
            let (what, look) = (mark[1], mark[2]);
            if mark == words(secret, at + i * WORD, what, look) {
                // SAFETY: a mark of ours: nobody else can make one. Its wait has not
                // returned, so what that borrows is still there.
                return Some(unsafe { read(what, look) });
            }
        }
        at += (seen.len() - (WORDS - 1)) * WORD;
    }
    None
}

/// # Safety
///
/// - Of a mark whose wait goes on.
unsafe fn read(what: usize, look: usize) -> Blocker {
    let at = what & !KINDS;
    match what & KINDS {
        LOCK => {
            let key = ptr::with_exposed_provenance::<AtomicU64>(at);
            // SAFETY: `waiting` was given a reference to it.
            Blocker::Holder(unsafe { &*key }.load(Ordering::Relaxed))
        }
        NUMBERED => {
            let number = ptr::with_exposed_provenance::<AtomicU32>(at);
            // SAFETY: as above.
            Blocker::Number(unsafe { &*number }.load(Ordering::Relaxed))
        }
        END => Blocker::End(at),
        _ => {
            let look = ptr::with_exposed_provenance::<()>(look);
            // SAFETY: the address of the function that `WaitsFor::object` was given.
            let look =
                unsafe { mem::transmute::<*const (), unsafe fn(*const ()) -> Blocker>(look) };
            // SAFETY: with what belongs to it, which the wait borrows.
            unsafe { look(ptr::with_exposed_provenance(at)) }
        }
    }
}

/// The word of C's that a number is in.
///
/// # Safety
///
/// - It can be read as long as the reference lives; others may write it.
#[cfg_attr(not(feature = "futex"), allow(dead_code, reason = "for hooks"))]
pub(crate) unsafe fn number_at<'a>(owner: *const c_int) -> &'a AtomicU32 {
    // SAFETY: as large and as aligned as a `c_int`; the rest is the caller's.
    unsafe { &*owner.cast::<AtomicU32>() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Runs `f` in frames that lie below the address that it is given. (Neither is inlined:
    /// in one frame what comes first may lie anywhere.)
    #[inline(never)]
    fn below(f: impl FnOnce(usize)) {
        #[inline(never)]
        fn run(f: impl FnOnce(usize), above: usize) {
            f(above);
        }
        let top = 0_usize;
        run(f, std::hint::black_box(&raw const top).addr());
        std::hint::black_box(top);
    }

    /// What a dump would find around here.
    #[inline(never)]
    fn found(above: usize) -> Option<Blocker> {
        let here = 0_usize;
        let at = (&raw const here).addr();
        // SAFETY: frames of this thread, which reads them itself.
        unsafe { find(at..above) }
    }

    #[test]
    fn a_mark_is_found_while_its_wait_lasts_and_not_after() {
        begin();
        below(|above| {
            let key = AtomicU64::new(7);
            let (first, second) = waiting(WaitsFor::Lock(&key), || {
                let first = found(above);
                key.store(8, Ordering::Relaxed);
                (first, found(above))
            });
            assert_eq!(first, Some(Blocker::Holder(7)));
            assert_eq!(second, Some(Blocker::Holder(8)));
            assert_eq!(found(above), None);
        });
    }

    #[test]
    fn the_innermost_is_found_and_one_that_unwinds_is_gone() {
        begin();
        below(|above| {
            let (outer, inner) = (AtomicU64::new(1), AtomicU32::new(2));
            waiting(WaitsFor::Lock(&outer), || {
                let unwinds = || {
                    waiting(WaitsFor::Numbered(&inner), || {
                        assert_eq!(found(above), Some(Blocker::Number(2)));
                        std::panic::resume_unwind(Box::new(()));
                    })
                };
                let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(unwinds));
                assert!(unwound.is_err());
                assert_eq!(found(above), Some(Blocker::Holder(1)));
            });
        });
    }

    /// One that is copied elsewhere is none, nor one with another word.
    #[test]
    fn a_mark_is_made_of_every_bit_of_what_it_is_for() {
        let made_of = [0x9e37_79b9_7f4a_7c15, 0x7ffd_1234_5678, 0x5678_9ab0, 0x4321];
        let first = |[secret, at, what, look]: [usize; 4]| words(secret, at, what, look)[0];
        for (changed, bit) in (0..4).flat_map(|i| (0..usize::BITS).map(move |bit| (i, bit))) {
            let mut other = made_of;
            other[changed] ^= 1 << bit;
            assert_ne!(first(other), first(made_of), "bit {bit} of {changed}");
        }
    }

    /// In the frame of one that goes on, where nothing writes over it.
    #[test]
    fn a_mark_that_is_dropped_is_taken_back() {
        begin();
        let key = AtomicU64::new(7);
        let mut mark = mem::ManuallyDrop::new(WaitMark::new());
        let above = (&raw const mark).addr() + size_of_val(&mark);
        // SAFETY: it stays here.
        unsafe { Pin::new_unchecked(&mut *mark) }.leave(WaitsFor::Lock(&key));
        assert_eq!(found(above), Some(Blocker::Holder(7)));
        // SAFETY: once.
        unsafe { mem::ManuallyDrop::drop(&mut mark) };
        assert_eq!(found(above), None);
    }

    #[test]
    fn an_object_is_looked_at_by_its_function() {
        begin();
        below(|above| {
            let count = AtomicUsize::new(3);
            let look = |count: &AtomicUsize| Blocker::Receive {
                senders: count.load(Ordering::Relaxed),
            };
            let seen = waiting(WaitsFor::object(&count, look), || found(above));
            assert_eq!(seen, Some(Blocker::Receive { senders: 3 }));
            assert_eq!(found(above), None);
        });
    }

    #[test]
    fn a_copy_of_a_mark_is_none() {
        begin();
        let mut copy = [0; 2 * WORDS];
        let secret = SECRET.load(Ordering::Relaxed);
        copy[1..=WORDS].copy_from_slice(&words(secret, 0x1000, 0x2000, 0));
        let at = copy.as_ptr().addr();
        // SAFETY: words of ours.
        assert_eq!(unsafe { find(at..at + size_of_val(&copy)) }, None);
    }
}
