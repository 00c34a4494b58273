//! A table by descriptor number: lock-free, of two levels, grows and never shrinks.
//!
//! ```text
//!  root [65 536 pointers] ─► chunk of 65 536 cells, made when a number in its range
//!                            is first used, never freed
//! ```
//!
//! Neither looking up nor growing takes a lock or asks the allocator, so signal
//! handlers and the child of a fork may do both: chunks come from the kernel, and a
//! page of one is real when a cell of it is written. Only here is what makes looking up
//! fast: no check of the number's range (a negative one is in the upper half, of which
//! no chunk is ever made).

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::mem::PAGE;
use super::syscall::sys;

const CHUNK_BITS: u32 = 16;
/// Cells of a chunk.
pub(crate) const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = 1 << (u32::BITS - CHUNK_BITS);

/// What a cell may be.
///
/// # Safety
///
/// - Zeros are a valid value, and it is not dropped.
pub(crate) unsafe trait Cell: Sync + 'static {}

// SAFETY: an integer of which zero is a value; nothing to drop.
unsafe impl Cell for AtomicU64 {}

/// See the [module](self).
pub(crate) struct PerFd<T: Cell> {
    /// Each is null or points at the first of `CHUNK` cells.
    root: [AtomicPtr<T>; CHUNKS],
    /// All chunks lie below this one.
    end: AtomicUsize,
}

impl<T: Cell> PerFd<T> {
    pub(crate) const fn new() -> Self {
        Self {
            root: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            end: AtomicUsize::new(0),
        }
    }

    /// The cell of a number, if there is its chunk.
    #[inline(always)]
    pub(crate) fn get(&self, fd: RawFd) -> Option<&T> {
        let number = fd as u32 as usize;
        let first = self.root[number / CHUNK].load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: a pointer in `root` that is not null was published by `grow`: it
        // leads to `CHUNK` valid cells that are never freed.
        Some(unsafe { &*first.add(number % CHUNK) })
    }

    /// The cell of a number. `None` for what can't be a descriptor, and if there
    /// is no memory.
    #[inline]
    pub(crate) fn get_or_grow(&self, fd: RawFd) -> Option<&T> {
        self.get(fd).or_else(|| self.grow(fd))
    }

    #[cold]
    fn grow(&self, fd: RawFd) -> Option<&T> {
        let number = usize::try_from(fd).ok()?;
        const { assert!(align_of::<T>() <= PAGE) };
        let len = CHUNK * size_of::<T>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new memory, at an address that the kernel chooses.
        let fresh = unsafe { sys!(SYS_mmap, 0, len, protection, flags, -1_isize, 0) }.ok()?;
        let fresh = ptr::with_exposed_provenance_mut::<T>(fresh);
        self.end.fetch_max(number / CHUNK + 1, Ordering::AcqRel);
        let free = ptr::null_mut();
        let published = self.root[number / CHUNK].compare_exchange(
            free,
            fresh,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if published.is_err() {
            // SAFETY: mapped above with this length, never published.
            let _ = unsafe { sys!(SYS_munmap, fresh, len) };
        }
        self.get(fd)
    }

    /// The cells from `first` to `last` that there are, with their numbers.
    #[allow(dead_code, reason = "models have a table of their own, in the seam")]
    pub(crate) fn range(&self, first: u32, last: u32) -> impl Iterator<Item = (RawFd, &T)> {
        let chunks = first as usize / CHUNK..self.end.load(Ordering::Acquire);
        let made = chunks.filter(|&chunk| !self.root[chunk].load(Ordering::Acquire).is_null());
        let numbers = made.flat_map(|chunk| chunk * CHUNK..(chunk + 1) * CHUNK);
        let numbers = numbers
            .skip_while(move |&number| number < first as usize)
            .take_while(move |&number| number <= last as usize);
        numbers.filter_map(|number| Some((number as RawFd, self.get(number as RawFd)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_again_and_begin_as_zeros() {
        static TABLE: PerFd<AtomicU64> = PerFd::new();
        for fd in [0, 7, CHUNK as RawFd - 1, CHUNK as RawFd, RawFd::MAX] {
            assert!(TABLE.get_or_grow(fd).unwrap().swap(1, Ordering::Relaxed) == 0);
            assert_eq!(TABLE.get(fd).unwrap().load(Ordering::Relaxed), 1);
        }
        assert!(TABLE.get(3 * CHUNK as RawFd).is_none());
        for fd in [-1, RawFd::MIN] {
            assert!(TABLE.get(fd).is_none() && TABLE.get_or_grow(fd).is_none());
        }
    }

    #[test]
    fn a_range_has_the_cells_that_there_are() {
        static TABLE: PerFd<AtomicU64> = PerFd::new();
        let numbers = |first, last| -> Vec<RawFd> {
            let used = TABLE.range(first, last);
            let used = used.filter(|(_, cell)| cell.load(Ordering::Relaxed) != 0);
            used.map(|(fd, _)| fd).collect()
        };
        assert!(numbers(0, u32::MAX).is_empty());
        let chunk = CHUNK as RawFd;
        let used = [3, 4, chunk - 1, 5 * chunk, 5 * chunk + 2];
        for fd in used {
            TABLE.get_or_grow(fd).unwrap().store(1, Ordering::Relaxed);
        }
        assert_eq!(numbers(0, u32::MAX), used);
        assert_eq!(numbers(4, 5 * CHUNK as u32), used[1..4]);
        assert!(numbers(5, 1).is_empty());
        assert_eq!(TABLE.range(0, u32::MAX).count(), 2 * CHUNK);
    }

    #[test]
    fn threads_that_grow_one_chunk_agree() {
        static TABLE: PerFd<AtomicU64> = PerFd::new();
        let find = || ptr::from_ref(TABLE.get_or_grow(9).unwrap()).addr();
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(find)).collect();
        let cells = threads.into_iter().map(|thread| thread.join().unwrap());
        assert!(cells.into_iter().all(|cell| cell == find()));
    }
}
