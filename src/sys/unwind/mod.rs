//! Whether an unwind could leave the code that runs, before one is begun.
//!
//! It can't pass a function that is compiled not to unwind, such as one in Rust that
//! C calls (`extern "C"`): there the process aborts. So the frames are walked up to
//! the next `catch_unwind`, and each one's table is read that says what an unwind
//! meets in it (the LSDA of the Itanium ABI: a list of ranges of code, each with the
//! code to go on at, its landing pad, and what that does).
//!
//! In a function that does not unwind each call has a landing pad: one that no
//! search goes past, or, if there is something to drop first, one after which the
//! process aborts. Such a function leaves no way out: it has no call without a landing
//! pad, as the one that resumes an unwind is.
//!
//! What reaches the root of a generator's body is caught there, and goes on where the
//! generator was resumed ([`catch_at_root`]). So the walk goes on there, too.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

mod memory;
mod modules;
mod registers;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod stepping;
mod stopped;
mod table;

pub(crate) use registers::RegisterSet;
pub(crate) use stopped::Unwinder;

use table::{CallTable, Meets};

#[repr(C)]
struct Context {
    _opaque: [u8; 0],
}

type Visit = extern "C" fn(*mut Context, *mut c_void) -> c_int;

const GO_ON: c_int = 0;
const STOP: c_int = 5;

// Of the unwinder that std brings along.
unsafe extern "C" {
    fn _Unwind_Backtrace(visit: Visit, argument: *mut c_void) -> c_int;
    fn _Unwind_GetCFA(context: *mut Context) -> usize;
    fn _Unwind_GetIPInfo(context: *mut Context, before: *mut c_int) -> usize;
    fn _Unwind_GetLanguageSpecificData(context: *mut Context) -> *const u8;
    fn _Unwind_GetRegionStart(context: *mut Context) -> usize;
}

/// Calls `f` as the outermost of a stack's frames that an unwind leaves: who is given what
/// it catches goes on with that on another stack.
#[inline(never)]
pub(crate) fn catch_at_root(f: &mut dyn FnMut()) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Gives the addresses of the calls that lead here, the innermost first, and where each
/// frame is, as long as `next` says.
pub(crate) fn walk<F: FnMut(usize, usize) -> bool>(mut next: F) {
    extern "C" fn visit<F: FnMut(usize, usize) -> bool>(
        context: *mut Context,
        next: *mut c_void,
    ) -> c_int {
        let mut interrupted = 0;
        // SAFETY: the unwinder's context; the place that is given below.
        let (ip, frame, next) = unsafe {
            let ip = _Unwind_GetIPInfo(context, &raw mut interrupted);
            (ip, _Unwind_GetCFA(context), &mut *next.cast::<F>())
        };
        // Only what was interrupted goes on at the very address.
        let call = ip.wrapping_sub(usize::from(interrupted == 0));
        if ip != 0 && next(call, frame) {
            GO_ON
        } else {
            STOP
        }
    }
    // SAFETY: `visit` is for this place, which outlives the call.
    unsafe { _Unwind_Backtrace(visit::<F>, (&raw mut next).cast()) };
}

/// Whether an unwind that begins here is caught, and does not abort before.
#[cold]
#[inline(never)]
pub(crate) fn is_caught() -> bool {
    let mut walk = Walk {
        catches: 0,
        since: 0,
        at: At::Call,
    };
    // SAFETY: `visit` is for this place, which outlives the call.
    unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    // Where the walk ends at a root (a sanitizer's does) nothing is known of what is behind.
    walk.catches > 0 || walk.at == At::Root
}

/// Whether this runs in what an unwind drops, up to the root of a body: another would abort.
#[cold]
#[inline(never)]
pub(crate) fn is_in_cleanup() -> bool {
    extern "C" fn visit(context: *mut Context, found: *mut c_void) -> c_int {
        // SAFETY: the unwinder's context; the place that is given below.
        let (frame, found) = unsafe { (SeenFrame::of(context), &mut *found.cast::<bool>()) };
        let meets = frame.table.and_then(|table| table.here);
        *found = meets == Some(Meets::Cleanup);
        if *found || frame.is_root { STOP } else { GO_ON }
    }
    let mut found = false;
    // SAFETY: `visit` is for this place, which outlives the call.
    unsafe { _Unwind_Backtrace(visit, (&raw mut found).cast()) };
    found
}

/// What has been seen from the innermost frame on.
struct Walk {
    catches: u32,
    /// Frames since the first of them.
    since: u32,
    at: At,
}

/// How a frame has called the one that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Call,
    /// It is below a body's root, at the beginning of its stack.
    Root,
    /// By a switch to another stack, which is no call: the unwind goes on elsewhere in this
    /// function, so that its whole table counts.
    Switch,
}

/// So many frames lie between `catch_at_root` and what catches in there, at the most.
const FRAMES_OF_CATCH: u32 = 8;

/// A frame: whether to look at the next.
extern "C" fn visit(context: *mut Context, walk: *mut c_void) -> c_int {
    // SAFETY: the unwinder's context; the place that `is_caught` gave.
    let (frame, walk) = unsafe { (SeenFrame::of(context), &mut *walk.cast::<Walk>()) };
    walk.go_on(&frame)
}

impl Walk {
    fn go_on(&mut self, frame: &SeenFrame) -> c_int {
        if self.at == At::Root {
            // What a stack begins with is described as a signal's frame.
            if !frame.is_interrupted {
                return GO_ON;
            }
            self.at = At::Switch;
        }
        match self.meets(frame) {
            Meets::Catch => self.catches += 1,
            Meets::Nothing => {}
            Meets::Cleanup | Meets::Abort => return STOP,
        }
        self.since += u32::from(self.catches > 0);
        if self.catches > 1 || self.since > FRAMES_OF_CATCH {
            return STOP;
        }
        if frame.is_root {
            // The catch was the root's.
            (self.catches, self.since, self.at) = (0, 0, At::Root);
        }
        GO_ON
    }

    fn meets(&mut self, frame: &SeenFrame) -> Meets {
        match frame.table {
            None => Meets::Nothing,
            Some(CallTable { here: None, whole }) if self.at == At::Switch => whole,
            Some(CallTable { here, .. }) => {
                self.at = At::Call;
                here.unwrap_or(Meets::Abort)
            }
        }
    }
}

struct SeenFrame {
    /// `None`: it has nothing to drop or to catch.
    table: Option<CallTable>,
    is_root: bool,
    is_interrupted: bool,
}

impl SeenFrame {
    /// # Safety
    ///
    /// - The unwinder's context.
    unsafe fn of(context: *mut Context) -> Self {
        let mut interrupted = 0;
        // SAFETY: the caller's context. A table that the compiler made is read to its
        // end, as the unwinder does.
        unsafe {
            let ip = _Unwind_GetIPInfo(context, &raw mut interrupted);
            let begin = _Unwind_GetRegionStart(context);
            // The address of a call is behind it.
            let at = ip - usize::from(interrupted == 0);
            let table = _Unwind_GetLanguageSpecificData(context);
            Self {
                table: (!table.is_null()).then(|| CallTable::read(table, at.wrapping_sub(begin))),
                is_root: begin == catch_at_root as *const () as usize,
                is_interrupted: interrupted != 0,
            }
        }
    }
}

#[cfg(all(test, panic = "unwind"))]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::panic::catch_unwind;

    thread_local!(static SEEN: std::cell::Cell<Option<bool>> = const { std::cell::Cell::new(None) });

    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            black_box(());
        }
    }

    /// May unwind, as far as the compiler knows.
    #[inline(never)]
    fn look() {
        SEEN.set(Some(is_caught()));
        assert!(black_box(true));
    }

    #[inline(never)]
    fn with_something_to_drop() {
        let _dropped = Dropped;
        look();
    }

    extern "C" fn plain(_: *const c_void, _: *const c_void) -> c_int {
        look();
        0
    }
    extern "C" fn dropping(_: *const c_void, _: *const c_void) -> c_int {
        let _dropped = Dropped;
        look();
        with_something_to_drop();
        0
    }
    extern "C" fn deep(_: *const c_void, _: *const c_void) -> c_int {
        with_something_to_drop();
        1
    }
    extern "C" fn catching(_: *const c_void, _: *const c_void) -> c_int {
        let _dropped = Dropped;
        c_int::from(catch_unwind(with_something_to_drop).is_err())
    }
    extern "C-unwind" fn unwinding(_: *const c_void, _: *const c_void) -> c_int {
        let _dropped = Dropped;
        look();
        1
    }

    type Compare = extern "C" fn(*const c_void, *const c_void) -> c_int;

    fn seen(run: impl FnOnce()) -> bool {
        SEEN.set(None);
        run();
        SEEN.take().expect("it has looked")
    }

    /// Calls it from C.
    fn below_c(compare: Compare) -> bool {
        let mut two = [1, 2];
        seen(|| {
            let _dropped = Dropped;
            // SAFETY: two numbers.
            unsafe { libc::qsort(two.as_mut_ptr().cast(), 2, 4, Some(compare)) }
        })
    }

    #[test]
    #[cfg_attr(
        feature = "sanitizer",
        ignore = "functions that are instrumented have landing pads of their own"
    )]
    fn functions_that_c_calls_are_met() {
        assert!(seen(look) && seen(with_something_to_drop));
        assert!(!below_c(plain));
        assert!(!below_c(dropping));
        assert!(!below_c(deep));
        assert!(below_c(catching));
        // SAFETY: C-unwind functions are called as C's are.
        assert!(below_c(unsafe {
            std::mem::transmute::<extern "C-unwind" fn(_, _) -> _, Compare>(
                unwinding as extern "C-unwind" fn(_, _) -> _,
            )
        }));
    }
}
