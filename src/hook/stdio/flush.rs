//! Flushing a `FILE`, or all of them.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::sync::OnceLock;

use libc::{FILE, size_t};

use super::jumps::Head;
use super::parking::{at_once, in_turn, parking};
use super::{EOF, stdout};
use crate::hook::futex::pthread::file_lock::{note, try_lock, unlock};
use crate::hook::libc::hook;
use crate::hook::libc::next::next_definition;
use crate::hook::wait::backoff::Backoff;
use crate::hook::wait::call::may_park;
use crate::sched::CurrentTask;
use crate::sys::syscall::set_errno;

unsafe extern "C" {
    fn __fpending(file: *mut FILE) -> size_t;
}

macro_rules! flushed {
    ($($name:ident by $how:ident;)*) => {
        $(hook!(
            next,
            Some(cx) = may_park(),
            unsafe extern "C" fn $name(file: *mut FILE) -> c_int {
                // SAFETY: the caller's file, or all.
                unsafe {
                    match FileList::of_libc() {
                        Some(list) if file.is_null() => list.flush(cx),
                        _ if file.is_null() => $name::next(file),
                        _ => $how(cx, file, || $name::next(file)),
                    }
                }
            }
        );)*
    };
}

flushed! {
    fflush by in_turn;
    fflush_unlocked by at_once;
}

/// Flushes the prompt that is to be seen before a file waits for input: libc does so
/// itself, but with a lock that it takes inside.
///
/// # Safety
///
/// - A valid file, which nobody else uses meanwhile.
pub(super) unsafe fn before_reading(cx: CurrentTask, file: *mut FILE) {
    // SAFETY: the caller's file, and libc's, whose lock is held then.
    unsafe {
        if (*file.cast::<Head>()).prompts() {
            in_turn(cx, stdout, || {
                if (*stdout.cast::<Head>()).is_line_buffered() {
                    fflush_unlocked::next(stdout);
                }
            });
        }
    }
}

/// libc's list of all `FILE`s, by the functions with which it can be walked.
struct FileList {
    lock: unsafe extern "C" fn(),
    unlock: unsafe extern "C" fn(),
    first: unsafe extern "C" fn() -> *const c_void,
    next: unsafe extern "C" fn(*const c_void) -> *const c_void,
    file: unsafe extern "C" fn(*const c_void) -> *mut FILE,
}

static FILES: OnceLock<Option<FileList>> = OnceLock::new();

/// What takes a lock of the dynamic linker's, which no hook may meet.
pub(super) fn look_up() {
    FILES.get_or_init(FileList::look_up);
}

impl FileList {
    fn of_libc() -> Option<&'static Self> {
        FILES.get()?.as_ref()
    }

    fn look_up() -> Option<Self> {
        let all = [
            c"_IO_list_lock",
            c"_IO_list_unlock",
            c"_IO_iter_begin",
            c"_IO_iter_next",
            c"_IO_iter_file",
        ];
        let all = all.map(next_definition);
        // SAFETY: libc's functions of these names have these types.
        (!all.iter().any(|one| one.is_null())).then(|| unsafe {
            Self {
                lock: transmute::<*mut c_void, unsafe extern "C" fn()>(all[0]),
                unlock: transmute::<*mut c_void, unsafe extern "C" fn()>(all[1]),
                first: transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_void>(all[2]),
                next: transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const c_void) -> *const c_void,
                >(all[3]),
                file: transmute::<*mut c_void, unsafe extern "C" fn(*const c_void) -> *mut FILE>(
                    all[4],
                ),
            }
        })
    }

    /// `fflush(NULL)`. libc waits for each file's lock with the list locked, which stops
    /// every thread that opens or closes one: among them the worker of the coroutine
    /// that holds the file's. So each is flushed by itself, with the list unlocked.
    fn flush(&self, cx: CurrentTask) -> c_int {
        let mut result = 0;
        let mut done = Vec::new();
        let mut backoff = Backoff::new();
        loop {
            match self.take_one(cx, &done) {
                Taken::Nothing => return result,
                Taken::Busy => {
                    if let Err(code) = backoff.pause(cx, None) {
                        set_errno(code);
                        return EOF;
                    }
                }
                Taken::File(file) => {
                    // SAFETY: its lock is held, so it is not closed meanwhile.
                    unsafe {
                        if parking(cx, file, || fflush_unlocked::next(file)) == EOF {
                            result = EOF;
                        }
                        unlock(file);
                    }
                    done.push(file);
                }
            }
        }
    }

    /// Locks one that has something to be written.
    fn take_one(&self, cx: CurrentTask, done: &[*mut FILE]) -> Taken {
        let mut taken = Taken::Nothing;
        // SAFETY: libc's list, which is locked, and the files on it, which stay there.
        unsafe {
            (self.lock)();
            let mut at = (self.first)();
            while !at.is_null() && !matches!(taken, Taken::File(_)) {
                let file = (self.file)(at);
                if __fpending(file) > 0 && !done.contains(&file) {
                    taken = match try_lock(cx, file) {
                        true => Taken::File(file),
                        false => Taken::Busy,
                    };
                }
                at = (self.next)(at);
            }
            (self.unlock)();
        }
        if let Taken::File(file) = taken {
            note(cx, file);
        }
        taken
    }
}

/// What was found to be written.
#[derive(Clone, Copy)]
enum Taken {
    Nothing,
    /// Others hold the locks.
    Busy,
    /// This, whose lock is ours now.
    File(*mut FILE),
}
