//! Hooks: blocking calls of libc that park the coroutine instead of the thread.
//!
//! With the feature `hook` (on by default) this crate defines libc's blocking
//! functions itself. Outside a coroutine each goes straight on to libc. Inside
//! one it does what libc documents, but only the coroutine waits: `std::net`,
//! `std::os::unix::net`, `std::io::pipe`, `std::thread::sleep`, other crates
//! and C libraries work as they are. Nothing to call, nothing to import:
//!
//! ```
//! use std::io::{Read, Write};
//! # #[cfg(not(feature = "hook"))]
//! # fn main() {}
//! # #[cfg(feature = "hook")]
//! # fn main() -> std::io::Result<()> {
//! crore::run(|| {
//!     let (mut here, mut there) = std::os::unix::net::UnixStream::pair()?;
//!     let other = crore::spawn(move || there.write_all(b"hi"));
//!     let mut two = [0; 2];
//!     here.read_exact(&mut two)?; // parks; the other coroutine runs
//!     assert_eq!(&two, b"hi");
//!     other.join().unwrap()
//! })?
//! # }
//! ```
//!
//! [`calls`] says what happens to which call.
//!
//! A descriptor that the user made non-blocking gets its `EAGAIN`, so do calls
//! with `MSG_DONTWAIT`; `SO_RCVTIMEO` and `SO_SNDTIMEO` hold; the user's flags
//! are not changed, but for the one system call of a `connect`, and for shared
//! listeners. A cancelled coroutine gets `ECANCELED`, but not from files (what
//! is cancelled may still save its data) nor from `pthread_join`, nor from what event
//! loops call (`epoll_wait`, `poll`, and all that never waits): there connections
//! break, and all else goes on ([`guide::cancellation`](crate::guide::cancellation)).
//! Sleeps return early; look-ups say `EAI_AGAIN`.
//!
//! # Helper threads
//!
//! They belong to [`crate::blocking`]. A helper works on the caller's memory
//! (on a copy of what lies on a shared stack) while the coroutine waits for its end. It
//! never waits for another coroutine, thread or process, so the bounded pool can't be
//! used up by jobs that wait for each other. A descriptor that is closed before its
//! turn comes is `EBADF`. Calls that wait inside of libc for another process or device
//! (`system`) have further threads, without a bound.
//!
//! # Listeners of several threads
//!
//! Between our `poll` and the `accept` another thread may take the connection.
//! A listener from which coroutines accept, and which other threads use too or
//! which has a duplicate (`try_clone`), is made non-blocking; `fcntl(F_GETFL)`
//! does not show it, and plain threads' `accept` waits as ever. Another program
//! that inherits such a listener sees the flag. Processes that share a listener
//! by `fork` had better make it non-blocking, or use `SO_REUSEPORT`.
//!
//! # Fork
//!
//! A forked child is a plain process: its calls block, its parent's reactor
//! and coroutines are out of reach, and it may start a runtime of its own. It
//! ends when the coroutine that forked ends in it.
//!
//! # Limits
//!
//! - `MSG_WAITALL` together with `MSG_PEEK`, or with room for control data,
//!   returns what is there; so does a socket with `SO_RCVLOWAIT`.
//! - A Unix socket of messages whose peer's queue is full is tried again every
//!   millisecond: the kernel tells of room in it only at times.
//! - A FIFO or a terminal, or a pipe before Linux 6.4, is opened once more by way of
//!   `/proc` for each call, as inotify sees. Where it can't be (no permission, no `/proc`,
//!   the master of a pseudoterminal), writes are made in pieces for which there is room,
//!   unless another thread takes it in this moment: then the worker waits.
//! - A coroutine that waits in an epoll of its program's does not hear of changes that
//!   the kernel reports only once (of `/proc/self/mounts`): the report goes to our own
//!   look at that epoll. In `poll` and `select` it hears of them.
//! - Flags that are changed behind libc's back, or by another process, are
//!   noticed at the next event, not at once.
//! - A signal handler that runs while a coroutine does must not wait: its calls are
//!   those of a thread, and block it with all its coroutines.
//! - A signal does not interrupt a parked call: only waits for handlers (`pause`,
//!   `sigsuspend`) and those with a mask fail with `EINTR` (`ppoll`, `pselect`,
//!   `epoll_pwait`), and those of [threads](crate::RuntimeBuilder::threads_as_coroutines)
//!   that it is for.
//! - A handler that jumps (`siglongjmp`) back into the coroutine that it has interrupted
//!   leaves what crore was about on its behalf: not where it has interrupted crore's own
//!   code, nor out of a parked call.
//! - Pointers that lead nowhere may crash where libc says `EFAULT`; null does not.
//! - [`guide::locks`](crate::guide::locks) says which locks park a coroutine, which
//!   block its thread, and which are one per thread. Without the feature `futex` all
//!   block the thread.
//!
//! # What is not reached
//!
//! Calls that don't go through libc's symbols: inline system calls (rustix's
//! default backend, Go), io_uring, libc's own internals (`perror`, the resolver). [`unhooked`] keeps a piece of code out on purpose, and
//! [`crate::io`] serves programs that are built without the feature.
//!
//! Others that stand in for libc's functions, by `LD_PRELOAD`: calls of plain threads go
//! through them, those of coroutines past them, to the kernel. The first runtime says so
//! on stderr. Clocks may be others' (libfaketime): waits go by what the program sees.
//!
//! A library that is loaded at run time (`dlopen`: a plug-in, a module of Python) finds
//! libc's symbols before its own. It is linked with `-Bsymbolic`, by one line in its
//! build script, or [building a runtime](crate::RuntimeBuilder::build) in it is an error
//! that says so:
//!
//! ```text
//! println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
//! ```
//!
//! Its hooks are for the code that is linked into it. It stays loaded after a `dlclose`,
//! once it has built a runtime.

#[cfg(feature = "hook")]
mod fd;
#[cfg(feature = "hook")]
mod files;
#[cfg(feature = "futex")]
mod futex;
#[cfg(feature = "hook")]
mod interposed;
#[cfg(feature = "hook")]
mod libc;
#[cfg(feature = "hook")]
mod net;
#[cfg(feature = "hook")]
mod poll;
#[cfg(feature = "hook")]
mod process;
#[cfg(feature = "sim")]
mod simulated;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
mod stdio;
mod table;
#[cfg(all(
    feature = "futex",
    target_env = "gnu",
    not(target_feature = "crt-static")
))]
mod threads;
#[cfg(feature = "hook")]
mod wait;

use std::fmt;
#[cfg(feature = "hook")]
use std::sync::atomic::{AtomicBool, Ordering};

pub use table::calls;

// Hooks are `extern "C"` functions: a panic inside one aborts, it never
// unwinds into code that was compiled not to expect it. (`pthread_once` calls a
// function of its caller's, whose exceptions pass.) None of them takes a
// lock of std, which would come back through a hook.

/// Whether the hooks work in this program.
///
/// ```
/// use crore::hook::Status;
/// match crore::hook::status() {
///     Status::Active => println!("std::net parks coroutines"),
///     other => println!("{other}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Blocking calls in coroutines park them.
    Active,
    /// Built without the feature `hook`.
    NotCompiled,
    /// Built with it, but calls go elsewhere.
    NotBound {
        /// The call that was found to go elsewhere.
        why: &'static str,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("hooks are active"),
            Self::NotCompiled => {
                f.write_str("hooks are not active: built without the feature `hook`")
            }
            Self::NotBound { why } => write!(f, "hooks are not active: {why}"),
        }
    }
}

/// True if blocking calls in coroutines park them.
///
/// ```
/// assert_eq!(crore::hook::enabled(), cfg!(feature = "hook"));
/// ```
pub fn enabled() -> bool {
    status() == Status::Active
}

/// Finds out whether calls of libc arrive at the hooks, by looking at where
/// they are bound and by making one.
///
/// ```
/// println!("{}", crore::hook::status());
/// ```
pub fn status() -> Status {
    #[cfg(not(feature = "hook"))]
    return Status::NotCompiled;
    #[cfg(feature = "hook")]
    match libc::bound::self_test() {
        Ok(()) => Status::Active,
        Err(why) => Status::NotBound { why },
    }
}

/// Runs `f` with libc's own calls: they block the thread, and every coroutine
/// on it. May be nested, and put around code that panics.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// crore::run(|| {
///     let text = crore::hook::unhooked(|| std::fs::read_to_string("/proc/self/comm"));
///     assert!(text.is_ok());
/// })
/// # }
/// ```
pub fn unhooked<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            crate::task::set_unhooked(self.0);
        }
    }
    let _restore = Restore(crate::task::set_unhooked(true));
    f()
}

/// Says once what stands between the hooks and libc, or the clock.
#[cfg(feature = "hook")]
pub(crate) fn report_interposers() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        interposed::report();
    }
}

/// For the command `crore run`: what it knows a thread's start routine by.
#[doc(hidden)]
pub fn __start_routine_name(start: *const std::ffi::c_void) -> String {
    crate::sys::start_routine::name(start)
}

/// For the command `crore run`, which calls a program's `main` so.
///
/// # Safety
///
/// - In a coroutine; `start` may be called with `arg`, and runs to its end before this
///   returns.
///
/// # Errors
///
/// `Unsupported` where threads are no coroutines; no memory.
#[doc(hidden)]
pub unsafe fn __run_main_thread(
    start: unsafe extern "C-unwind" fn(*mut std::ffi::c_void) -> *mut std::ffi::c_void,
    arg: *mut std::ffi::c_void,
    stack: usize,
) -> std::io::Result<()> {
    #[cfg(all(
        feature = "futex",
        target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    // SAFETY: forwarded.
    return unsafe { threads::create::run_main_thread(start, arg, stack) };
    #[cfg(not(all(
        feature = "futex",
        target_env = "gnu",
        not(target_feature = "crt-static")
    )))]
    {
        let _ = (start, arg, stack);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// These coroutines, in order, were forgotten while they may have waited for locks.
#[cfg(feature = "sim")]
pub(crate) fn forget_waiters(gone: &[crate::task::Addr]) {
    futex::forget(gone);
}

/// What the tables of hooks hold, by table: see `runtime/left_over.rs`.
#[cfg(feature = "hook")]
pub(crate) fn left_over() -> Vec<(&'static str, usize)> {
    [
        vec![("locked file positions", files::position_lock::held())],
        #[cfg(feature = "futex")]
        futex::left_over(),
        #[cfg(all(
            feature = "futex",
            target_env = "gnu",
            not(target_feature = "crt-static")
        ))]
        threads::left_over().into(),
    ]
    .concat()
}

/// A thread becomes a worker.
pub(crate) fn worker_begins() {
    #[cfg(feature = "futex")]
    futex::thread_begins();
    #[cfg(all(
        feature = "futex",
        target_env = "gnu",
        not(target_feature = "crt-static")
    ))]
    stdio::worker_begins();
}
