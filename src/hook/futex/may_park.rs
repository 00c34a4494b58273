//! May it park: whether a coroutine suspends in a futex wait, or blocks its
//! thread.
//!
//! All coroutines of a thread have its thread-locals in common, and with them
//! whatever queues *the thread*: parking_lot's `ThreadData`, the parker behind
//! `std::thread::park`. If one suspended in such a wait, the next coroutine
//! would queue the same thread a second time, which breaks the queue's memory.
//! So a word that is one per thread blocks the thread, and a report says so.
//!
//! Which words those are:
//! - those in the thread's own TLS blocks, static and dynamic, as the dynamic
//!   linker tells them;
//! - the one of std's parker, which lies on the heap: learnt by having the
//!   thread park for no time at all, with this module watching.
//!
//! A coroutine with thread-locals of its own ([`has_own_thread_locals`]) is a
//! thread to all of that, so none of it applies.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{ptr, thread};

use super::table::{Left, Place, Table};
use super::{ALL_BITS, table};
use crate::sched::{CurrentTask, Worker};
use crate::sys::syscall::sys;
#[cfg(target_env = "gnu")]
use crate::sys::thread_pointer;
use crate::task::Addr;
use crate::util::no_park::NoPark;

/// Why a wait blocks the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockReason {
    /// The word is the parker of the thread.
    Parker,
    /// The word lies in the thread's own thread-locals.
    ThreadLocal,
    /// The coroutine unwinds.
    Unwinding,
    /// Code of the runtime waits: an allocator's lock, for one.
    NoPark,
    /// The worker itself waits, for a future that it polls for one.
    Worker,
    /// The coroutine is `unhooked`.
    Unhooked,
    /// The thread becomes a worker: it does not block, but learns of its parker.
    Learning,
}

impl BlockReason {
    /// The thread is blocked however short the wait is.
    pub(super) fn is_certain(self) -> bool {
        matches!(self, Self::Parker | Self::ThreadLocal)
    }

    /// The program has asked for it: no report.
    pub(super) fn is_intended(self) -> bool {
        self == Self::Unhooked
    }
}

/// The coroutine that parks in a wait at this word, or why the thread has to be
/// blocked although it has coroutines. `None`: a plain thread.
#[inline]
pub(super) fn decide(word: usize, value: u32) -> Option<Result<CurrentTask, BlockReason>> {
    let Some(cx) = CurrentTask::running() else {
        if PARKER.get() == LEARNING {
            learn(word, value);
            return Some(Err(BlockReason::Learning));
        }
        return Worker::current().map(|_| Err(BlockReason::Worker));
    };
    Some(match () {
        () if CurrentTask::current().is_none() => Err(BlockReason::Unhooked),
        () if NoPark::is_active() => Err(BlockReason::NoPark),
        () if CurrentTask::parkable().is_none() => Err(BlockReason::Unwinding),
        () if has_own_thread_locals(cx) => Ok(cx),
        () if PARKER.get() == word => Err(BlockReason::Parker),
        () if is_in_own_tls(word) => Err(BlockReason::ThreadLocal),
        () => Ok(cx),
    })
}

/// The running coroutine, if it may park here and now, at whatever word.
pub(super) fn coroutine() -> Option<CurrentTask> {
    CurrentTask::current().filter(|_| CurrentTask::parkable().is_some() && !NoPark::is_active())
}

/// Whether the coroutine has thread-locals of its own, so that what is one per
/// thread is one per coroutine.
#[inline(always)]
pub(super) fn has_own_thread_locals(cx: CurrentTask) -> bool {
    cx.has_own_tls()
}

thread_local! {
    /// The word of this thread's parker; 0 and [`LEARNING`] are none.
    static PARKER: Cell<usize> = const { Cell::new(0) };
    /// While it is learnt.
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
    /// The thread's number, as glibc's mutexes note it.
    static THREAD: Cell<c_int> = const { Cell::new(0) };
    /// Of a worker. Coroutines with thread-locals of their own never look: each would have
    /// one.
    static RANGES: RefCell<Option<Box<TlsRanges>>> = const { RefCell::new(None) };
}

/// No address of a word.
const LEARNING: usize = 1;

/// A stale alias.
const NOBODY: Addr = Addr::from_bits(0);

/// This thread becomes a worker: learns what is one per thread.
pub(super) fn worker_begins(table: &Table) {
    // SAFETY: no arguments.
    THREAD.set(unsafe { sys!(SYS_gettid) }.unwrap_or(0) as c_int);
    PARKER.set(LEARNING);
    let mut unparked = false;
    // It waits at the parker's word, unless there is a token: then again.
    for _ in 0..2 {
        thread::park_timeout(Duration::ZERO);
        if PARKER.get() != LEARNING {
            break;
        }
        unparked = true;
    }
    if PARKER.get() == LEARNING {
        PARKER.set(0);
    }
    if let Some(place) = PLACE.take() {
        unparked |= table.leave(place, true) == Some(Left::Woken);
    }
    // Whatever token there was, or came meanwhile, was taken: give it back.
    if unparked {
        thread::current().unpark();
    }
    let _ = is_in_own_tls(0);
}

/// This wait is the one by which [`worker_begins`] learns of the parker. It is
/// queued, as a coroutine that there is not, to notice an unpark meanwhile.
#[cold]
fn learn(word: usize, value: u32) {
    PARKER.set(word);
    let at = ptr::with_exposed_provenance_mut(word);
    // SAFETY: std waits here, with the value that it expects.
    let still = || unsafe { AtomicU32::from_ptr(at) }.load(Ordering::Relaxed) == value;
    let place = table().and_then(|table| table.queue(word, ALL_BITS, NOBODY, still));
    if place.is_none() {
        // Changed already: that was a token, which the next round will not see.
        PARKER.set(LEARNING);
    }
    PLACE.set(place);
}

/// The number of this worker's thread, as the coroutine sees it.
pub(super) fn thread_id(cx: CurrentTask) -> c_int {
    if has_own_thread_locals(cx) {
        // What is remembered is among the thread's own.
        // SAFETY: no arguments.
        return unsafe { sys!(SYS_gettid) }.unwrap_or(0) as c_int;
    }
    THREAD.get()
}

/// Whether `at` lies in a TLS block of the calling thread.
fn is_in_own_tls(at: usize) -> bool {
    // Entered again only if the dynamic linker allocates with a lock of std.
    RANGES
        .try_with(|blocks| match blocks.try_borrow_mut() {
            Ok(mut blocks) => {
                match &mut *blocks {
                    Some(blocks) if blocks.are_all() => blocks.contain(at),
                    Some(blocks) => {
                        **blocks = TlsRanges::look();
                        blocks.contain(at)
                    }
                    // When it becomes a worker.
                    None => blocks.insert(Box::new(TlsRanges::look())).contain(at),
                }
            }
            Err(_) => TlsRanges::look().contain(at),
        })
        .unwrap_or_else(|_| TlsRanges::look().contain(at))
}

/// TLS blocks that are remembered; a program with more is asked each time.
const MOST: usize = 24;

/// The TLS blocks of a thread.
struct TlsRanges {
    known: [Range<usize>; MOST],
    count: usize,
    /// What said that these are all.
    version: Option<DtvVersion>,
    /// Whether any block is missing here, as not made yet or not fitting in.
    missing: bool,
    /// Looked for only.
    wanted: usize,
    found: bool,
}

/// The thread's vector of TLS blocks and its version: glibc changes one or the
/// other before the thread gets at a block of a newly loaded library.
#[derive(Clone, Copy, PartialEq, Eq)]
struct DtvVersion {
    vector: *const usize,
    version: usize,
}

impl DtvVersion {
    #[cfg(target_env = "gnu")]
    fn now() -> Option<Self> {
        let vector = thread_pointer::vector();
        // SAFETY: the vector's first word is its version.
        let version = unsafe { *vector };
        Some(Self { vector, version })
    }

    /// Another libc: its blocks are asked for each time.
    #[cfg(not(target_env = "gnu"))]
    fn now() -> Option<Self> {
        None
    }

    /// Where the vector says that a module's block is.
    fn block(self, module: usize) -> usize {
        // SAFETY: entries are two words each, the first is the version; the
        // word before it says how many there are.
        unsafe {
            if module > *self.vector.sub(2) {
                return 0;
            }
            *self.vector.add(2 * module)
        }
    }
}

impl TlsRanges {
    const UNKNOWN: Self = Self {
        known: [const { 0..0 }; MOST],
        count: 0,
        version: None,
        missing: false,
        wanted: 0,
        found: false,
    };

    /// Whether no block is missing.
    #[inline]
    fn are_all(&self) -> bool {
        self.version.is_some() && !self.missing && self.version == DtvVersion::now()
    }

    #[inline]
    fn contain(&self, at: usize) -> bool {
        self.known[..self.count]
            .iter()
            .any(|block| block.contains(&at))
            || (self.count == MOST && Self::search(at))
    }

    #[cold]
    fn look() -> Self {
        let mut blocks = Self {
            version: DtvVersion::now(),
            ..Self::UNKNOWN
        };
        blocks.ask();
        blocks
    }

    /// Asks for one address.
    #[cold]
    fn search(at: usize) -> bool {
        let mut blocks = Self {
            wanted: at,
            ..Self::UNKNOWN
        };
        blocks.ask();
        blocks.found
    }

    fn ask(&mut self) {
        // SAFETY: `each` takes the pointer for what it is.
        unsafe { libc::dl_iterate_phdr(Some(each), std::ptr::from_mut(self).cast()) };
    }

    fn add(&mut self, block: Range<usize>, module: usize) {
        self.found |= block.contains(&self.wanted);
        if self
            .version
            .is_some_and(|version| version.block(module) != block.start)
        {
            // The vector is not what we take it for: ask each time.
            self.version = None;
        }
        if self.count < MOST {
            self.known[self.count] = block;
            self.count += 1;
        } else {
            self.missing = true;
        }
    }
}

/// Adds the block that a loaded object has in this thread.
unsafe extern "C" fn each(
    info: *mut libc::dl_phdr_info,
    size: usize,
    blocks: *mut c_void,
) -> c_int {
    // SAFETY: `TlsRanges::ask` passes one, and nobody else has it meanwhile; the
    // linker's info is valid, and has TLS fields if it is large enough.
    unsafe {
        let (info, blocks) = (&*info, &mut *blocks.cast::<TlsRanges>());
        if size < size_of::<libc::dl_phdr_info>() || info.dlpi_phdr.is_null() {
            return 0;
        }
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        let template = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        if let Some(template) = template {
            let start = info.dlpi_tls_data.addr();
            if start == 0 {
                blocks.missing = true;
            } else {
                let end = start + template.p_memsz as usize;
                blocks.add(start..end, info.dlpi_tls_modid);
            }
        }
    }
    0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    thread_local! {
        static HERE: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn own_thread_locals_are_found_and_others_are_not() {
        let here = HERE.with(|here| here.as_ptr().addr());
        let heap = Box::new(0_u32);
        for _ in 0..2 {
            assert!(is_in_own_tls(here));
            assert!(!is_in_own_tls(std::ptr::from_ref(&*heap).addr()));
            assert!(!is_in_own_tls(std::ptr::from_ref(&here).addr()));
        }
        assert!(TlsRanges::search(here) && !TlsRanges::search(std::ptr::from_ref(&*heap).addr()));
        thread::spawn(move || assert!(!is_in_own_tls(here)))
            .join()
            .unwrap();
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn blocks_are_remembered() {
        let blocks = TlsRanges::look();
        assert!(blocks.count > 0, "this program has thread-locals");
        assert!(
            blocks.version.is_some(),
            "the vector is not what we take it for"
        );
        assert!(blocks.missing || blocks.are_all());
    }

    #[test]
    fn the_parker_is_learnt() {
        thread::spawn(|| {
            for token in [false, true] {
                if token {
                    thread::current().unpark();
                }
                crate::hook::worker_begins();
                assert!(PARKER.get() > LEARNING);
                // A token is kept, and none is made.
                let begin = std::time::Instant::now();
                thread::park_timeout(Duration::from_millis(20));
                assert!(token || begin.elapsed() >= Duration::from_millis(20));
            }
        })
        .join()
        .unwrap();
    }
}
