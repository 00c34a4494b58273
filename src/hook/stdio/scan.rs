//! Formatted input: `scanf` and its kin. While libc scans it is on a list of its
//! thread's, on which a coroutine that parked would stay; so it parks before, until there
//! is something to scan. One with thread-locals of its own has such a list, too.

use std::ffi::{c_char, c_int};

use libc::FILE;

use super::calls::__underflow;
use super::flush::before_reading;
use super::parking::parking;
use super::{EOF, stdin};
use crate::hook::futex::pthread::file_lock::locked;
use crate::hook::libc::hook;
use crate::hook::libc::variadic::{Arguments, variadic};
use crate::hook::wait::call::may_park;
use crate::sched::CurrentTask;

/// Parks until there is something in the buffer. False if reading failed.
///
/// # Safety
///
/// - A valid file, whose lock is held.
unsafe fn something_is_there(cx: CurrentTask, file: *mut FILE) -> bool {
    // SAFETY: the caller's file.
    unsafe {
        let before = libc::ferror(file);
        let got = parking(cx, file, || __underflow::next(file));
        got != EOF || libc::ferror(file) == before
    }
}

macro_rules! scanned {
    ($($name:ident, $of_stdin:ident;)*) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name(
                file: *mut FILE,
                format: *const c_char,
                all: Arguments,
            ) -> c_int {
                // SAFETY: the caller's file and arguments.
                unsafe {
                    locked(file, || {
                        before_reading(cx, file);
                        match cx.has_own_tls() {
                            true => parking(cx, file, || $name::next(file, format, all)),
                            false if something_is_there(cx, file) => {
                                $name::next(file, format, all)
                            }
                            false => EOF,
                        }
                    })
                }
            }
        );

        hook!(
            unsafe extern "C" fn $of_stdin(format: *const c_char, all: Arguments) -> c_int {
                // SAFETY: libc's file, the caller's arguments.
                unsafe { $name(stdin, format, all) }
            }
        );)*
    };
}

scanned! {
    vfscanf, vscanf;
    __isoc99_vfscanf, __isoc99_vscanf;
}

variadic! {
    fn scanf(1, ...) = vscanf;
    fn fscanf(2, ...) = vfscanf;
    fn __isoc99_scanf(1, ...) = __isoc99_vscanf;
    fn __isoc99_fscanf(2, ...) = __isoc99_vfscanf;
}
