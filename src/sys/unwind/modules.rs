//! The unwind tables of what is loaded: the program and its libraries. They are copies,
//! so that a library may be unloaded while one of them is read.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, Pointer, UnwindSection, Vendor};

use crate::sys::fork::PerProcess;
use crate::util::no_park::NoParkMutex;

pub(super) type Bytes<'a> = gimli::EndianSlice<'a, LittleEndian>;
pub(super) type UnwindEntry<'a> = gimli::FrameDescriptionEntry<Bytes<'a>>;

/// Bytes of an address.
const ADDRESS: u8 = 8;

/// All that is loaded at one time.
#[derive(Default)]
pub(super) struct Modules {
    all: Vec<Module>,
    /// How many were ever loaded, and unloaded.
    era: (u64, u64),
}

/// A program or library.
pub(super) struct Module {
    code: Range<usize>,
    bases: BaseAddresses,
    /// The search table, and what it leads to.
    header: Box<[u8]>,
    entries: Box<[u8]>,
}

impl Modules {
    /// Of now. Reads them where others were loaded since the last time only.
    pub(super) fn loaded() -> Arc<Self> {
        static LAST: PerProcess<NoParkMutex<Option<Arc<Modules>>>> = PerProcess::new();
        let mut last = LAST.get().lock();
        let mut look = Look {
            known: last.as_ref().map(|last| last.era),
            fresh: Self::default(),
        };
        // SAFETY: `visit` has the type that is wanted; what it is given outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut look).cast()) };
        match &*last {
            Some(last) if last.era == look.fresh.era => Arc::clone(last),
            _ => Arc::clone(last.insert(Arc::new(look.fresh))),
        }
    }

    /// Whose code an address is.
    pub(super) fn find(&self, address: usize) -> Option<&Module> {
        self.all.iter().find(|one| one.code.contains(&address))
    }
}

struct Look {
    known: Option<(u64, u64)>,
    fresh: Modules,
}

/// Ends the look if all is as the last time.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, look: *mut c_void) -> c_int {
    // SAFETY: the linker's description of one library; what `loaded` gave.
    let (info, look) = unsafe { (&*info, &mut *look.cast::<Look>()) };
    look.fresh.era = (info.dlpi_adds, info.dlpi_subs);
    if look.known == Some(look.fresh.era) {
        return 1;
    }
    // SAFETY: the linker's, which unloads nothing meanwhile.
    look.fresh.all.extend(unsafe { Module::of(info) });
    0
}

impl Module {
    /// # Safety
    ///
    /// - It is loaded.
    unsafe fn of(info: &libc::dl_phdr_info) -> Option<Self> {
        // SAFETY: the library's program headers, as many as it says.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let lies = |one: &libc::Elf64_Phdr| {
            let begin = info.dlpi_addr.wrapping_add(one.p_vaddr) as usize;
            begin..begin + one.p_memsz as usize
        };
        let segments = || headers.iter().filter(|one| one.p_type == libc::PT_LOAD);
        let code = segments().filter(|one| one.p_flags & libc::PF_X != 0);
        let code = code
            .map(lies)
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        let header = headers
            .iter()
            .find(|one| one.p_type == libc::PT_GNU_EH_FRAME && one.p_flags & libc::PF_W == 0)?;
        let header = lies(header);
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.start as u64);
        // SAFETY: a segment of a library that is loaded.
        let header: Box<[u8]> = unsafe { bytes(header) }.into();
        let parsed = EhFrameHdr::new(&header, LittleEndian).parse(&bases, ADDRESS);
        let Pointer::Direct(entries) = parsed.ok()?.eh_frame_ptr() else {
            return None;
        };
        // Where they end a header would say that is not loaded. Behind them are other data,
        // in a segment that nobody writes.
        let end = segments()
            .filter(|one| one.p_flags & libc::PF_W == 0)
            .map(lies)
            .find(|one| one.contains(&(entries as usize)))?
            .end;
        Some(Self {
            // SAFETY: the rest of a segment of a library that is loaded, which nobody writes.
            entries: unsafe { bytes(entries as usize..end) }.into(),
            bases: bases.set_eh_frame(entries),
            header,
            code,
        })
    }

    pub(super) fn bases(&self) -> &BaseAddresses {
        &self.bases
    }

    pub(super) fn entries(&self) -> EhFrame<Bytes<'_>> {
        let mut entries = EhFrame::new(&self.entries, LittleEndian);
        entries.set_address_size(ADDRESS);
        if cfg!(target_arch = "aarch64") {
            // Else instructions of it are unknown.
            entries.set_vendor(Vendor::AArch64);
        }
        entries
    }

    /// What the tables say of the function around an address.
    pub(super) fn entry(&self, address: usize) -> Option<UnwindEntry<'_>> {
        let header = EhFrameHdr::new(&self.header, LittleEndian);
        let header = header.parse(&self.bases, ADDRESS).ok()?;
        let table = header.table()?;
        let cie = |entries: &EhFrame<_>, bases: &_, at| entries.cie_from_offset(bases, at);
        let entries = self.entries();
        table
            .fde_for_address(&entries, &self.bases, address as u64, cie)
            .ok()
    }
}

/// # Safety
///
/// - They can be read for `'a`.
unsafe fn bytes<'a>(range: Range<usize>) -> &'a [u8] {
    let begin = std::ptr::with_exposed_provenance(range.start);
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(begin, range.len()) }
}
