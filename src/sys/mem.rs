//! Address space that is reserved once and filled by touching it.
//!
//! A [`Reserve`] never moves and never grows: whoever needs "stable addresses
//! that grow without copying" reserves more than it will ever use, touches
//! what it needs, and gives pages back with [`Reserve::release`]. Stacks,
//! task slots and saved frames all live in reserves.

use std::io;

use memmap2::{MmapOptions, MmapRaw};

use super::syscall::sys;

/// The page size that we assume. Linux on x86_64 always has it; aarch64
/// kernels with larger pages are refused at start-up by [`check_page_size`].
pub(crate) const PAGE: usize = 4096;

/// `MADV_GUARD_INSTALL`, Linux 6.13: the `libc` crate has no name for it yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// A range of anonymous private memory, reserved without swap accounting.
///
/// Pages cost nothing until they are touched and read as zero at first.
#[derive(Debug)]
pub(crate) struct Reserve {
    map: MmapRaw,
}

/// How guard pages are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// `madvise(MADV_GUARD_INSTALL)`: no page tables split, no mapping used up.
    Madvise,
    /// `mprotect(PROT_NONE)`: every guard splits the mapping in two more.
    Mprotect,
}

impl Reserve {
    /// Reserves `bytes` of address space (rounded up to whole pages).
    ///
    /// # Errors
    ///
    /// What `mmap` says, in words: the address-space limit (`ulimit -v`), or
    /// an overcommit policy that counts reserved memory.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let len = bytes.next_multiple_of(PAGE).max(PAGE);
        let map = MmapOptions::new()
            .len(len)
            .no_reserve_swap()
            .map_anon()
            .map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!(
                        "cannot reserve {len} bytes of address space: {e}; raise `ulimit -v`, \
                         or set vm.overcommit_memory to 0 or 1"
                    ),
                )
            })?;
        Ok(Self { map: map.into() })
    }

    /// The lowest address.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
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
    /// `Madvise`: `EINVAL` from kernels before 6.13 and on locked memory.
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

    /// How many pages of the range are in memory.
    #[cfg(test)]
    pub(crate) fn resident_pages(&self, offset: usize, len: usize) -> usize {
        let mut pages = vec![0u8; len / PAGE];
        // SAFETY: one byte for each page of a range that is ours.
        let result = unsafe { libc::mincore(self.range(offset, len), len, pages.as_mut_ptr()) };
        check(result).expect("mincore of our own range");
        pages.iter().filter(|page| **page & 1 != 0).count()
    }

    /// Keeps all of it in memory, as `mlockall` would.
    #[cfg(test)]
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
    let (path, mut text) = (c"/proc/sys/vm/max_map_count", [0_u8; 32]);
    // SAFETY: a path with its nul; a place of this length; a descriptor of our own.
    let read = unsafe {
        let fd = sys!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_CLOEXEC).ok()?;
        let read = sys!(SYS_read, fd, text.as_mut_ptr(), text.len());
        let _ = sys!(SYS_close, fd);
        read.ok()?
    };
    std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
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
    fn too_much_is_an_error_with_advice() {
        let error = Reserve::new(1 << 60).unwrap_err();
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
