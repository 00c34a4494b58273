//! Jump tables: by which functions a `FILE` of libc's reads, writes and closes its
//! descriptor. libc makes those calls inside of itself, where no symbol of ours comes
//! first; so ours are put into the tables, in front of libc's. All that a `FILE` does,
//! its buffers, positions and errors, stays libc's own.
//!
//! ```text
//!  fgets ─► libc: lock, buffer empty ─► table[READ] ─► ours ─► hooked `read`: parks
//!                                                       └────► libc's, where it may not
//! ```
//!
//! This file is all that depends on how glibc is made. A table is an array of functions
//! in an order that is glibc's since 2.1, in memory that the dynamic linker has made
//! read-only. Only what is understood is changed: the functions around ours must be
//! those that libc exports under their names. Where they are not, or the kernel refuses,
//! nothing is changed, and calls on `FILE`s block the thread.

use std::ffi::{c_int, c_void};
use std::mem::{self, offset_of};
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

use libc::{FILE, dl_phdr_info, ssize_t};

use super::parking;
use crate::hook::libc::next::next_definition;
use crate::sched;
use crate::sys::mem::PAGE;
use crate::sys::syscall::sys;

/// What C's headers tell of a `FILE`: programs are compiled with it, so it stays.
#[repr(C)]
pub(super) struct Head {
    flags: c_int,
    read_next: *mut u8,
    read_end: *mut u8,
    _read_base: *mut u8,
    _write: [*mut u8; 3],
    _buffer: [*mut u8; 2],
    _saved: [*mut u8; 3],
    _markers: *mut c_void,
    _chain: *mut FILE,
    fd: c_int,
    _flags2: c_int,
    _old_offset: usize,
    _column: [u8; 4],
    _lock: *mut c_void,
    offset: i64,
}

const _: () = assert!(offset_of!(Head, fd) == 112 && offset_of!(Head, offset) == 144);

/// Bits of [`Head::flags`].
const UNBUFFERED: c_int = 0x2;
const NO_READS: c_int = 0x4;
const END_SEEN: c_int = 0x10;
const ERROR_SEEN: c_int = 0x20;
const LINE_BUFFERED: c_int = 0x200;

impl Head {
    pub(super) fn is_line_buffered(&self) -> bool {
        self.flags & LINE_BUFFERED != 0
    }

    /// Whether a read would show what stdout has, if that is of lines: as prompts need it.
    pub(super) fn prompts(&self) -> bool {
        let asks = self.flags & (UNBUFFERED | LINE_BUFFERED) != 0;
        let reads = self.flags & (NO_READS | END_SEEN) == 0 && self.read_next >= self.read_end;
        asks && reads
    }
}

type Read = unsafe extern "C" fn(*mut FILE, *mut c_void, ssize_t) -> ssize_t;
type Write = unsafe extern "C" fn(*mut FILE, *const c_void, ssize_t) -> ssize_t;
type Close = unsafe extern "C" fn(*mut FILE) -> c_int;

/// A function of a table.
type TableEntry = AtomicPtr<c_void>;

/// What libc has where ours is in front of it.
static LIBCS_READ: TableEntry = AtomicPtr::new(ptr::null_mut());
static LIBCS_WRITE: TableEntry = AtomicPtr::new(ptr::null_mut());
static LIBCS_CLOSE: TableEntry = AtomicPtr::new(ptr::null_mut());

/// libc's function, for one of ours that is called. It was put there before; but libc's
/// look at a table does not wait for what went before the table's change.
fn libcs(entry: &TableEntry) -> *mut c_void {
    loop {
        let libcs = entry.load(Ordering::Acquire);
        if !libcs.is_null() {
            return libcs;
        }
        std::hint::spin_loop();
    }
}

/// # Safety
///
/// - As for libc's, which calls it.
unsafe extern "C" fn read(file: *mut FILE, to: *mut c_void, most: ssize_t) -> ssize_t {
    // SAFETY: libc's file, and its place for so much; what stood here in the table.
    unsafe {
        let fd = (*file.cast::<Head>()).fd;
        let parked = parking::may_park_in(file, || libc::read(fd, to, most as usize));
        parked.unwrap_or_else(|| {
            mem::transmute::<*mut c_void, Read>(libcs(&LIBCS_READ))(file, to, most)
        })
    }
}

/// # Safety
///
/// - As for libc's, which calls it.
unsafe extern "C" fn write(file: *mut FILE, from: *const c_void, total: ssize_t) -> ssize_t {
    // SAFETY: libc's file and bytes; what stood here in the table.
    unsafe {
        let parked = parking::may_park_in(file, || {
            let bytes = slice::from_raw_parts(from.cast::<u8>(), total as usize);
            let done = write_all((*file.cast::<Head>()).fd, bytes);
            let head = &mut *file.cast::<Head>();
            if done < bytes.len() {
                head.flags |= ERROR_SEEN;
            }
            // Unknown if negative.
            if head.offset >= 0 {
                head.offset += done as i64;
            }
            done as ssize_t
        });
        parked.unwrap_or_else(|| {
            mem::transmute::<*mut c_void, Write>(libcs(&LIBCS_WRITE))(file, from, total)
        })
    }
}

/// Writes by the hooked `write`, which parks: how many. Less than all if it failed.
pub(super) fn write_all(fd: RawFd, bytes: &[u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        // SAFETY: valid bytes.
        match unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) } {
            written @ 1.. => done += written as usize,
            _ => break,
        }
    }
    done
}

/// The number ends here.
///
/// # Safety
///
/// - As for libc's, which calls it.
unsafe extern "C" fn close(file: *mut FILE) -> c_int {
    // SAFETY: libc's file; what stood here in the table.
    unsafe {
        sched::renew_fd((*file.cast::<Head>()).fd);
        mem::transmute::<*mut c_void, Close>(libcs(&LIBCS_CLOSE))(file)
    }
}

/// Where in a table what is, as far as it is looked at.
const MAKE_BUFFER: usize = 13;
const READ: usize = 14;
const WRITE: usize = 15;
const SEEK: usize = 16;
const CLOSE: usize = 17;
const STAT: usize = 18;
const ENTRIES: usize = 21;

/// Puts ours into the tables, once.
pub(super) fn put_ours() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(tables) = Tables::look() {
            tables.put_ours();
        }
    });
}

/// Whether ours are in the tables.
pub(super) fn are_in_front() -> bool {
    !LIBCS_READ.load(Ordering::Relaxed).is_null()
}

/// libc's tables.
struct Tables {
    /// Where all of libc lies that is read-only once it is linked, and what of it really
    /// is: whole pages.
    all: Range<usize>,
    read_only: Range<usize>,
    /// Of the table for files: what the tables have in common.
    read: usize,
    write: usize,
    seek: usize,
    close: usize,
    stat: usize,
}

impl Tables {
    /// `None` if they are not understood.
    fn look() -> Option<Self> {
        let libcs = |name| next_definition(name).expose_provenance();
        let table = match libcs(c"_IO_file_jumps") {
            0 => table_of_stdin()?,
            table => table,
        };
        let all = read_only_part(table)?;
        if table < all.start || table + ENTRIES * size_of::<usize>() > all.end {
            return None;
        }
        // SAFETY: libc's memory, and aligned as an array of pointers is.
        let entry = |at: usize| unsafe { word(table + at * size_of::<usize>()) };
        let known = [
            (MAKE_BUFFER, c"_IO_file_doallocate"),
            (SEEK, c"_IO_file_seek"),
            (STAT, c"_IO_file_stat"),
        ];
        let understood = known.iter().all(|&(at, name)| entry(at) == libcs(name));
        let down = |at: usize| at / PAGE * PAGE;
        understood.then(|| Self {
            read_only: down(all.start)..down(all.end),
            all,
            read: entry(READ),
            write: entry(WRITE),
            seek: entry(SEEK),
            close: entry(CLOSE),
            stat: entry(STAT),
        })
    }

    /// Where the reading functions of the tables are whose `FILE`s read and write
    /// descriptors: of files, wide ones, mapped ones, commands.
    fn places(&self) -> impl Iterator<Item = usize> {
        let step = size_of::<usize>();
        let end = self.all.end - (STAT - READ) * step;
        (self.all.start..end).step_by(step).filter(move |&at| {
            // SAFETY: libc's memory, and aligned.
            let entry = |index: usize| unsafe { word(at + (index - READ) * step) };
            let found = [READ, WRITE, SEEK, STAT].map(entry);
            found == [self.read, self.write, self.seek, self.stat]
        })
    }

    /// Changes nothing if the kernel refuses.
    fn put_ours(&self) {
        let Some((first, last)) = self.places().next().zip(self.places().last()) else {
            return;
        };
        let begin = first / PAGE * PAGE;
        let end = (last + ENTRIES * size_of::<usize>()).next_multiple_of(PAGE);
        let pages = begin.max(self.read_only.start)..end.min(self.read_only.end);
        let protect = |how: c_int| {
            // SAFETY: libc's own pages; nobody relies on their not being writable.
            pages.is_empty() || unsafe { sys!(SYS_mprotect, pages.start, pages.len(), how) }.is_ok()
        };
        if !protect(libc::PROT_READ | libc::PROT_WRITE) {
            return;
        }
        let libcs = [&LIBCS_READ, &LIBCS_WRITE, &LIBCS_CLOSE];
        for (libcs, entry) in libcs.into_iter().zip([self.read, self.write, self.close]) {
            libcs.store(ptr::with_exposed_provenance_mut(entry), Ordering::Release);
        }
        for at in self.places() {
            let put = |index: usize, libcs: usize, ours: *const ()| {
                let at = ptr::with_exposed_provenance_mut(at + (index - READ) * size_of::<usize>());
                // SAFETY: an aligned pointer in a table, which is writable now. Others
                // read it meanwhile, and find one or the other.
                let entry = unsafe { TableEntry::from_ptr(at) };
                if entry.load(Ordering::Relaxed).addr() == libcs {
                    entry.store(ours.cast_mut().cast(), Ordering::Release);
                }
            };
            put(CLOSE, self.close, close as *const ());
            put(WRITE, self.write, write as *const ());
            put(READ, self.read, read as *const ());
        }
        protect(libc::PROT_READ);
    }
}

/// The table of stdin, in which that for files is if it has not been used for wide
/// characters: it comes after what C's headers tell.
fn table_of_stdin() -> Option<usize> {
    const FILE_BYTES: usize = 216;
    let file = next_definition(c"_IO_2_1_stdin_").expose_provenance();
    // SAFETY: libc's file of this name, and the pointer that comes after it.
    (file != 0).then(|| unsafe { word(file + FILE_BYTES) })
}

/// # Safety
///
/// - An aligned word of libc's memory.
unsafe fn word(at: usize) -> usize {
    // SAFETY: the caller's promise; another copy of this may be writing.
    unsafe { TableEntry::from_ptr(ptr::with_exposed_provenance_mut(at)) }
        .load(Ordering::Relaxed)
        .addr()
}

/// The part of the library that `inside` is in that the dynamic linker makes read-only.
fn read_only_part(inside: usize) -> Option<Range<usize>> {
    struct PartSearch {
        inside: usize,
        found: Option<Range<usize>>,
    }
    unsafe extern "C" fn look(info: *mut dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: the linker's description of one library; our own `PartSearch`.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<PartSearch>()) };
        // SAFETY: the library's program headers, as many as it says.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let parts = headers
            .iter()
            .filter(|header| header.p_type == libc::PT_GNU_RELRO);
        let range = |header: &libc::Elf64_Phdr| {
            let start = (info.dlpi_addr + header.p_vaddr) as usize;
            start.next_multiple_of(size_of::<usize>())..start + header.p_memsz as usize
        };
        search.found = parts.map(range).find(|part| part.contains(&search.inside));
        c_int::from(search.found.is_some())
    }
    let mut search = PartSearch {
        inside,
        found: None,
    };
    // SAFETY: `look` has the type that is wanted, `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_libc_is_understood() {
        let tables = Tables::look().expect("other names, or another order");
        put_ours();
        assert!(are_in_front());
        let again = Tables::look().expect("ours are where libc's were");
        assert_eq!(again.read, (read as *const ()).addr());
        // Another test may have been first.
        if tables.read != again.read {
            assert_eq!(tables.places().count(), 0, "some have libc's still");
        }
        // Files, wide ones, two kinds of mapped ones each, commands and wide ones.
        assert!(again.places().count() >= 4);
    }

    #[test]
    fn stdin_has_the_table_for_files() {
        let table = next_definition(c"_IO_file_jumps").addr();
        assert!(table == 0 || table_of_stdin() == Some(table));
    }

    #[test]
    fn what_is_not_in_a_library_has_no_tables() {
        assert_eq!(read_only_part(0), None);
        assert_eq!(read_only_part((&raw const HERE).addr()), None);
        static HERE: u8 = 0;
    }
}
