//! The calls on a `FILE` that may read or write its descriptor: each takes the lock and
//! is libc's own, which may park.

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};

use libc::{FILE, fpos_t, fpos64_t, off_t, off64_t, size_t, ssize_t, wchar_t};

use super::flush::before_reading;
use super::parking::{at_once, in_turn};
use super::{stdin, stdout};
use crate::hook::libc::hook;
use crate::hook::wait::call::may_park;
use crate::sched::CurrentTask;

/// `wint_t`.
type WideInt = c_uint;

/// # Safety
///
/// - None: as `before_reading` is, in whose place it stands.
unsafe fn nothing(_: CurrentTask, _: *mut FILE) {}

/// Declares hooks of functions on a `FILE`: how they are made, and what comes before.
macro_rules! calls {
    ($how:ident after $before:ident:
        $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? => $file:expr;)*
    ) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's arguments, or libc's own file.
                unsafe {
                    let file = $file;
                    $how(cx, file, || {
                        $before(cx, file);
                        $name::next($($arg),*)
                    })
                }
            }
        );)*
    };
}

calls! {
    in_turn after before_reading:
    fn fgetc(file: *mut FILE) -> c_int => file;
    fn getc(file: *mut FILE) -> c_int => file;
    fn _IO_getc(file: *mut FILE) -> c_int => file;
    fn getchar() -> c_int => stdin;
    fn getw(file: *mut FILE) -> c_int => file;
    fn fgets(to: *mut c_char, room: c_int, file: *mut FILE) -> *mut c_char => file;
    fn __fgets_chk(to: *mut c_char, size: size_t, room: c_int, file: *mut FILE) -> *mut c_char => file;
    fn fread(to: *mut c_void, one: size_t, count: size_t, file: *mut FILE) -> size_t => file;
    fn __fread_chk(to: *mut c_void, size: size_t, one: size_t, count: size_t, file: *mut FILE)
        -> size_t => file;
    fn getline(line: *mut *mut c_char, room: *mut size_t, file: *mut FILE) -> ssize_t => file;
    fn getdelim(line: *mut *mut c_char, room: *mut size_t, last: c_int, file: *mut FILE)
        -> ssize_t => file;
    fn __getdelim(line: *mut *mut c_char, room: *mut size_t, last: c_int, file: *mut FILE)
        -> ssize_t => file;
    fn fgetwc(file: *mut FILE) -> WideInt => file;
    fn getwc(file: *mut FILE) -> WideInt => file;
    fn getwchar() -> WideInt => stdin;
    fn fgetws(to: *mut wchar_t, room: c_int, file: *mut FILE) -> *mut wchar_t => file;
}

calls! {
    at_once after before_reading:
    fn fgetc_unlocked(file: *mut FILE) -> c_int => file;
    fn getc_unlocked(file: *mut FILE) -> c_int => file;
    fn getchar_unlocked() -> c_int => stdin;
    fn __uflow(file: *mut FILE) -> c_int => file;
    fn __underflow(file: *mut FILE) -> c_int => file;
    fn fgets_unlocked(to: *mut c_char, room: c_int, file: *mut FILE) -> *mut c_char => file;
    fn __fgets_unlocked_chk(to: *mut c_char, size: size_t, room: c_int, file: *mut FILE)
        -> *mut c_char => file;
    fn fread_unlocked(to: *mut c_void, one: size_t, count: size_t, file: *mut FILE) -> size_t => file;
    fn __fread_unlocked_chk(
        to: *mut c_void, size: size_t, one: size_t, count: size_t, file: *mut FILE
    ) -> size_t => file;
    fn fgetwc_unlocked(file: *mut FILE) -> WideInt => file;
    fn getwc_unlocked(file: *mut FILE) -> WideInt => file;
    fn getwchar_unlocked() -> WideInt => stdin;
    fn fgetws_unlocked(to: *mut wchar_t, room: c_int, file: *mut FILE) -> *mut wchar_t => file;
}

calls! {
    in_turn after nothing:
    fn ungetc(byte: c_int, file: *mut FILE) -> c_int => file;
    fn ungetwc(wide: WideInt, file: *mut FILE) -> WideInt => file;
    fn fputc(byte: c_int, file: *mut FILE) -> c_int => file;
    fn putc(byte: c_int, file: *mut FILE) -> c_int => file;
    fn _IO_putc(byte: c_int, file: *mut FILE) -> c_int => file;
    fn putchar(byte: c_int) -> c_int => stdout;
    fn putw(word: c_int, file: *mut FILE) -> c_int => file;
    fn fputs(text: *const c_char, file: *mut FILE) -> c_int => file;
    fn puts(text: *const c_char) -> c_int => stdout;
    fn fwrite(from: *const c_void, one: size_t, count: size_t, file: *mut FILE) -> size_t => file;
    fn fputwc(wide: wchar_t, file: *mut FILE) -> WideInt => file;
    fn putwc(wide: wchar_t, file: *mut FILE) -> WideInt => file;
    fn putwchar(wide: wchar_t) -> WideInt => stdout;
    fn fputws(text: *const wchar_t, file: *mut FILE) -> c_int => file;
}

calls! {
    at_once after nothing:
    fn fputc_unlocked(byte: c_int, file: *mut FILE) -> c_int => file;
    fn putc_unlocked(byte: c_int, file: *mut FILE) -> c_int => file;
    fn putchar_unlocked(byte: c_int) -> c_int => stdout;
    fn __overflow(file: *mut FILE, byte: c_int) -> c_int => file;
    fn fputs_unlocked(text: *const c_char, file: *mut FILE) -> c_int => file;
    fn fwrite_unlocked(from: *const c_void, one: size_t, count: size_t, file: *mut FILE)
        -> size_t => file;
    fn fputwc_unlocked(wide: wchar_t, file: *mut FILE) -> WideInt => file;
    fn putwc_unlocked(wide: wchar_t, file: *mut FILE) -> WideInt => file;
    fn putwchar_unlocked(wide: wchar_t) -> WideInt => stdout;
    fn fputws_unlocked(text: *const wchar_t, file: *mut FILE) -> c_int => file;
}

calls! {
    in_turn after nothing:
    fn fseek(file: *mut FILE, to: c_long, from: c_int) -> c_int => file;
    fn fseeko(file: *mut FILE, to: off_t, from: c_int) -> c_int => file;
    fn fseeko64(file: *mut FILE, to: off64_t, from: c_int) -> c_int => file;
    fn rewind(file: *mut FILE) => file;
    fn ftell(file: *mut FILE) -> c_long => file;
    fn ftello(file: *mut FILE) -> off_t => file;
    fn ftello64(file: *mut FILE) -> off64_t => file;
    fn fgetpos(file: *mut FILE, at: *mut fpos_t) -> c_int => file;
    fn fgetpos64(file: *mut FILE, at: *mut fpos64_t) -> c_int => file;
    fn fsetpos(file: *mut FILE, at: *const fpos_t) -> c_int => file;
    fn fsetpos64(file: *mut FILE, at: *const fpos64_t) -> c_int => file;
    fn setvbuf(file: *mut FILE, buffer: *mut c_char, kind: c_int, size: size_t) -> c_int => file;
    fn setbuf(file: *mut FILE, buffer: *mut c_char) => file;
    fn setbuffer(file: *mut FILE, buffer: *mut c_char, size: size_t) => file;
    fn setlinebuf(file: *mut FILE) => file;
}
