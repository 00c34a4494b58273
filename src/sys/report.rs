//! Reports on standard error, past the hooks: a report is not a coroutine's write, and
//! is made where none may park.

use std::fmt;

use super::syscall::sys;

/// Writes all of `bytes`, or as much as it takes. Async-signal-safe.
pub(crate) fn write_stderr(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice's bytes, which are only read.
        match unsafe { sys!(SYS_write, libc::STDERR_FILENO, bytes.as_ptr(), bytes.len()) } {
            Err(libc::EINTR) => {}
            Ok(written @ 1..) => bytes = &bytes[written..],
            _ => return,
        }
    }
}

/// Writes a line, if standard error takes it: unlike `eprintln!`, which panics where
/// nobody reads.
pub(crate) fn report(message: fmt::Arguments<'_>) {
    write_stderr(format!("crore: {message}\n").as_bytes());
}

/// [`report`]s, and ends the process: going on would break memory.
#[cold]
pub(crate) fn die(message: fmt::Arguments<'_>) -> ! {
    report(message);
    std::process::abort()
}

/// Calls `f`, which must not unwind: others use what its caller has lent.
#[inline(always)]
pub(crate) fn abort_on_unwind<T>(what: &str, f: impl FnOnce() -> T) -> T {
    struct AbortOnUnwind<'a>(&'a str);
    impl Drop for AbortOnUnwind<'_> {
        fn drop(&mut self) {
            die(format_args!("{}; this is a bug in crore", self.0));
        }
    }
    let guard = AbortOnUnwind(what);
    let value = f();
    std::mem::forget(guard);
    value
}
