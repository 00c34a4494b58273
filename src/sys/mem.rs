//! Address space that is reserved once and filled by touching it.
//!
//! A [`Reserve`] never moves and never grows: whoever needs "stable addresses
//! that grow without copying" reserves more than it will ever use, opens and touches
//! what it needs, and gives pages back with [`Reserve::release`]. Stacks,
//! task slots and saved frames all live in reserves.
//!
//! What is reserved is closed to every access at first, and opened from the lower end
//! in steps. Limits of data (`RLIMIT_DATA`), a kernel that promises no more than it
//! has (`vm.overcommit_memory=2`), and `mlockall`, which fills what may be touched,
//! see what is open only.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::proc;
use super::syscall::sys;

/// The page size that we assume. Linux on x86_64 always has it; aarch64
/// kernels with larger pages are refused at start-up by [`check_page_size`].
pub(crate) const PAGE: usize = 4096;

/// `MADV_GUARD_INSTALL`, Linux 6.13: the `libc` crate has no name for it yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The process itself, where a pidfd is asked for: Linux 6.15, of which the `libc` crate
/// does not know yet.
const PIDFD_SELF: libc::c_int = -10_001;

/// Bytes that are opened together: a huge page, so that opening costs little and a
/// process that locks all its memory locks little.
const STEP: usize = 2 << 20;

/// A range of anonymous private memory, reserved without swap accounting.
///
/// Pages cost nothing until they are touched and read as zero at first.
#[derive(Debug)]
pub(crate) struct Reserve {
    base: *mut u8,
    len: usize,
    /// Bytes from the lower end that were opened.
    open: AtomicUsize,
    /// The process wants all its memory to be locked (`mlockall`).
    locked: bool,
}

// SAFETY: a range of addresses; what lies there, and who may touch it, is its users'.
unsafe impl Send for Reserve {}
// SAFETY: as above; opening twice what is open changes nothing.
unsafe impl Sync for Reserve {}

/// How guard pages are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// `madvise(MADV_GUARD_INSTALL)`: no page tables split, no mapping used up.
    Madvise,
    /// `mprotect(PROT_NONE)`: every guard splits the mapping in two more.
    Mprotect,
}

impl Reserve {
    /// `bytes` of memory (rounded up to whole pages), all open.
    ///
    /// # Errors
    ///
    /// As [`Reserve::closed`] and [`Reserve::open`].
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let all = Self::closed(bytes)?;
        all.open(all.len)?;
        Ok(all)
    }

    /// Reserves `bytes` of address space (rounded up to whole pages). Nothing is to be
    /// touched before it is [opened](Self::open).
    ///
    /// # Errors
    ///
    /// What `mmap` says, in words: a limit of the address space, or of locked memory.
    pub(crate) fn closed(bytes: usize) -> io::Result<Self> {
        let len = bytes.next_multiple_of(PAGE).max(PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(explained(
                &format!("cannot reserve {len} bytes of address space"),
                "raise `ulimit -v`, or `ulimit -l` after mlockall(MCL_FUTURE)",
            ));
        }
        let mut reserve = Self {
            base: base.cast(),
            len,
            open: AtomicUsize::new(0),
            locked: false,
        };
        // Or a debugger would write all of it to its core files.
        // SAFETY: changes no bytes; the range is ours.
        let _ = unsafe { reserve.advise(0, len, libc::MADV_DONTDUMP) };
        // The kernel refuses to drop pages that are locked, and nothing else here.
        // SAFETY: nobody uses the range yet.
        if unsafe { reserve.release(0, len) }.is_err() {
            reserve.locked = true;
            // SAFETY: as above. What is opened is locked again then.
            unsafe { libc::munlock(base, len) };
        }
        Ok(reserve)
    }

    /// Makes sure that the first `end` bytes may be touched.
    ///
    /// # Errors
    ///
    /// What `mprotect` says, in words: a limit of the data, or a kernel that promises
    /// no more than it has.
    #[inline]
    pub(crate) fn open(&self, end: usize) -> io::Result<()> {
        if self.try_open(end) {
            Ok(())
        } else {
            let more = end.saturating_sub(self.open.load(Ordering::Relaxed));
            Err(explained(
                &format!("cannot use {more} more bytes of memory"),
                "raise `ulimit -d`, set vm.overcommit_memory to 0 or 1, or, where there are many \
                 mappings, raise vm.max_map_count",
            ))
        }
    }

    /// [`Reserve::open`] without words, and so without an allocation.
    #[inline]
    pub(crate) fn try_open(&self, end: usize) -> bool {
        // Partner: the count in `open_more`, behind what makes it true.
        end <= self.open.load(Ordering::Acquire) || self.open_more(end)
    }

    #[cold]
    fn open_more(&self, end: usize) -> bool {
        let begin = self.open.load(Ordering::Acquire);
        let end = end.next_multiple_of(PAGE);
        let step = end.max(begin + STEP).min(self.len);
        // Near a limit there may be room for what is needed only.
        let opened = [step, end].into_iter().find(|&end| {
            // SAFETY: allows more, and forbids nothing. Other threads may do the same.
            unsafe { self.set_accessible(begin, end.saturating_sub(begin), true) }.is_ok()
        });
        let Some(opened) = opened else {
            return false;
        };
        // SAFETY: changes no bytes; our own range.
        let _ = unsafe { self.advise(begin, opened - begin, libc::MADV_DODUMP) };
        if self.locked {
            // As far as `ulimit -l` allows.
            // SAFETY: our own range, which is open.
            unsafe { libc::mlock(self.range(begin, opened - begin), opened - begin) };
        }
        self.open.fetch_max(opened, Ordering::AcqRel);
        true
    }

    /// The lowest address.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives the pages of `[offset, offset + len)` back to the kernel; they
    /// read as zero when touched again. Both must be whole pages.
    ///
    /// # Safety
    ///
    /// - Nobody holds a reference into the range, and nobody needs its bytes.
    pub(crate) unsafe fn release(&self, offset: usize, len: usize) -> io::Result<()> {
        // SAFETY: the caller gives the range up.
        unsafe { self.advise(offset, len, libc::MADV_DONTNEED) }
    }

    /// [`Reserve::release`] of many ranges, with one system call where the kernel has
    /// one for that. Memory that is locked stays.
    ///
    /// # Safety
    ///
    /// As for [`Reserve::release`], of each.
    pub(crate) unsafe fn release_all(&self, ranges: impl Iterator<Item = (usize, usize)>) {
        let vector = |(offset, len)| libc::iovec {
            iov_base: self.range(offset, len),
            iov_len: len,
        };
        let ranges: Vec<libc::iovec> = ranges.map(vector).collect();
        for some in ranges.chunks(libc::UIO_MAXIOV as usize) {
            let done = match some {
                [_] => Err(0),
                // SAFETY: the caller gives the ranges up, which are ours; so many vectors.
                some => unsafe {
                    let (first, count) = (some.as_ptr(), some.len());
                    sys!(
                        SYS_process_madvise,
                        PIDFD_SELF,
                        first,
                        count,
                        libc::MADV_DONTNEED,
                        0
                    )
                },
            };
            // What it has left out: all of them before Linux 6.15.
            let mut done = done.unwrap_or(0);
            for range in some {
                if done < range.iov_len {
                    // SAFETY: as above.
                    unsafe { libc::madvise(range.iov_base, range.iov_len, libc::MADV_DONTNEED) };
                }
                done = done.saturating_sub(range.iov_len);
            }
        }
    }

    /// Asks for huge pages in the range (a hint: failure is not an error).
    pub(crate) fn prefer_huge(&self, offset: usize, len: usize) {
        // SAFETY: MADV_HUGEPAGE changes no bytes.
        let _ = unsafe { self.advise(offset, len, libc::MADV_HUGEPAGE) };
    }

    /// Forbids huge pages in the range (a hint: failure is not an error).
    pub(crate) fn forbid_huge(&self, offset: usize, len: usize) {
        // SAFETY: MADV_NOHUGEPAGE changes no bytes.
        let _ = unsafe { self.advise(offset, len, libc::MADV_NOHUGEPAGE) };
    }

    /// Makes `[offset, offset + len)` fault on every touch, for good.
    ///
    /// # Safety
    ///
    /// - Nobody holds a reference into the range.
    ///
    /// # Errors
    ///
    /// `Madvise`: `EINVAL` from kernels before 6.13 and on locked memory, anything
    /// from filters.
    /// `Mprotect`: `ENOMEM` at `vm.max_map_count`.
    pub(crate) unsafe fn guard(
        &self,
        offset: usize,
        len: usize,
        kind: GuardKind,
    ) -> io::Result<()> {
        match kind {
            // SAFETY: the caller gives the range up.
            GuardKind::Madvise => unsafe { self.advise(offset, len, MADV_GUARD_INSTALL) },
            // SAFETY: as above.
            GuardKind::Mprotect => unsafe { self.protect(offset, len, libc::PROT_NONE) },
        }
    }

    /// Opens (`true`) or closes the range to every access.
    ///
    /// # Safety
    ///
    /// - When closing: nobody touches the range until it is opened again.
    pub(crate) unsafe fn set_accessible(
        &self,
        offset: usize,
        len: usize,
        yes: bool,
    ) -> io::Result<()> {
        let prot = if yes {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_NONE
        };
        // SAFETY: forwarded.
        unsafe { self.protect(offset, len, prot) }
    }

    /// How many pages of the range are in memory; none if the kernel does not say.
    pub(crate) fn resident_pages(&self, offset: usize, len: usize) -> usize {
        let mut seen = [0u8; 512];
        let count = |begin: usize| {
            let some = (offset + len - begin).min(seen.len() * PAGE);
            let seen = &mut seen[..some / PAGE];
            // SAFETY: one byte for each page of a range that is ours.
            let done = unsafe { libc::mincore(self.range(begin, some), some, seen.as_mut_ptr()) };
            match done {
                0 => seen.iter().filter(|page| **page & 1 != 0).count(),
                _ => 0,
            }
        };
        let parts = (offset..offset + len).step_by(512 * PAGE);
        parts.map(count).sum()
    }

    /// Where the first page of the range is that is in memory; none if the kernel does not
    /// say.
    pub(crate) fn first_resident(&self, offset: usize, len: usize) -> Option<usize> {
        let mut pages = (offset..offset + len).step_by(PAGE);
        pages.find(|&page| self.resident_pages(page, PAGE) > 0)
    }

    /// Keeps all of it in memory, as `mlockall` would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn lock(&self) {
        // SAFETY: changes no bytes; the range is ours.
        let result = unsafe { libc::mlock(self.range(0, self.len()), self.len()) };
        check(result).expect("a few pages can be locked");
    }

    fn range(&self, offset: usize, len: usize) -> *mut libc::c_void {
        assert!(
            offset % PAGE == 0 && offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "range {offset}+{len} is not whole pages inside a reserve of {}",
            self.len()
        );
        self.base().wrapping_add(offset).cast()
    }

    /// # Safety: what `advice` does to the bytes must be fine with all users.
    unsafe fn advise(&self, offset: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: `range` checked that the range is ours; the rest is the caller's.
        check(unsafe { libc::madvise(self.range(offset, len), len, advice) })
    }

    /// # Safety: what `prot` forbids must not be done by anybody.
    unsafe fn protect(&self, offset: usize, len: usize, prot: libc::c_int) -> io::Result<()> {
        // SAFETY: `range` checked that the range is ours; the rest is the caller's.
        check(unsafe { libc::mprotect(self.range(offset, len), len, prot) })
    }
}

/// Opens the page at `page` for reading, whoever's it is; says whether that
/// worked. Async-signal-safe.
///
/// # Safety
///
/// - Nobody writes to the page any more: the process is about to end.
pub(crate) unsafe fn open_for_reading(page: usize) -> bool {
    let page = std::ptr::with_exposed_provenance_mut(page);
    // SAFETY: changes no bytes; what it forbids the caller rules out.
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ) == 0 }
}

/// How many mappings a process may have, if the kernel tells.
pub(crate) fn max_map_count() -> Option<usize> {
    let text = proc::read(c"/proc/sys/vm/max_map_count").ok()?;
    text.trim().parse().ok()
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // SAFETY: mapped in `closed`; nobody uses what its owner drops.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// What the kernel has just refused, and what to do about it.
#[cold]
fn explained(what: &str, advice: &str) -> io::Error {
    let error = io::Error::last_os_error();
    io::Error::new(error.kind(), format!("{what}: {error}; {advice}"))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's page size must be [`PAGE`].
pub(crate) fn check_page_size() -> io::Result<()> {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if usize::try_from(size) == Ok(PAGE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("crore needs a kernel with pages of {PAGE} bytes; this one has {size}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_read_as_zero_again() {
        let reserve = Reserve::new(3 * PAGE).unwrap();
        // SAFETY: both pages lie in the reserve, which nobody else knows.
        unsafe {
            reserve.base().add(PAGE).write(7);
            reserve.base().add(2 * PAGE).write(8);
            reserve.release(PAGE, PAGE).unwrap();
            assert_eq!(reserve.base().add(PAGE).read(), 0);
            assert_eq!(reserve.base().add(2 * PAGE).read(), 8);
        }
    }

    #[test]
    fn what_is_reserved_opens_in_steps() {
        let reserve = Reserve::closed(2 * STEP + PAGE).unwrap();
        let open = || reserve.open.load(Ordering::Relaxed);
        assert_eq!(open(), 0);
        for (end, opened) in [
            (1, STEP),
            (STEP, STEP),
            (STEP + 1, 2 * STEP),
            (reserve.len(), reserve.len()),
        ] {
            reserve.open(end).unwrap();
            assert_eq!(open(), opened);
            // SAFETY: open, and nobody else's.
            unsafe { reserve.base().add(end - 1).write(1) };
        }
    }

    #[test]
    fn too_much_is_an_error_with_advice() {
        let error = Reserve::closed(1 << 60).unwrap_err();
        assert!(error.to_string().contains("ulimit -v"), "{error}");
    }

    #[test]
    #[should_panic(expected = "not whole pages")]
    fn a_range_outside_is_refused() {
        let reserve = Reserve::new(PAGE).unwrap();
        // SAFETY: refused before anything is touched.
        let _ = unsafe { reserve.release(0, 2 * PAGE) };
    }

    #[test]
    fn the_kernel_tells_how_many_mappings_there_may_be() {
        assert!(max_map_count().is_some_and(|count| count >= 1_000));
    }
}
