//! Interposers: libraries that stand in for functions of libc's as we do, by
//! `LD_PRELOAD`.
//!
//! The program's own definitions come first, so their functions are the next behind
//! our hooks: what is no coroutine's gets there. In a coroutine a hook makes the system
//! call itself, past them, and it is said so. (Calling them there would block the
//! worker, and not always be right either: they call libc, which is us.)

use std::time::Duration;

use crate::hook::wait::clock::{kernels_now, now};
use crate::sys::report::report as say;

/// More than passes between two looks at a clock.
const APART: Duration = Duration::from_secs(1);

/// Names to be said.
const NAMED: usize = 6;

/// Hooked for simulations alone: everywhere else they are libc's own.
#[cfg(not(target_feature = "crt-static"))]
const FOR_SIMULATIONS: [&str; 18] = [
    "clock_gettime",
    "gettimeofday",
    "time",
    "timespec_get",
    "getrandom",
    "getentropy",
    "gethostname",
    "uname",
    "bind",
    "listen",
    "getsockname",
    "getpeername",
    "getsockopt",
    "shutdown",
    "rename",
    "renameat",
    "unlink",
    "unlinkat",
];

/// Says which calls of coroutines go past an interposer, and whether one changes the
/// clock that timed waits go by.
pub(crate) fn report() {
    #[cfg(not(target_feature = "crt-static"))]
    if std::env::var_os("LD_PRELOAD").is_some_and(|libraries| !libraries.is_empty()) {
        report_calls();
    }
    let monotonic = libc::CLOCK_MONOTONIC;
    if now(monotonic).abs_diff(kernels_now(monotonic)) > APART {
        say(format_args!(
            "the monotonic clock that this program sees is not the kernel's: waits of plain \
             threads for locks of std, with a time limit, end at another time, or never; with \
             libfaketime, set FAKETIME_DONT_FAKE_MONOTONIC=1"
        ));
    }
}

#[cfg(not(target_feature = "crt-static"))]
fn report_calls() {
    use std::collections::BTreeMap;

    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let as_libc = |name: &str| FOR_SIMULATIONS.contains(&name.trim_end_matches('\0'));
    let names = crate::hook::table::NAMES.iter();
    for name in names.filter(|name| !as_libc(name)) {
        if let Some(library) = interposer(name) {
            found
                .entry(library)
                .or_default()
                .push(name.trim_end_matches('\0'));
        }
    }
    for (library, names) in found {
        let more = match names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = names[..names.len().min(NAMED)].join(", ");
        say(format_args!(
            "{library} stands in for {names}{more}: calls of plain threads and of unhooked code go \
             through it, those of coroutines past it, to the kernel"
        ));
    }
}

/// The library, other than libc's own, that has the next definition of a name.
#[cfg(not(target_feature = "crt-static"))]
fn interposer(name: &str) -> Option<String> {
    use std::ffi::CStr;

    use crate::hook::libc::next;

    /// libc's, before and after it was made one.
    const LIBC: [&str; 6] = [
        "libc",
        "libpthread",
        "librt",
        "libdl",
        "libanl",
        "libresolv",
    ];
    let next = next::next_definition(CStr::from_bytes_with_nul(name.as_bytes()).ok()?);
    // SAFETY: zeros are valid; a place for the answer, whose name is the linker's own.
    let path = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if next.is_null() || libc::dladdr(next, &raw mut info) == 0 {
            return None;
        }
        CStr::from_ptr(info.dli_fname).to_string_lossy()
    };
    let file = path.rsplit('/').next()?;
    let libcs = LIBC.iter().any(|one| {
        file.strip_prefix(one)
            .is_some_and(|rest| rest.starts_with(".so") || rest.starts_with("-2."))
    });
    (!libcs).then(|| path.into_owned())
}
