//! Whether the coroutine may suspend in a wait, or has to stop its thread.
//!
//! All coroutines of a thread have its thread-locals in common, and with them
//! whatever queues *the thread*: parking_lot's `ThreadData`, the parker behind
//! `std::thread::park`. Suspended in such a wait, the next coroutine would
//! queue the same thread a second time, and memory be lost. So a word that is
//! one per thread blocks the thread, and a report says so.
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
use crate::sched::{Cx, Worker};
use crate::sys::syscall::sys;
use crate::task::Addr;
use crate::util::section::Section;

/// Why a wait stops the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The word is the parker of the thread.
    Parker,
    /// The word lies in the thread's own thread-locals.
    ThreadLocal,
    /// The coroutine unwinds.
    Unwinding,
    /// Code of the runtime waits: an allocator's lock, for one.
    Section,
    /// The worker itself waits, for a future that it polls for one.
    Worker,
    /// The coroutine is `unhooked`.
    Unhooked,
}

impl Why {
    /// The thread stops although the coroutine only waits for others.
    pub(super) fn is_for_sure(self) -> bool {
        matches!(self, Self::Parker | Self::ThreadLocal)
    }

    /// Nobody needs to be told.
    pub(super) fn is_wanted(self) -> bool {
        self == Self::Unhooked
    }
}

/// How a wait at this word is to be done: by parking this coroutine, or by
/// stopping the thread although it has others. `None`: a plain thread.
#[inline]
pub(super) fn way(word: usize, value: u32) -> Option<Result<Cx, Why>> {
    let Some(cx) = Cx::running() else {
        if PARKER.get() == LEARNING {
            learn(word, value);
        }
        return Worker::current().map(|_| Err(Why::Worker));
    };
    Some(match () {
        () if Cx::current().is_none() => Err(Why::Unhooked),
        () if Section::is_here() => Err(Why::Section),
        () if Cx::parkable().is_none() => Err(Why::Unwinding),
        () if has_own_thread_locals(cx) => Ok(cx),
        () if PARKER.get() == word => Err(Why::Parker),
        () if in_own_blocks(word) => Err(Why::ThreadLocal),
        () => Ok(cx),
    })
}

/// Whether the coroutine has thread-locals of its own, so that what is one per
/// thread is one per coroutine.
#[inline(always)]
pub(super) fn has_own_thread_locals(cx: Cx) -> bool {
    cx.has_own_tls()
}

thread_local! {
    /// The word of this thread's parker; 0 and [`LEARNING`] are none.
    static PARKER: Cell<usize> = const { Cell::new(0) };
    /// While it is learnt.
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
    /// The thread's number, as glibc's mutexes note it.
    static THREAD: Cell<c_int> = const { Cell::new(0) };
    static BLOCKS: RefCell<Blocks> = const { RefCell::new(Blocks::UNKNOWN) };
}

/// No address of a word.
const LEARNING: usize = 1;

/// A stale alias.
const NOBODY: Addr = Addr::from_bits(0);

/// This thread becomes a worker: learns what is one per thread.
pub(super) fn begin(table: &Table) {
    // SAFETY: no preconditions.
    THREAD.set(unsafe { libc::gettid() });
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
    let _ = in_own_blocks(0);
}

/// Whether this wait is the one by which [`begin`] learns of the parker. It is
/// queued, as a coroutine that there is not, to notice who unparks meanwhile.
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

/// The number of this worker's thread.
pub(super) fn thread(cx: Cx) -> c_int {
    if has_own_thread_locals(cx) {
        // What is remembered is among the thread's own.
        // SAFETY: no arguments.
        return unsafe { sys!(SYS_gettid) }.unwrap_or(0) as c_int;
    }
    THREAD.get()
}

/// Whether `at` lies in a TLS block of the calling thread.
fn in_own_blocks(at: usize) -> bool {
    // Entered again only if the dynamic linker allocates with a lock of std.
    BLOCKS
        .try_with(|blocks| match blocks.try_borrow_mut() {
            Ok(mut blocks) => {
                if !blocks.are_all() {
                    *blocks = Blocks::look();
                }
                blocks.contain(at)
            }
            Err(_) => Blocks::look().contain(at),
        })
        .unwrap_or_else(|_| Blocks::look().contain(at))
}

/// TLS blocks that are remembered; a program with more is asked each time.
const MOST: usize = 24;

/// The TLS blocks of a thread.
struct Blocks {
    known: [Range<usize>; MOST],
    count: usize,
    /// What said that these are all.
    stamp: Option<Stamp>,
    /// Whether any block is missing here, as not made yet or not fitting in.
    missing: bool,
    /// Looked for only.
    wanted: usize,
    found: bool,
}

/// The thread's vector of TLS blocks and its version: glibc changes one or the
/// other before the thread gets at a block of a newly loaded library.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    vector: *const usize,
    version: usize,
}

impl Stamp {
    #[cfg(target_env = "gnu")]
    fn now() -> Option<Self> {
        let vector: *const usize;
        // SAFETY: reads the thread's control block, which starts with a
        // pointer to itself and one to the vector.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!(
                "mov {}, qword ptr fs:[8]",
                out(reg) vector,
                options(nostack, preserves_flags, readonly)
            );
        }
        // SAFETY: as above; here the vector comes first.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            let block: *const *const usize;
            std::arch::asm!("mrs {}, tpidr_el0", out(reg) block, options(nomem, nostack, preserves_flags));
            vector = *block;
        }
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

impl Blocks {
    const UNKNOWN: Self = Self {
        known: [const { 0..0 }; MOST],
        count: 0,
        stamp: None,
        missing: false,
        wanted: 0,
        found: false,
    };

    /// Whether no block is missing.
    #[inline]
    fn are_all(&self) -> bool {
        self.stamp.is_some() && !self.missing && self.stamp == Stamp::now()
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
            stamp: Stamp::now(),
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
            .stamp
            .is_some_and(|stamp| stamp.block(module) != block.start)
        {
            // The vector is not what we take it for: ask each time.
            self.stamp = None;
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
    // SAFETY: `Blocks::ask` passes one, and nobody else has it meanwhile; the
    // linker's info is valid, and has TLS fields if it is large enough.
    unsafe {
        let (info, blocks) = (&*info, &mut *blocks.cast::<Blocks>());
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
            assert!(in_own_blocks(here));
            assert!(!in_own_blocks(std::ptr::from_ref(&*heap).addr()));
            assert!(!in_own_blocks(std::ptr::from_ref(&here).addr()));
        }
        assert!(Blocks::search(here) && !Blocks::search(std::ptr::from_ref(&*heap).addr()));
        thread::spawn(move || assert!(!in_own_blocks(here)))
            .join()
            .unwrap();
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn blocks_are_remembered() {
        let blocks = Blocks::look();
        assert!(blocks.count > 0, "this program has thread-locals");
        assert!(
            blocks.stamp.is_some(),
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
