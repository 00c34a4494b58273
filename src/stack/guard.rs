//! Guard pages: how they are made, and how a signal handler finds out that an
//! address lies in one.
//!
//! Finding needs a table of all reserves that hold stacks, which the handler
//! must read without locks, and which a forked child may find in the midst of a
//! change: a sequence lock on each entry. The entries are a list of leaked boxes
//! that are never freed, only used again; the version of an entry says which state
//! it is in, and tells the reader whether what it read belongs together:
//!
//! ```text
//!   VACANT --- claimed by exchange ---> WRITTEN --- base, len, stride, guard ---> VALID
//!      ^                                                                            |
//!      '---------------------- reserve about to be unmapped -----------------------'
//! ```
//!
//! A reader that meets an entry which is not valid, or a changed version, skips the
//! entry. It misses nothing by that: the entry of the stack which faulted is valid
//! from before the stack's first use until after its last one. Models:
//! `loom_tests.rs`.

use std::io;
use std::ptr;

use super::GuardChoice;
use crate::shim::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use crate::shim::{const_fn, process_static};
use crate::sys::mem::{GuardKind, Reserve, max_map_count};

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
    /// Counts the changes; what is left of a division by [`STATES`] is the state.
    version: AtomicU32,
    /// Base, length, stride and guard.
    parts: [AtomicUsize; 4],
    /// Written before the entry is published, never again.
    next: AtomicPtr<GuardedRange>,
}

const STATES: u32 = 4;
const VACANT: u32 = 0;
/// Whoever has claimed it writes.
const WRITTEN: u32 = 1;
const VALID: u32 = 2;

/// All ranges, of which new ones come first.
pub(super) struct Ranges {
    first: AtomicPtr<GuardedRange>,
}

process_static! {
    static RANGES: Ranges = Ranges::new();
}

/// Keeps a range known to [`find`] while it lives.
#[derive(Debug)]
pub(super) struct Registered(&'static GuardedRange);

impl Registered {
    /// Makes known that `[base, base + len)` consists of stacks, `stride`
    /// bytes apart, whose lowest `guard` bytes are their guards.
    pub(super) fn new(base: usize, len: usize, stride: usize, guard: usize) -> Self {
        RANGES.register(base, len, stride, guard)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

impl Ranges {
    const_fn! {
        pub(super) const fn new() -> Self {
            Self {
                first: AtomicPtr::new(ptr::null_mut()),
            }
        }
    }

    /// See [`Registered::new`].
    pub(super) fn register(
        &self,
        base: usize,
        len: usize,
        stride: usize,
        guard: usize,
    ) -> Registered {
        debug_assert!(stride > guard && len >= stride && base.checked_add(len).is_some());
        let vacant = self.entries().find(|entry| entry.claim());
        let entry = vacant.unwrap_or_else(|| self.add());
        entry.write([base, len, stride, guard]);
        Registered(entry)
    }

    /// A new entry, which is the caller's to write.
    fn add(&self) -> &'static GuardedRange {
        let entry: &'static _ = Box::leak(Box::new(GuardedRange {
            version: AtomicU32::new(WRITTEN),
            parts: [0; 4].map(AtomicUsize::new),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let new = ptr::from_ref(entry).cast_mut();
        let mut first = self.first.load(Ordering::Acquire);
        loop {
            entry.next.store(first, Ordering::Relaxed);
            // Release: who finds it finds what is in it, and all that are behind it.
            let (done, not_yet) = (Ordering::AcqRel, Ordering::Acquire);
            match self.first.compare_exchange(first, new, done, not_yet) {
                Ok(_) => return entry,
                Err(now) => first = now,
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = &'static GuardedRange> + use<> {
        let first = self.first.load(Ordering::Acquire);
        // SAFETY: published entries are leaked boxes, shared for ever, never written but
        // by their atomics.
        let at = |entry: *mut GuardedRange| unsafe { entry.as_ref() };
        std::iter::successors(at(first), move |entry| {
            at(entry.next.load(Ordering::Relaxed))
        })
    }

    /// See [`may_be_of_a_stack`].
    fn may_have(&self, address: usize) -> bool {
        let mut at = self.first.load(Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: published entries are leaked boxes, shared for ever.
            let range = unsafe { &*at };
            let [base, len, ..] = &range.parts;
            let base = base.load(Ordering::Relaxed);
            if address.wrapping_sub(base) < len.load(Ordering::Relaxed) {
                return true;
            }
            at = range.next.load(Ordering::Relaxed);
        }
        false
    }

    /// See [`find_stack`].
    pub(super) fn find_stack(&self, address: usize) -> Option<Hit> {
        self.entries()
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
}

impl GuardedRange {
    /// Vacant to written: of several that try, one may write.
    fn claim(&self) -> bool {
        let version = self.version.load(Ordering::Relaxed);
        let (next, acquire) = (version.wrapping_add(WRITTEN), Ordering::Acquire);
        version % STATES == VACANT
            && (self.version)
                .compare_exchange(version, next, acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Written to valid, by whoever has claimed it.
    fn write(&self, range: [usize; 4]) {
        // Partner of the fence in `read`: a reader that sees one of the stores below
        // also sees the version that came before them.
        fence(Ordering::Release);
        for (part, value) in self.parts.iter().zip(range) {
            part.store(value, Ordering::Relaxed);
        }
        self.change(VALID - WRITTEN);
    }

    /// Valid to vacant.
    fn vacate(&self) {
        self.change(STATES - VALID);
    }

    /// By the one that may, so load and store do.
    fn change(&self, by: u32) {
        let version = self.version.load(Ordering::Relaxed);
        let next = version.wrapping_add(by);
        self.version.store(next, Ordering::Release);
    }

    /// The parts of a valid entry.
    fn read(&self) -> Option<[usize; 4]> {
        let version = self.version.load(Ordering::Acquire);
        let range = self
            .parts
            .each_ref()
            .map(|part| part.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == version;
        (unchanged && version % STATES == VALID).then_some(range)
    }
}

impl std::fmt::Debug for GuardedRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.read())
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

/// How many ranges there are.
pub(crate) fn ranges() -> usize {
    let is_used = |entry: &&GuardedRange| entry.version.load(Ordering::Relaxed) % STATES != VACANT;
    RANGES.entries().filter(is_used).count()
}

/// Whether [`find_stack`] may find something: flat, for handlers that may have little
/// stack. Async-signal-safe.
pub(super) fn may_be_of_a_stack(address: usize) -> bool {
    RANGES.may_have(address)
}

/// The guard that `address` lies in. Async-signal-safe.
pub(super) fn find(address: usize) -> Option<Hit> {
    find_stack(address).filter(|hit| address < hit.limit)
}

/// The guard of the stack that `address` lies in, be it in the guard or
/// above. Async-signal-safe.
pub(super) fn find_stack(address: usize) -> Option<Hit> {
    RANGES.find_stack(address)
}

#[cfg(all(test, not(loom)))]
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
