//! The next definition: libc's own function behind a hook of the same name
//! (`RTLD_NEXT`), for calls that are not a coroutine's.
//!
//! Some names have several definitions in libc, each under a version: old ones, for
//! old programs, take other arguments or another layout. Without a version `RTLD_NEXT`
//! finds the oldest, before glibc 2.36. So those are asked for with the version that
//! the linker gives to programs ([`DEFAULT_VERSIONS`]). Ours has none and stands in for
//! all of them: x86_64's programs of before 2003, which want the oldest, are not served.
//!
//! All are looked up by a constructor (`hook/table.rs`), before `main`: a look-up
//! takes locks of the dynamic linker, which a signal handler or a forked child
//! must not meet. Constructors of libraries run earlier; what they call is looked
//! up there and then.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::sys::syscall::{Answer, answer_c, errno};

/// Where the next definition of one name is kept.
pub(crate) struct NextDefinition {
    /// Ends in a NUL.
    name: &'static str,
    function: AtomicPtr<c_void>,
}

/// The constructor has looked all names up.
static LOOKED_UP: AtomicBool = AtomicBool::new(false);

impl NextDefinition {
    pub(crate) const fn new(name: &'static str, without_next: *mut c_void) -> Self {
        Self {
            name,
            function: AtomicPtr::new(without_next),
        }
    }

    #[inline(always)]
    pub(crate) fn function(&self) -> *mut c_void {
        self.function.load(Ordering::Relaxed)
    }

    /// Looks the name up. False: there is none.
    pub(crate) fn look_up(&self) -> bool {
        let name = CStr::from_bytes_with_nul(self.name.as_bytes());
        let next = next_definition(name.expect("one NUL, at the end"));
        if !next.is_null() {
            self.function.store(next, Ordering::Relaxed);
        }
        !next.is_null()
    }

    /// Looks the name up, if the constructor has not done so yet.
    pub(crate) fn look_up_early(&self) -> bool {
        !all_are_looked_up() && self.look_up()
    }
}

/// The constructor is done.
pub(crate) fn all_looked_up() {
    LOOKED_UP.store(true, Ordering::Release);
}

/// Whether it is: then each name is found.
pub(crate) fn all_are_looked_up() -> bool {
    LOOKED_UP.load(Ordering::Acquire)
}

/// As C returns what the kernel said.
pub(crate) fn answer(answer: Answer) -> isize {
    answer_c(answer, errno())
}

/// Hooked names of which glibc has definitions that differ, and the version of that
/// which programs are linked with. The list is final: glibc 2.36 looks up by itself
/// what is right.
#[cfg(all(target_arch = "x86_64", not(target_feature = "crt-static")))]
const DEFAULT_VERSIONS: &[(&CStr, &CStr)] = &[
    // What tells of the end is another.
    (c"lio_listio", c"GLIBC_2.4"),
    (c"lio_listio64", c"GLIBC_2.4"),
    // The layout of `pthread_cond_t` is another.
    (c"pthread_cond_broadcast", c"GLIBC_2.3.2"),
    (c"pthread_cond_signal", c"GLIBC_2.3.2"),
    (c"pthread_cond_timedwait", c"GLIBC_2.3.2"),
    (c"pthread_cond_wait", c"GLIBC_2.3.2"),
    // Without the size of the set.
    (c"pthread_getaffinity_np", c"GLIBC_2.3.4"),
    // A thread that has ended is no error.
    (c"pthread_kill", c"GLIBC_2.34"),
    (c"pthread_setaffinity_np", c"GLIBC_2.3.4"),
];

/// The first glibc of other architectures is younger than these changes.
#[cfg(all(not(target_arch = "x86_64"), not(target_feature = "crt-static")))]
const DEFAULT_VERSIONS: &[(&CStr, &CStr)] = &[];

/// What is in libc under plain names only since glibc 2.34, and what it was called before, in
/// a library of its own: headers made calls of these of what programs asked.
#[cfg(not(target_feature = "crt-static"))]
const NAMES_BEFORE: &[(&CStr, &CStr)] = &[
    (c"res_query", c"__res_query"),
    (c"res_querydomain", c"__res_querydomain"),
    (c"res_search", c"__res_search"),
    (c"res_send", c"__res_send"),
];

/// The definition of `name` after ours in link order, null if there is none.
#[cfg(not(target_feature = "crt-static"))]
pub(crate) fn next_definition(name: &CStr) -> *mut c_void {
    if let Some((_, version)) = DEFAULT_VERSIONS.iter().find(|(known, _)| *known == name) {
        // SAFETY: a valid name and version; dlvsym calls nothing of ours.
        let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
        if !found.is_null() {
            return found;
        }
    }
    // SAFETY: a valid name; dlsym calls nothing of ours.
    let find = |name: &CStr| unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    let found = find(name);
    let before = NAMES_BEFORE.iter().find(|(known, _)| *known == name);
    match before {
        Some((_, before)) if found.is_null() => in_libresolv(before),
        _ => found,
    }
}

/// The definition in the library of the resolver, null if there is none. A program that is
/// linked with ours need not be linked with that: it has our definition.
#[cold]
#[cfg(not(target_feature = "crt-static"))]
fn in_libresolv(name: &CStr) -> *mut c_void {
    // SAFETY: a library of glibc's and a valid name. It is never closed.
    unsafe {
        let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW);
        match library.is_null() {
            true => std::ptr::null_mut(),
            false => libc::dlsym(library, name.as_ptr()),
        }
    }
}

#[cfg(target_feature = "crt-static")]
pub(crate) fn next_definition(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

#[cfg(all(test, not(target_feature = "crt-static")))]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::CString;
    use std::ptr;

    use super::*;
    use crate::hook::table::NAMES;

    /// What libc has under `name`, one address for each definition that is another.
    fn definitions(name: &CStr) -> BTreeSet<usize> {
        let parts = ["", ".1", ".2", ".3", ".4", ".5", ".6"];
        let versions = (0..60).flat_map(|minor| parts.map(|part| format!("GLIBC_2.{minor}{part}")));
        versions
            .map(|version| {
                let version = CString::new(version).unwrap();
                // SAFETY: a valid name and version.
                unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) }.addr()
            })
            .filter(|address| *address != 0)
            .collect()
    }

    /// What a program is linked with.
    fn default_definition(name: &CStr) -> usize {
        // Before glibc 2.34 libc was in several.
        let libraries = [
            c"libpthread.so.0",
            c"librt.so.1",
            c"libanl.so.1",
            c"libdl.so.2",
            c"libc.so.6",
        ];
        libraries
            .iter()
            .map(|library| {
                // SAFETY: a library that is loaded, or is not looked at; a valid name.
                unsafe {
                    let mode = libc::RTLD_NOW | libc::RTLD_NOLOAD;
                    let library = libc::dlopen(library.as_ptr(), mode);
                    match library.is_null() {
                        true => ptr::null_mut(),
                        false => libc::dlsym(library, name.as_ptr()),
                    }
                }
            })
            .find(|found| !found.is_null())
            .unwrap_or_else(|| panic!("{name:?} is in none of {libraries:?}"))
            .addr()
    }

    #[test]
    fn behind_each_hook_is_what_programs_are_linked_with() {
        let mut with_several = 0;
        for name in NAMES {
            let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap();
            if definitions(name).len() < 2 {
                continue;
            }
            with_several += 1;
            assert_eq!(
                next_definition(name).addr(),
                default_definition(name),
                "{name:?}"
            );
            // Where `dlsym` finds the right one by itself, this can't be seen otherwise.
            let listed = DEFAULT_VERSIONS.iter().find(|(known, _)| *known == name);
            let version = listed
                .unwrap_or_else(|| panic!("{name:?} has several definitions"))
                .1;
            // SAFETY: a valid name and version.
            let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
            assert_eq!(found.addr(), default_definition(name), "{name:?}");
        }
        assert!(with_several <= DEFAULT_VERSIONS.len());
        assert!(cfg!(not(target_arch = "x86_64")) || with_several > 0);
    }
}
