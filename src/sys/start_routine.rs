//! Start routines of threads in words, as `crore run --real` is told them.

use std::ffi::{CStr, c_char, c_void};

use super::library::object_at;

/// A start routine as `library:symbol`; as `library:+0x12ab`, its place in the library, where
/// the dynamic linker knows no name; `:` where it knows nothing.
pub(crate) fn name(start: *const c_void) -> String {
    let Some(found) = object_at(start) else {
        return ":".into();
    };
    let text = |at: *const c_char| {
        // SAFETY: the linker's strings, which live as long as the library.
        (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_string_lossy())
    };
    let symbol = text(found.dli_sname).map(String::from);
    let place = || format!("+{:#x}", start.addr() - found.dli_fbase.addr());
    let library = text(found.dli_fname).unwrap_or_default();
    format!("{library}:{}", symbol.unwrap_or_else(place))
}

/// A regular expression of POSIX (an extended one) that matches this name, in whatever
/// folder the library is; none if nothing is known.
pub(crate) fn pattern(start: *const c_void) -> Option<String> {
    let name = name(start);
    let name = name.rsplit('/').next().filter(|&name| name != ":")?;
    let mut pattern = String::from("(^|/)");
    for letter in name.chars() {
        if ".[]()*+?{}|^$\\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    Some(pattern + "$")
}

#[cfg(all(
    test,
    not(miri),
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
mod tests {
    use super::*;

    #[test]
    fn a_routine_is_named_by_its_library_and_its_symbol_or_place() {
        let exported = name(libc::getpid as *const c_void);
        assert!(exported.contains("libc.so.6:"), "{exported}");
        assert!(exported.ends_with("getpid"), "{exported}");
        let pattern_of_it = pattern(libc::getpid as *const c_void).unwrap();
        assert!(pattern_of_it.starts_with(r"(^|/)libc\.so\.6:"));
        assert!(pattern_of_it.ends_with("getpid$"));
        let ours = name as *const c_void;
        assert!(name(ours).contains(":+0x"), "{}", name(ours));
        assert!(pattern(ours).unwrap().contains(r":\+0x"));
        assert_eq!(name(std::ptr::null()), ":");
        assert_eq!(pattern(std::ptr::null()), None);
    }
}
