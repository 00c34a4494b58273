//! Formatted output: `printf` and its kin, and `syslog`. The text is made first, in
//! memory, and then written as any: while libc prints it is on a list of its thread's, on
//! which a coroutine that parked would stay.

use std::ffi::{c_char, c_int};

use libc::{FILE, wchar_t};

use super::calls::fwrite_unlocked;
use super::jumps::write_all;
use super::parking::{in_turn, parking};
use super::{EOF, stdout};
use crate::hook::futex::pthread::file_lock::locked;
use crate::hook::libc::hook;
use crate::hook::libc::variadic::{Arguments, variadic};
use crate::hook::wait::call::{may_park, on_waiting_thread};
use crate::sys::syscall::{errno, set_errno};

unsafe extern "C" {
    fn fwide(file: *mut FILE, mode: c_int) -> c_int;
    fn vasprintf(text: *mut *mut c_char, format: *const c_char, all: Arguments) -> c_int;
    fn __vasprintf_chk(
        text: *mut *mut c_char,
        flag: c_int,
        format: *const c_char,
        all: Arguments,
    ) -> c_int;
}

/// A list that nothing is taken from.
macro_rules! no_arguments {
    () => {
        [0_usize; 4].as_mut_ptr().cast()
    };
}

/// A text of libc's formatting.
struct Formatted {
    text: *mut c_char,
    len: c_int,
}

impl Formatted {
    /// With the checks of `_FORTIFY_SOURCE` if there is a `flag`.
    ///
    /// # Safety
    ///
    /// - As for `vasprintf`.
    unsafe fn new(flag: Option<c_int>, format: *const c_char, all: Arguments) -> Self {
        let mut text = std::ptr::null_mut();
        let place = &raw mut text;
        // SAFETY: the caller's arguments, a place.
        let len = unsafe {
            match flag {
                None => vasprintf(place, format, all),
                Some(flag) => __vasprintf_chk(place, flag, format, all),
            }
        };
        Self { text, len }
    }

    /// `None` if it could not be made.
    fn bytes(&self) -> Option<&[u8]> {
        let len = usize::try_from(self.len).ok()?;
        // SAFETY: so many were put there.
        Some(unsafe { std::slice::from_raw_parts(self.text.cast(), len) })
    }

    /// What the call returns whose text went out by `put`, which says how much did.
    fn put(&self, put: impl FnOnce(&[u8]) -> usize) -> c_int {
        match self.bytes() {
            Some(bytes) if put(bytes) == bytes.len() => self.len,
            _ => EOF,
        }
    }
}

impl Drop for Formatted {
    fn drop(&mut self) {
        if self.len >= 0 {
            // SAFETY: of `malloc`, and this is its owner.
            unsafe { libc::free(self.text.cast()) };
        }
    }
}

/// Declares hooks that print to a `FILE`.
macro_rules! printed {
    ($(fn $name:ident($($flag:ident)?);)*) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name(
                file: *mut FILE,
                $($flag: c_int,)?
                format: *const c_char,
                all: Arguments,
            ) -> c_int {
                // SAFETY: the caller's file and arguments; text that is there.
                unsafe {
                    in_turn(cx, file, || {
                        // On its own thread's list, or not made of bytes.
                        if cx.has_own_tls() || fwide(file, 0) > 0 {
                            return $name::next(file, $($flag,)? format, all);
                        }
                        let text = Formatted::new(None$(.or(Some($flag)))?, format, all);
                        match text.len {
                            // A file that can't be written says so.
                            0 => $name::next(file, $($flag,)? c"".as_ptr(), no_arguments!()),
                            _ => text.put(|bytes| {
                                fwrite_unlocked::next(bytes.as_ptr().cast(), 1, bytes.len(), file)
                            }),
                        }
                    })
                }
            }
        );)*
    };
}

printed! {
    fn vfprintf();
    fn __vfprintf_chk(flag);
}

/// Declares hooks that print wide characters, to a `FILE` and to stdout: libc's own, which
/// parks with thread-locals of its coroutine's own and blocks the thread with the
/// thread's.
macro_rules! widely_printed {
    ($(fn $name:ident($($flag:ident)?), $to_stdout:ident;)*) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name(
                file: *mut FILE,
                $($flag: c_int,)?
                format: *const wchar_t,
                all: Arguments,
            ) -> c_int {
                // SAFETY: the caller's file and arguments.
                unsafe {
                    locked(file, || {
                        let print = || $name::next(file, $($flag,)? format, all);
                        if cx.has_own_tls() { parking(cx, file, print) } else { print() }
                    })
                }
            }
        );

        hook!(
            unsafe extern "C" fn $to_stdout(
                $($flag: c_int,)?
                format: *const wchar_t,
                all: Arguments,
            ) -> c_int {
                // SAFETY: libc's file, the caller's arguments.
                unsafe { $name(stdout, $($flag,)? format, all) }
            }
        );)*
    };
}

widely_printed! {
    fn vfwprintf(), vwprintf;
    fn __vfwprintf_chk(flag), __vwprintf_chk;
}

/// Declares hooks that print to a descriptor.
macro_rules! written {
    ($(fn $name:ident($($flag:ident)?);)*) => {
        $(hook!(
            next,
            Some(_) = may_park(),
            unsafe extern "C" fn $name(
                fd: c_int,
                $($flag: c_int,)?
                format: *const c_char,
                all: Arguments,
            ) -> c_int {
                // SAFETY: the caller's arguments.
                let text = unsafe { Formatted::new(None$(.or(Some($flag)))?, format, all) };
                match text.len {
                    // Nothing is written, which might be a message.
                    // SAFETY: no arguments.
                    0 => unsafe { $name::next(fd, $($flag,)? c"".as_ptr(), no_arguments!()) },
                    _ => text.put(|bytes| write_all(fd, bytes)),
                }
            }
        );)*
    };
}

written! {
    fn vdprintf();
    fn __vdprintf_chk(flag);
}

hook!(
    unsafe extern "C" fn vprintf(format: *const c_char, all: Arguments) -> c_int {
        // SAFETY: libc's file, the caller's arguments.
        unsafe { vfprintf(stdout, format, all) }
    }
);

hook!(
    unsafe extern "C" fn __vprintf_chk(
        flag: c_int,
        format: *const c_char,
        all: Arguments,
    ) -> c_int {
        // SAFETY: libc's file, the caller's arguments.
        unsafe { __vfprintf_chk(stdout, flag, format, all) }
    }
);

/// Declares hooks of the system's log. libc waits there for whoever reads the log, and
/// for its own lock. No cancellation ends it: it could not say so.
macro_rules! logged {
    ($(fn $name:ident($($flag:ident)?);)*) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name(
                priority: c_int,
                $($flag: c_int,)?
                format: *const c_char,
                all: Arguments,
            ) {
                let saved = errno();
                // SAFETY: the caller's arguments.
                let text = unsafe { Formatted::new(None$(.or(Some($flag)))?, format, all) };
                if let Some(bytes) = text.bytes() {
                    let format = plain_format(bytes);
                    let _ = on_waiting_thread(cx, true, move || {
                        // SAFETY: our own text, which names no arguments.
                        unsafe { vsyslog::next(priority, format.as_ptr().cast(), no_arguments!()) };
                        0
                    });
                }
                set_errno(saved);
            }
        );)*
    };
}

logged! {
    fn vsyslog();
    fn __vsyslog_chk(flag);
}

/// The format that says just this, with its 0.
fn plain_format(text: &[u8]) -> Vec<u8> {
    let twice = |&byte: &u8| std::iter::repeat_n(byte, if byte == b'%' { 2 } else { 1 });
    text.iter().flat_map(twice).chain([0]).collect()
}

variadic! {
    fn printf(1, ...) = vprintf;
    fn fprintf(2, ...) = vfprintf;
    fn dprintf(2, ...) = vdprintf;
    fn syslog(2, ...) = vsyslog;
    fn wprintf(1, ...) = vwprintf;
    fn fwprintf(2, ...) = vfwprintf;
    fn __wprintf_chk(2, ...) = __vwprintf_chk;
    fn __fwprintf_chk(3, ...) = __vfwprintf_chk;
    fn __printf_chk(2, ...) = __vprintf_chk;
    fn __fprintf_chk(3, ...) = __vfprintf_chk;
    fn __dprintf_chk(3, ...) = __vdprintf_chk;
    fn __syslog_chk(3, ...) = __vsyslog_chk;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_format_names_no_arguments() {
        assert_eq!(plain_format(b"100% of %s"), b"100%% of %%s\0");
        assert_eq!(plain_format(b""), b"\0");
    }
}
