//! Symbol binding: whether a program's calls of libc reach the hooks.
//!
//! A probing call has an argument that no other call has. The hook that it
//! should arrive at notes it.

use std::ffi::c_int;
#[cfg(feature = "futex")]
use std::ffi::c_long;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::hook::libc::next;

/// A descriptor that is never open, for the probing `close`.
pub(crate) const PROBE_FD: c_int = c_int::MIN + 0x00c0_70e1;
pub(crate) static CLOSE: ProbeCall = ProbeCall(AtomicBool::new(false));

/// How many reasons there are to look at each `close`: probing calls that are under way,
/// and sockets that linger. Usually none, and then a `close` tests this word only.
static WATCHED: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
pub(crate) fn closes_are_watched() -> bool {
    WATCHED.load(Ordering::Relaxed) != 0
}

/// From here on each `close` is looked at.
pub(crate) fn watch_closes() {
    WATCHED.fetch_add(1, Ordering::Relaxed);
}

/// A number that no system call has, for the probing `syscall`.
#[cfg(feature = "futex")]
pub(crate) const PROBE_CALL: c_long = c_long::MIN + 0x00c0_70e1;
#[cfg(feature = "futex")]
pub(crate) static SYSCALL: ProbeCall = ProbeCall(AtomicBool::new(false));

/// Whether a probing call came to its hook.
pub(crate) struct ProbeCall(AtomicBool);

impl ProbeCall {
    #[cold]
    pub(crate) fn arrived(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_arrived(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether `syscall` is ours, where it should be.
#[cfg(feature = "futex")]
fn syscall_arrives() -> bool {
    // SAFETY: there is no such call.
    unsafe { libc::syscall(PROBE_CALL) };
    SYSCALL.has_arrived()
}

#[cfg(not(feature = "futex"))]
fn syscall_arrives() -> bool {
    true
}

/// Makes probing calls. `Err`: which of them went elsewhere, and a likely cause.
pub(crate) fn self_test() -> Result<(), &'static str> {
    watch_closes();
    // SAFETY: no pointers; the descriptor is not open.
    unsafe { libc::close(PROBE_FD) };
    WATCHED.fetch_sub(1, Ordering::Relaxed);
    // (An optimised build may call our `close` without the linker.)
    let reads = next::next_definition(c"read").addr() != (libc::read as *const ()).addr();
    if !CLOSE.has_arrived() || !reads {
        Err(
            "libc's `close` and `read` are called, not ours: a library that is loaded at run time \
             has to be linked with -Bsymbolic (its build script prints \
             `cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic`); in a program, is another library \
             loaded before it?",
        )
    } else if !syscall_arrives() {
        Err("libc's `syscall` was called, not ours: locks of std would block the thread")
    } else {
        Ok(())
    }
}
