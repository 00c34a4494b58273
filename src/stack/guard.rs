//! Guard pages: how they are made, and how a signal handler finds out that an
//! address lies in one.
//!
//! Finding needs a table of all reserves that hold stacks, which the handler
//! must read without locks: a sequence lock on each entry. The entries are a
//! list of leaked boxes that are never freed, only used again; the version of
//! an entry tells the reader whether what it read belongs together:
//!
//! ```text
//!   version odd:  vacant     --- write base, len, stride, guard --->   even: valid
//!                            <--- reserve about to be unmapped ---
//! ```
//!
//! A reader that meets an odd or a changed version skips the entry. It misses
//! nothing by that: the entry of the stack which faulted is valid from before
//! the stack's first use until after its last one.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use super::GuardChoice;
use crate::sys::mem::{GuardKind, Reserve, max_map_count};
use crate::util::no_park::NoParkMutex;

/// Makes guards, and remembers which kind works here.
#[derive(Debug)]
pub(super) struct GuardMaker {
    kind: GuardKind,
}

impl GuardMaker {
    pub(super) fn new(choice: GuardChoice) -> Self {
        let kind = match choice {
            GuardChoice::Auto => GuardKind::Madvise,
            GuardChoice::Mprotect => GuardKind::Mprotect,
        };
        Self { kind }
    }

    /// Makes a guard of `len` bytes at `offset` of `reserve`.
    ///
    /// # Safety
    ///
    /// - Nobody holds a reference into the range.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, naming `vm.max_map_count`, where guards cost mappings
    /// and the process may have no more.
    pub(super) unsafe fn make(
        &mut self,
        reserve: &Reserve,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller gives the range up.
        let mut made = unsafe { reserve.guard(offset, len, self.kind) };
        if self.kind == GuardKind::Madvise && made.is_err() {
            // An older kernel, a filter, or memory locked by `mlockall`.
            self.kind = GuardKind::Mprotect;
            // SAFETY: as above.
            made = unsafe { reserve.guard(offset, len, self.kind) };
        }
        made.map_err(|e| Self::explain(&e))
    }

    #[cold]
    fn explain(error: &io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::OutOfMemory {
            return io::Error::new(
                error.kind(),
                format!("cannot make a stack's guard page: {error}"),
            );
        }
        let count = max_map_count().unwrap_or(65_530);
        io::Error::new(
            error.kind(),
            format!(
                "cannot make a stack's guard page: this process has as many memory mappings as \
                 vm.max_map_count = {count} allows, and every guarded stack takes two; run \
                 `sysctl -w vm.max_map_count={}`, or use Linux 6.13 or newer, where guard pages \
                 take none, or shared stacks",
                count.saturating_mul(16)
            ),
        )
    }
}

/// A reserve cut into stacks of one size, as the fault handler needs to know it.
struct GuardedRange {
    /// Odd while vacant; grows by one at every change.
    version: AtomicU32,
    base: AtomicUsize,
    len: AtomicUsize,
    stride: AtomicUsize,
    guard: AtomicUsize,
    /// Written before the entry is published, never again.
    next: AtomicPtr<GuardedRange>,
}

static FIRST: AtomicPtr<GuardedRange> = AtomicPtr::new(ptr::null_mut());

/// Held by a thread that changes the list. Readers do not take it.
static WRITERS: NoParkMutex<()> = NoParkMutex::new(());

fn ranges() -> impl Iterator<Item = &'static GuardedRange> {
    // SAFETY: published entries are leaked boxes: valid and shared for ever.
    let at = |entry: &AtomicPtr<GuardedRange>| unsafe { entry.load(Ordering::Acquire).as_ref() };
    std::iter::successors(at(&FIRST), move |entry| at(&entry.next))
}

/// Keeps a range known to [`find`] while it lives.
#[derive(Debug)]
pub(super) struct Registered(&'static GuardedRange);

impl std::fmt::Debug for GuardedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.read())
    }
}

impl Registered {
    /// Makes known that `[base, base + len)` consists of stacks, `stride`
    /// bytes apart, whose lowest `guard` bytes are their guards.
    pub(super) fn new(base: usize, len: usize, stride: usize, guard: usize) -> Self {
        debug_assert!(stride > guard && len >= stride && base.checked_add(len).is_some());
        let _writing = WRITERS.lock();
        let vacant = ranges().find(|entry| entry.version.load(Ordering::Relaxed) % 2 == 1);
        let entry = vacant.unwrap_or_else(|| {
            let entry = Box::leak(Box::new(GuardedRange {
                version: AtomicU32::new(1),
                base: AtomicUsize::new(0),
                len: AtomicUsize::new(0),
                stride: AtomicUsize::new(0),
                guard: AtomicUsize::new(0),
                next: AtomicPtr::new(FIRST.load(Ordering::Relaxed)),
            }));
            FIRST.store(entry, Ordering::Release);
            entry
        });
        // Partner of the fence in `GuardedRange::read`: a reader that sees one
        // of the stores below also sees the odd version that came before them.
        fence(Ordering::Release);
        entry.base.store(base, Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        entry.stride.store(stride, Ordering::Relaxed);
        entry.guard.store(guard, Ordering::Relaxed);
        entry.change();
        Self(entry)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _writing = WRITERS.lock();
        self.0.change();
    }
}

impl GuardedRange {
    /// Valid to vacant or back. Only under `WRITERS`, so load and store do.
    fn change(&self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// Base, length, stride and guard of a valid entry.
    fn read(&self) -> Option<[usize; 4]> {
        let version = self.version.load(Ordering::Acquire);
        let parts = [&self.base, &self.len, &self.stride, &self.guard];
        let range = parts.map(|part| part.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == version;
        (unchanged && version % 2 == 0).then_some(range)
    }
}

/// The guard in which an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// The guard's lowest byte.
    pub(super) guard: usize,
    /// The stack's lowest usable byte, right above the guard.
    pub(super) limit: usize,
    /// Usable bytes of the stack above it.
    pub(super) size: usize,
}

/// Whether [`find_stack`] may find something: flat, for handlers that may have little
/// stack. Async-signal-safe.
pub(super) fn may_be_of_a_stack(address: usize) -> bool {
    let mut at = FIRST.load(Ordering::Acquire);
    while !at.is_null() {
        // SAFETY: published entries are leaked boxes: valid and shared for ever.
        let range = unsafe { &*at };
        let base = range.base.load(Ordering::Relaxed);
        if address.wrapping_sub(base) < range.len.load(Ordering::Relaxed) {
            return true;
        }
        at = range.next.load(Ordering::Acquire);
    }
    false
}

/// The guard that `address` lies in. Async-signal-safe.
pub(super) fn find(address: usize) -> Option<Hit> {
    find_stack(address).filter(|hit| address < hit.limit)
}

/// The guard of the stack that `address` lies in, be it in the guard or
/// above. Async-signal-safe.
pub(super) fn find_stack(address: usize) -> Option<Hit> {
    ranges()
        .filter_map(GuardedRange::read)
        .find_map(|[base, len, stride, guard]| {
            let offset = address.checked_sub(base).filter(|offset| *offset < len)?;
            let lowest = address - offset % stride;
            Some(Hit {
                guard: lowest,
                limit: lowest + guard,
                size: stride - guard,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mem::PAGE;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const GUARD: usize = PAGE;

    /// Upper half of the address space: never a reserve of another test.
    const FAR: usize = 1 << 63;

    #[test]
    fn locked_memory_gets_guards_by_mprotect() {
        let reserve = Reserve::new(4 * GUARD).unwrap();
        reserve.lock();
        let mut guards = GuardMaker::new(GuardChoice::Auto);
        for offset in [0, 2 * GUARD] {
            // SAFETY: nobody else knows the memory.
            unsafe { guards.make(&reserve, offset, GUARD) }.unwrap();
        }
        assert_eq!(guards.kind, GuardKind::Mprotect);
        // SAFETY: the pages between the guards are ours.
        unsafe {
            reserve.base().add(GUARD).write_volatile(1);
            reserve.base().add(3 * GUARD).write_volatile(1);
        }
    }

    #[test]
    fn finds_what_a_linear_search_over_all_guards_finds() {
        let mut random = 0x9e37_79b9_u32;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random as usize % below
        };
        let mut live: Vec<(Registered, Vec<Hit>, usize)> = Vec::new();
        for step in 0..2_000 {
            if live.len() < 6 && next(2) == 0 {
                let (count, size) = (1 + next(20), GUARD * (1 + next(8)));
                // A slot of 1 MiB that no live range uses.
                let slot = (0..)
                    .find(|slot| live.iter().all(|(_, _, taken)| taken != slot))
                    .unwrap();
                let (base, stride) = (FAR + (slot << 20), size + GUARD);
                let hits = (0..count)
                    .map(|p| Hit {
                        guard: base + p * stride,
                        limit: base + p * stride + GUARD,
                        size,
                    })
                    .collect();
                live.push((
                    Registered::new(base, count * stride, stride, GUARD),
                    hits,
                    slot,
                ));
            } else if !live.is_empty() && next(3) == 0 {
                live.swap_remove(next(live.len()));
            }
            let address = FAR + next(8 << 20);
            let expected = live.iter().flat_map(|(_, hits, _)| hits);
            let expected = expected
                .copied()
                .find(|h| (h.guard..h.guard + GUARD).contains(&address));
            assert_eq!(find(address), expected, "step {step}");
        }
    }

    #[test]
    fn a_reader_never_mixes_two_ranges() {
        // Both begin at the same address. An address in the longer one's tail
        // is a guard with the longer one's stride only.
        let (base, done) = (FAR + (1 << 40), AtomicBool::new(false));
        let (short, long) = (2 * GUARD, 5 * GUARD);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(Registered::new(base, short, short, GUARD));
                    drop(Registered::new(base, 10 * long, long, GUARD));
                }
            });
            let mut found = 0;
            while found < 50_000 {
                // The short stride calls this a guard, the long one does not.
                assert_eq!(find(base + 4 * short), None);
                if let Some(hit) = find(base + 4 * long) {
                    assert_eq!(
                        hit,
                        Hit {
                            guard: base + 4 * long,
                            limit: base + 4 * long + GUARD,
                            size: long - GUARD
                        }
                    );
                    found += 1;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
