//! Signals as arrivals: a handler that notes them, a thread that hears of it.
//!
//! The handler sets a bit and writes to an eventfd, both allowed in handlers;
//! then it does what the action before it would have done, unless that was the
//! default. What the arrival means is decided by whoever reads, on a thread of
//! its own, where everything is allowed.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::signal::{Action, Info, keep_errno};

/// Signals are 1 to 64.
const SIGNALS: usize = 64;

/// One bit for each signal that has arrived and was not read.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// Written by the handler, read by one thread.
static BELL: OnceLock<OwnedFd> = OnceLock::new();
/// What each signal did before.
static BEFORE: [OnceLock<Action>; SIGNALS + 1] = [const { OnceLock::new() }; SIGNALS + 1];

/// The set with this signal alone.
pub(crate) fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Makes the bell, unless it is there. One caller at a time.
///
/// # Errors
///
/// No descriptor is left.
pub(crate) fn prepare() -> io::Result<()> {
    if BELL.get().is_some() {
        return Ok(());
    }
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let _ = BELL.set(fd);
    Ok(())
}

/// From now on arrivals of `signal` are noted; after [`prepare`]. One caller
/// at a time.
///
/// # Errors
///
/// `InvalidInput` for what is no signal, can't be caught, or is a fault.
pub(crate) fn note(signal: c_int) -> io::Result<()> {
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
    ];
    let known = usize::try_from(signal).is_ok_and(|n| (1..=SIGNALS).contains(&n));
    if !known || faults.contains(&signal) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("signal {signal} can't be waited for"),
        ));
    }
    let before = &BEFORE[signal as usize];
    if before.get().is_some() {
        return Ok(());
    }
    let action = Action::of(signal)?;
    let ours = action.restarting(arrived);
    let _ = before.set(action);
    // SAFETY: `arrived` does only what a handler may, and is there for ever.
    unsafe { ours.install(signal) }
}

/// Waits for arrivals and takes them. Blocks the thread, not for a coroutine.
pub(crate) fn next() -> u64 {
    let bell = BELL.get().expect("`prepare` came first").as_raw_fd();
    let mut count = 0_u64;
    // Not libc's `read`, which is hooked.
    // SAFETY: a live place of eight bytes.
    unsafe { libc::syscall(libc::SYS_read, bell, &raw mut count, size_of::<u64>()) };
    ARRIVED.swap(0, Ordering::Acquire)
}

unsafe extern "C" fn arrived(signal: c_int, info: *mut Info, context: *mut c_void) {
    keep_errno(|| {
        ARRIVED.fetch_or(bit(signal), Ordering::Release);
        if let Some(bell) = BELL.get() {
            let one = 1_u64;
            // Not libc's `write`, which is hooked.
            // SAFETY: a live value of eight bytes.
            unsafe {
                libc::syscall(
                    libc::SYS_write,
                    bell.as_raw_fd(),
                    &raw const one,
                    size_of::<u64>(),
                )
            };
        }
    });
    let before = BEFORE[signal as usize].get();
    if let Some(action) = before.filter(|action| action.is_handler()) {
        // SAFETY: the kernel's own arguments; it was installed before ours.
        unsafe { action.hand_on(signal, info, context) };
    }
}
