//! Signal relay: a handler that notes signals, and a thread that is told of them
//! (the self-pipe trick, with an eventfd).
//!
//! The handler sets a bit and writes to the eventfd, both allowed in handlers;
//! then it does what the action before it would have done, unless that was the
//! default. What the signal means is decided by the thread that waits, where
//! everything is allowed.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fd::EventFd;
use super::signal::{Action, Info};

/// Signals are 1 to 64.
const SIGNALS: usize = 64;

/// One bit for each signal that has arrived and was not read.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// Written by the handler; one thread waits at it.
static NOTIFIER: OnceLock<EventFd> = OnceLock::new();
/// What each signal did before.
static BEFORE: [OnceLock<Action>; SIGNALS + 1] = [const { OnceLock::new() }; SIGNALS + 1];

/// The set with this signal alone.
pub(crate) fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Makes the eventfd, unless it is there. One caller at a time.
///
/// # Errors
///
/// No descriptor is left.
pub(crate) fn prepare() -> io::Result<()> {
    if NOTIFIER.get().is_none() {
        let _ = NOTIFIER.set(EventFd::new()?);
    }
    Ok(())
}

/// From now on `signal` is relayed; after [`prepare`]. One caller at a time.
///
/// # Errors
///
/// `InvalidInput` for what is no signal, can't be caught, or is a fault.
pub(crate) fn relay(signal: c_int) -> io::Result<()> {
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

/// Waits for signals and takes them. Blocks the thread, not for a coroutine.
pub(crate) fn take() -> u64 {
    NOTIFIER.get().expect("`prepare` came first").wait();
    ARRIVED.swap(0, Ordering::Acquire)
}

unsafe extern "C" fn arrived(signal: c_int, info: *mut Info, context: *mut c_void) {
    ARRIVED.fetch_or(bit(signal), Ordering::Release);
    if let Some(notifier) = NOTIFIER.get() {
        notifier.signal();
    }
    let before = BEFORE[signal as usize].get();
    if let Some(action) = before.filter(|action| action.is_handler()) {
        // SAFETY: the kernel's own arguments; it was installed before ours.
        unsafe { action.hand_on(signal, info, context) };
    }
}
