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
//! # What happens to which call, inside a coroutine
//!
//! | calls | what happens |
//! |---|---|
//! | `recv recvfrom recvmsg send sendto sendmsg` | tried with `MSG_DONTWAIT`; parks on `EAGAIN`; a send returns when all is taken |
//! | `recvmmsg sendmmsg` | the same, in batches |
//! | `read readv write writev` | tried with `RWF_NOWAIT`, or after `poll` where that does not work |
//! | the same on a regular file | reads what is in memory at once, a helper thread reads the rest, with no other coroutine's read in between; writes go to the page cache at once, each by one call |
//! | `write writev` on stdout and stderr | block the thread, whose `println!` holds a lock meanwhile; with own thread-locals as any other |
//! | `pread pwrite preadv pwritev preadv2 pwritev2` | tried with `RWF_NOWAIT`, else a helper thread by way of a buffer of its own; on file systems without that, direct |
//! | `fsync fdatasync syncfs` | helper thread |
//! | `open openat creat` | a FIFO without its other end is tried again up to every 10 ms; everything else is direct |
//! | `flock lockf fcntl(F_SETLKW)` | tried without waiting, again up to every 10 ms; nobody gets `EDEADLK` |
//! | `copy_file_range` | helper thread |
//! | `sendfile` | between files a helper thread; to a socket or pipe by way of a buffer of 64 KiB |
//! | `splice` | into a pipe, or from a pipe to a file, without waiting once both are ready; from a pipe to a socket by way of a buffer |
//! | `accept accept4` | `poll`, then the call; parks when nobody is there; see below for listeners of several threads |
//! | `connect` | non-blocking for this one call, parks until settled; a full Unix backlog is tried again up to every 10 ms |
//! | `poll ppoll __poll select pselect` | asked without waiting, then parks on all; urgent data or errors only are asked for again every 5 ms, so are signals that a mask lets in; a mask does not hold while parked |
//! | `epoll_wait epoll_pwait epoll_pwait2` | asked without waiting, then parks until the epoll itself is readable: another runtime inside a coroutine |
//! | `nanosleep clock_nanosleep usleep sleep thrd_sleep` | a timer; other clocks than realtime, monotonic and boottime block the thread |
//! | `sched_yield thrd_yield` | yields to other coroutines |
//! | `getaddrinfo getnameinfo gethostby{name,name2,addr}[_r] getpw{nam,uid}[_r] getgr{nam,gid}[_r]` | helper thread; not in statically linked programs |
//! | `waitpid wait4 waitid` for one child | parks on a pidfd |
//! | the same for any child, a group, or stops; `wait wait3` | asked again up to every 10 ms |
//! | `pthread_join pthread_timedjoin_np pthread_clockjoin_np thrd_join` | asked again up to every 10 ms; not in statically linked programs |
//! | `close close_range closefrom dup2 dup3` | wake those who wait on the number with `EBADF` first |
//! | `pthread_getattr_np`, `pthread_{get,set}affinity_np`, `pthread_{get,set}schedparam`, `pthread_setschedprio pthread_getcpuclockid pthread_sigqueue set*uid set*gid setgroups initgroups` | as libc; from a coroutine with its own thread-locals, with its thread's number, or as its thread |
//! | `socket socketpair pipe pipe2 dup fcntl ioctl setsockopt` | as libc; noted where a number begins or its flags change |
//! | `vfork` | `fork` |
//! | `__read_chk __pread_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk __open_2 __openat_2` | the checks of `_FORTIFY_SOURCE`, then as above |
//! | `shutdown listen bind fork posix_spawn exec*` | libc's own: they don't wait; `shutdown` wakes who waits on the socket |
//! | `syscall(SYS_futex)`: locks of std and others | parks in a table by address; no cancellation ends it |
//! | `pthread_mutex_* pthread_cond_* pthread_rwlock_* sem_* pthread_once mtx_* cnd_* call_once` | the same; not in statically linked programs |
//! | `pthread_barrier_*` | the same, unless shared between processes: then they block the thread |
//! | other `syscall`s | as libc |
//! | `sigwait* pause sigsuspend mq_* msgrcv msgsnd semop tee vmsplice pthread_spin_lock` | libc's own: they block the thread |
//!
//! A descriptor that the user made non-blocking gets its `EAGAIN`, so do calls
//! with `MSG_DONTWAIT`; `SO_RCVTIMEO` and `SO_SNDTIMEO` hold; the user's flags
//! are not changed, but for the one system call of a `connect`, and for shared
//! listeners. A cancelled coroutine gets `ECANCELED`, but not from files (what
//! is cancelled may still save its data) nor from `pthread_join`; sleeps
//! return early; look-ups say `EAI_AGAIN`.
//!
//! # Helper threads
//!
//! They belong to [`crate::blocking`]. A helper works on memory of its own and
//! never waits for another user of the process, so the bounded pool can't be
//! used up by those who wait for each other.
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
//! - Flags that are changed behind libc's back, or by another process, are
//!   noticed at the next event, not at once.
//! - A signal handler that runs while a coroutine does must not block. On a
//!   signal stack its calls don't wait (`EDEADLK`); elsewhere it would be
//!   suspended, with its signals blocked for all coroutines of the thread.
//! - A signal does not interrupt a parked call: nobody gets `EINTR`, but who
//!   waits with a mask (`ppoll`, `pselect`, `epoll_pwait`).
//! - Pointers that lead nowhere may crash where libc says `EFAULT`; null does not.
//! - [`guide::locks`](crate::guide::locks) says which locks park a coroutine, which
//!   block its thread, and which are one per thread. Without the feature `futex` all
//!   block the thread.
//!
//! # What is not reached
//!
//! Calls that don't go through libc's symbols: inline system calls (rustix's
//! default backend, Go), io_uring, libc's own internals (`FILE`s, the
//! resolver). [`unhooked`] keeps a piece of code out on purpose, and
//! [`crate::io`] serves programs that are built without the feature.

#[cfg(feature = "hook")]
mod fd;
#[cfg(feature = "hook")]
mod files;
#[cfg(feature = "futex")]
mod futex;
#[cfg(feature = "hook")]
mod libc;
#[cfg(feature = "hook")]
mod net;
#[cfg(feature = "hook")]
mod poll;
#[cfg(feature = "hook")]
mod process;
#[cfg(feature = "hook")]
mod wait;

use std::fmt;

use crate::sched;

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
    self_test()
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
            sched::set_unhooked(self.0);
        }
    }
    let _restore = Restore(sched::set_unhooked(true));
    f()
}

#[cfg(feature = "hook")]
mod self_test {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Status;

    /// A descriptor that nobody can have, for the probing `close`.
    pub(super) const PROBE: libc::c_int = libc::c_int::MIN + 0x00c0_70e1;

    /// Whether a probing call came to us.
    pub(super) struct Probe(AtomicBool);

    impl Probe {
        #[cold]
        pub(super) fn arrived(&self) {
            self.0.store(true, Ordering::Relaxed);
        }

        fn has_arrived(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    pub(super) static CLOSE: Probe = Probe(AtomicBool::new(false));
    #[cfg(feature = "futex")]
    pub(super) static SYSCALL: Probe = Probe(AtomicBool::new(false));

    /// Whether `syscall` is ours, where it should be.
    #[cfg(feature = "futex")]
    fn syscall_arrives() -> bool {
        // SAFETY: there is no such call.
        unsafe { libc::syscall(super::futex::PROBE) };
        SYSCALL.has_arrived()
    }

    #[cfg(not(feature = "futex"))]
    fn syscall_arrives() -> bool {
        true
    }

    pub(super) fn self_test() -> Status {
        // SAFETY: no pointers; the descriptor is not open.
        unsafe { libc::close(PROBE) };
        let why = if !CLOSE.has_arrived() {
            "libc's `close` was called, not ours: is crore linked in dynamically?"
        } else if super::libc::next::next_definition(c"read").addr()
            == (libc::read as *const ()).addr()
        {
            "`read` is bound to libc: is another library loaded before this program?"
        } else if !syscall_arrives() {
            "libc's `syscall` was called, not ours: locks of std would block the thread"
        } else {
            return Status::Active;
        };
        Status::NotBound { why }
    }
}
#[cfg(feature = "hook")]
use self_test::{PROBE, self_test};

/// A thread becomes a worker.
pub(crate) fn worker_begins() {
    #[cfg(feature = "futex")]
    futex::thread_begins();
}
