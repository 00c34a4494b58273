//! Libraries that are loaded: the one that this code is in, if it is not the program,
//! stays; where one has its thread-locals.

use std::ffi::c_void;

/// Keeps the library loaded from now on. Threads and signal handlers of ours outlive
/// a run, and must find their code after a `dlclose`. The program itself stays anyway.
pub(crate) fn stay_loaded() {
    #[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
    if let Some(ours) = object_at(stay_loaded as *const c_void) {
        // SAFETY: no pointers; the program's headers lie in the program.
        let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
        let program = object_at(std::ptr::without_provenance(program));
        if program.is_none_or(|program| program.dli_fbase != ours.dli_fbase) {
            // SAFETY: the linker's own name of a library that is loaded; nothing else
            // is loaded, no code runs.
            unsafe {
                let how = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(ours.dli_fname, how)
            };
        }
    }
}

/// What the dynamic linker has loaded around an address.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
pub(super) fn object_at(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: zeros are valid; a place for the answer, which is complete if it is not 0.
    unsafe {
        let mut info = std::mem::zeroed();
        (libc::dladdr(address, &raw mut info) != 0).then_some(info)
    }
}

/// Nobody says.
#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
pub(super) fn object_at(_: *const c_void) -> Option<libc::Dl_info> {
    None
}

/// Where this thread has the thread-locals of the library or program around an address,
/// and how many bytes.
#[cfg(target_env = "gnu")]
pub(crate) fn thread_locals_around(inside: usize) -> Option<(usize, usize)> {
    use std::ffi::c_int;

    struct Search {
        inside: usize,
        found: Option<(usize, usize)>,
    }
    unsafe extern "C" fn look(
        info: *mut libc::dl_phdr_info,
        _: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the linker's description of one library; our own `Search`.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: the library's program headers, as many as it says.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        let holds = headers.iter().any(|header| {
            let begin = (info.dlpi_addr + header.p_vaddr) as usize;
            header.p_type == libc::PT_LOAD
                && (begin..begin + header.p_memsz as usize).contains(&search.inside)
        });
        let tls = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        if let (true, Some(tls)) = (holds, tls) {
            let at = info.dlpi_tls_data.expose_provenance();
            search.found = (at != 0).then_some((at, tls.p_memsz as usize));
        }
        c_int::from(holds)
    }
    let mut search = Search {
        inside,
        found: None,
    };
    // SAFETY: `look` has the type that is wanted, `search` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}
